#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "truth.hpp"

/// How often who is right: counting, and what there is to be right about.

inline constexpr const char* kCaption = "caption";  ///< what is asked beside the types of questions
inline constexpr const char* kAnswers = "answers";  ///< all questions together

struct Score {
  std::size_t right = 0, asked = 0;
  [[nodiscard]] double share() const { return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked); }
  void add(const Score& other) {
    right += other.right;
    asked += other.asked;
  }
};

using Scores = std::map<std::string, Score>;  ///< by what was asked

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
