#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/matrix.hpp"
#include "duet/core/token.hpp"

namespace duet {

/// How the next token is chosen. The defaults are greedy; names and meanings are generation_config.json's.
struct SamplingOptions {
  float temperature = 0.0f;         ///< 0: greedy
  Index top_k = 0;                  ///< keep the k likeliest; 0: all
  float top_p = 1.0f;               ///< keep the likeliest that together reach p
  float min_p = 0.0f;               ///< keep those at least min_p times as likely as the likeliest
  float repetition_penalty = 1.0f;  ///< > 1 discourages ids already in prompt or output
  std::uint64_t seed = 0;

  /// Throws Error{kInvalidArgument} for a value out of range; `where` stands before its name.
  void check(std::string_view where = "") const {
    const auto require = [&](bool good, std::string_view name, float value, std::string_view expected) {
      if (!good) throw Error(ErrorKind::kInvalidArgument, concat(where, name), concat(value), expected);
    };
    require(temperature >= 0.0f && std::isfinite(temperature), "temperature", temperature, "0 (greedy) or more");
    require(top_k >= 0, "top_k", static_cast<float>(top_k), "0 (off) or more");
    require(top_p > 0.0f && top_p <= 1.0f, "top_p", top_p, "in (0, 1]");
    require(min_p >= 0.0f && min_p <= 1.0f, "min_p", min_p, "in [0, 1]");
    require(repetition_penalty > 0.0f && std::isfinite(repetition_penalty), "repetition_penalty", repetition_penalty,
            "a positive number");
  }
};

/// Chooses tokens from logits, in the reference's order: repetition penalty, temperature, top-k, top-p, min-p, draw.
///
/// The same seed gives the same tokens on every run and thread count. Memory is reserved by the constructor; `sample`
/// allocates nothing.
class Sampler {
 public:
  /// `num_tokens`: ids from there on are padding of the embedding table and never chosen; nor are `suppressed` ones.
  Sampler(const SamplingOptions& options, Index vocab_size, Index num_tokens, std::span<const TokenId> suppressed)
      : options_((options.check(), options)),
        allowed_(static_cast<std::size_t>(vocab_size), 1),
        seen_(static_cast<std::size_t>(vocab_size), 0),
        state_(options.seed) {
    for (std::size_t id = static_cast<std::size_t>(std::min(num_tokens, vocab_size)); id < allowed_.size(); ++id) allowed_[id] = 0;
    for (const TokenId id : suppressed) {
      if (id >= 0 && id < vocab_size) allowed_[static_cast<std::size_t>(id)] = 0;
    }
    candidates_.reserve(allowed_.size());
  }

  /// Counts an id of prompt or output for the repetition penalty.
  void see(TokenId id) noexcept {
    if (id >= 0 && static_cast<std::size_t>(id) < seen_.size()) seen_[static_cast<std::size_t>(id)] = 1;
  }
  /// Restarts the random numbers.
  void reseed(std::uint64_t seed) noexcept { state_ = seed; }

  /// The next token for logits [vocab_size].
  /// Errors  kMalformedFile when none of the logits is a number: such weights are damaged
  [[nodiscard]] TokenId sample(std::span<const float> logits) {
    candidates_.clear();
    for (std::size_t id = 0; id < logits.size() && id < allowed_.size(); ++id) {
      if (allowed_[id] == 0) continue;
      float score = logits[id];
      if (seen_[id] != 0 && options_.repetition_penalty != 1.0f) {
        score = score < 0.0f ? score * options_.repetition_penalty : score / options_.repetition_penalty;
      }
      if (std::isnan(score)) continue;  // it has no place in an order
      candidates_.push_back({score, static_cast<TokenId>(id)});
    }
    if (candidates_.empty()) {
      throw Error(ErrorKind::kMalformedFile, "logits", "no number among those of the tokens that may be drawn", "numbers",
                  "are the weights damaged, or a value in config.json wrong?");
    }
    const TokenId chosen = options_.temperature == 0.0f ? likeliest().id : draw();
    see(chosen);
    return chosen;
  }

 private:
  struct Candidate {
    float score;
    TokenId id;
  };

  [[nodiscard]] const Candidate& likeliest() const noexcept {  // the first of equals, as argmax
    return *std::ranges::max_element(candidates_, {}, &Candidate::score);
  }

  [[nodiscard]] TokenId draw() {
    const auto before = [](const Candidate& a, const Candidate& b) {
      return a.score != b.score ? a.score > b.score : a.id < b.id;  // a total order, so that the draw never depends on the sort
    };
    if (std::isinf(likeliest().score / options_.temperature)) return likeliest().id;  // a temperature next to zero
    for (Candidate& c : candidates_) c.score /= options_.temperature;
    if (options_.top_k > 0 && options_.top_k < static_cast<Index>(candidates_.size())) {
      const auto kth = candidates_.begin() + options_.top_k;
      std::ranges::nth_element(candidates_, kth, before);
      candidates_.erase(kth, candidates_.end());
    }
    std::ranges::sort(candidates_, before);
    const float most = candidates_.front().score;
    double total = 0.0;
    for (Candidate& c : candidates_) total += static_cast<double>(c.score = std::exp(c.score - most));

    std::size_t kept = candidates_.size();
    if (options_.top_p < 1.0f) {
      double sum = 0.0;
      kept = 0;
      while (kept < candidates_.size() && sum < static_cast<double>(options_.top_p) * total) {
        sum += static_cast<double>(candidates_[kept++].score);
      }
      kept = std::max<std::size_t>(kept, 1);
    }
    while (kept > 1 && candidates_[kept - 1].score < options_.min_p) --kept;  // the likeliest has score 1

    total = 0.0;
    for (std::size_t i = 0; i < kept; ++i) total += static_cast<double>(candidates_[i].score);
    double point = uniform() * total;
    for (std::size_t i = 0; i + 1 < kept; ++i) {
      point -= static_cast<double>(candidates_[i].score);
      if (point < 0.0) return candidates_[i].id;
    }
    return candidates_[kept - 1].id;
  }

  /// In [0, 1). SplitMix64 (Steele, Lea, Flood 2014): unlike <random>'s distributions it is the same everywhere.
  double uniform() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

  SamplingOptions options_;
  std::vector<std::uint8_t> allowed_, seen_;  // [vocab_size]
  std::vector<Candidate> candidates_;
  std::uint64_t state_;
};

}  // namespace duet
