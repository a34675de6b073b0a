#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "examine.hpp"
#include "pointing.hpp"
#include "score.hpp"
#include "truth.hpp"

/// All that is told about a model.

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
  std::optional<PointingReport> pointing;  ///< where the game was played
};

/// Judges what a model said about the scenes.
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
