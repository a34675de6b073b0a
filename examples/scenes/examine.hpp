#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "duet/pipeline/pipeline.hpp"
#include "truth.hpp"

/// Lets a model caption a scene and answer its questions.

struct Answer {
  std::string text;
  duet::Index prompt_tokens = 0, image_tokens = 0, memory_rows = 0, new_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
};

/// What a model said about one scene.
struct Sitting {
  double image_ms = 0;
  Answer caption;
  std::vector<Answer> answers;  ///< one for each question
};

template <class Work>
double milliseconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// How many tokens an answer may have: what the checkpoint says, as far as the context has room behind the prompt.
inline duet::Index longest_answer(const duet::Pipeline& pipeline, duet::Index max_length, duet::Index prompt_tokens) {
  constexpr duet::Index kLongest = 64;  // where the checkpoint does not say
  return std::min(max_length - prompt_tokens + 1, pipeline.defaults().max_new_tokens.value_or(kLongest));
}

/// One thread's side of an examination: a session and the scratch memory of the encoder.
class Examiner {
 public:
  explicit Examiner(const duet::Pipeline& pipeline)
      : pipeline_(&pipeline), session_(pipeline.model().start({})), workspace_(pipeline.model().compute()) {}

  [[nodiscard]] Sitting examine(const Scene& scene, const std::filesystem::path& folder) {
    const duet::Image picture = duet::Image::open(folder / scene.file);
    const std::vector<duet::PicturePlan> plans = pipeline_->prompts().plans({&picture, 1});
    Sitting sitting;
    duet::ImageRows rows;
    sitting.image_ms = milliseconds([&] { rows = pipeline_->model().encode(pipeline_->prompts().preprocess({&picture, 1}), workspace_); });
    sitting.caption = ask(std::nullopt, plans, rows);
    for (const Question& question : scene.questions) sitting.answers.push_back(ask(question.text, plans, rows));
    return sitting;
  }

 private:
  /// Without a question the picture is captioned.
  Answer ask(std::optional<std::string_view> question, std::span<const duet::PicturePlan> plans, const duet::ImageRows& rows) {
    const std::vector<duet::TokenId> ids = pipeline_->prompts().encode_turn(question, plans, duet::PromptEncoder::Turn::kFirst);
    const duet::Prompt prompt = pipeline_->make_prompt(ids, plans, {}, rows.rows.rows());
    duet::Sampler sampler = pipeline_->make_sampler({.temperature = 0.0f});
    for (const duet::TokenId id : ids) sampler.see(id);
    session_->clear();
    std::span<const float> logits;
    Answer answer;
    answer.prompt_tokens = prompt.size();
    answer.image_tokens = static_cast<duet::Index>(prompt.image_rows.size());
    answer.prefill_ms = milliseconds([&] { logits = session_->prefill(prompt, rows); });
    answer.memory_rows = session_->num_image_rows();
    const duet::Index longest = longest_answer(*pipeline_, session_->max_length(), session_->length());
    duet::Reply reply;
    answer.decode_ms = milliseconds([&] {
      reply = duet::generate(*session_, logits, sampler, longest, pipeline_->defaults().eos_token_ids, pipeline_->tokenizer(), {}, {});
    });
    answer.new_tokens = static_cast<duet::Index>(reply.ids.size());
    answer.text = reply.text.starts_with(' ') ? reply.text.substr(1) : reply.text;  // the space belongs to the prompt
    return answer;
  }

  const duet::Pipeline* pipeline_;
  std::unique_ptr<duet::AnySession> session_;
  duet::Workspace workspace_;
};
