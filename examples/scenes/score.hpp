#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "examine.hpp"
#include "truth.hpp"

/// How often a model was right.

inline constexpr const char* kCaption = "caption";  ///< what is asked beside the types of questions
inline constexpr const char* kAnswers = "answers";  ///< all questions together

struct Score {
  std::size_t right = 0, asked = 0;
  [[nodiscard]] double share() const { return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked); }
};

using Scores = std::map<std::string, Score>;  ///< by what was asked

struct Wrong {
  std::size_t scene;
  std::string type, question, expected, given;
};

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

struct Report {
  std::string name, fusion;
  duet::Index parameters = 0, image_tokens = 0, prompt_tokens = 0, image_bytes = 0;
  double image_ms = 0, prefill_ms = 0, tokens_per_second = 0;  ///< medians
  Scores scores, yes;  ///< yes: how often that was said
  std::vector<Wrong> wrong;
};

/// The types of question in the scenes, in their order there.
inline std::vector<std::string> types_of(const std::vector<Scene>& scenes) {
  std::vector<std::string> types;
  for (const Scene& scene : scenes) {
    for (const Question& question : scene.questions) {
      if (std::ranges::find(types, question.type) == types.end()) types.push_back(question.type);
    }
  }
  return types;
}

/// The truths of each type, counted. Every true caption of a scene counts as one.
inline std::map<std::string, std::map<std::string, std::size_t>> truths_of(const std::vector<Scene>& scenes) {
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  for (const Scene& scene : scenes) {
    for (const std::string& caption : scene.captions) ++counts[kCaption][caption];
    for (const Question& question : scene.questions) ++counts[question.type][question.answer];
  }
  return counts;
}

inline bool is_yes_or_no(const std::map<std::string, std::size_t>& answers) {
  return std::ranges::all_of(answers, [](const auto& answer) { return answer.first == "yes" || answer.first == "no"; });
}

/// Who always gives the commonest answer of a type.
inline Scores commonest(const std::vector<Scene>& scenes) {
  Scores scores;
  for (const auto& [type, answers] : truths_of(scenes)) {
    Score& score = scores[type];
    for (const auto& [answer, count] : answers) {
      score.right = std::max(score.right, count);
      score.asked += count;
    }
    if (type == kCaption) {
      score.asked = scenes.size();
      continue;
    }
    scores[kAnswers].right += score.right;
    scores[kAnswers].asked += score.asked;
  }
  return scores;
}

inline void count(const std::vector<Scene>& scenes, const std::vector<Sitting>& sittings, Report& report) {
  std::vector<double> image_ms, prefill_ms, speeds;
  const auto judge = [&](std::size_t scene, const Answer& answer, bool right, const char* all, const std::string& type,
                         const std::string& question, const std::string& expected) {
    for (const std::string& key : {std::string(all), type}) {
      Score& score = report.scores[key];
      ++score.asked;
      score.right += right ? 1 : 0;
      if (type == all) break;
    }
    ++report.yes[type].asked;
    report.yes[type].right += answer.text == "yes" ? 1 : 0;
    if (!right) report.wrong.push_back({scene, type, question, expected, answer.text});
    prefill_ms.push_back(answer.prefill_ms);
    if (answer.new_tokens > 0 && answer.decode_ms > 0) speeds.push_back(1e3 * static_cast<double>(answer.new_tokens) / answer.decode_ms);
  };
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    const Scene& scene = scenes[i];
    image_ms.push_back(sittings[i].image_ms);
    const Answer& caption = sittings[i].caption;
    judge(i, caption, is_true_caption(caption.text, scene), kCaption, kCaption, "", scene.captions.front());
    for (std::size_t k = 0; k < scene.questions.size(); ++k) {
      const Question& question = scene.questions[k];
      const Answer& answer = sittings[i].answers[k];
      judge(i, answer, answer.text == question.answer, kAnswers, question.type, question.text, question.answer);
    }
  }
  report.image_tokens = sittings.front().caption.image_tokens;
  report.prompt_tokens = sittings.front().caption.prompt_tokens;
  report.image_ms = median(std::move(image_ms));
  report.prefill_ms = median(std::move(prefill_ms));
  report.tokens_per_second = median(std::move(speeds));
}
