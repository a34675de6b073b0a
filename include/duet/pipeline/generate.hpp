#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/json.hpp"
#include "duet/io/tokenizer.hpp"
#include "duet/pipeline/sampler.hpp"

namespace duet {

/// How a reply is made. What is left open here comes from the checkpoint's generation_config.json.
struct ReplyOptions {
  std::optional<Index> max_new_tokens = {};  ///< absent: generation_config's, or as many as there is room for
  std::optional<float> temperature = {}, top_p = {}, min_p = {}, repetition_penalty = {};
  std::optional<Index> top_k = {};
  std::uint64_t seed = 0;
  std::vector<std::string> stop = {};  ///< the reply ends before the first of these texts
};

/// What the checkpoint says about generating.
struct GenerationDefaults {
  SamplingOptions sampling;
  std::optional<Index> max_new_tokens;
  std::vector<TokenId> eos_token_ids;

  /// Reads generation_config.json, and config.json where that is silent.
  /// Errors  kInvalidArgument for values of the wrong type or range
  [[nodiscard]] static GenerationDefaults read(const JsonView& generation, const JsonView& config) {
    GenerationDefaults result;
    SamplingOptions& s = result.sampling;
    if (generation.get_or("do_sample", false)) {
      s.temperature = generation.get_or("temperature", 1.0f);
      s.top_k = generation.get_or<Index>("top_k", 50);  // the reference's default
      s.top_p = generation.get_or("top_p", 1.0f);
      s.min_p = generation.get_or("min_p", 0.0f);
    }
    s.repetition_penalty = generation.get_or("repetition_penalty", 1.0f);
    s.check(generation.prefix());
    if (generation.contains("max_new_tokens")) {
      result.max_new_tokens = generation.get<Index>("max_new_tokens");
      if (*result.max_new_tokens < 1) {
        throw Error(ErrorKind::kInvalidArgument, generation.at("max_new_tokens").where(), std::to_string(*result.max_new_tokens), "at least 1");
      }
    }
    for (const JsonView& from : {generation, config, config.object_or_empty("text_config"), config.object_or_empty("decoder")}) {
      if (!from.contains("eos_token_id")) continue;
      const JsonView eos = from.at("eos_token_id");
      if (eos.json().is_array()) {
        result.eos_token_ids = eos.as<std::vector<TokenId>>();
      } else {
        result.eos_token_ids = {eos.as<TokenId>()};
      }
      break;
    }
    return result;
  }

  /// These defaults with a caller's wishes over them. A temperature alone turns sampling on, without the rest.
  [[nodiscard]] SamplingOptions with(const ReplyOptions& wishes) const {
    SamplingOptions result = sampling;
    const auto over = [](auto& value, const auto& wish) {
      if (wish) value = *wish;
    };
    over(result.temperature, wishes.temperature);
    over(result.top_k, wishes.top_k);
    over(result.top_p, wishes.top_p);
    over(result.min_p, wishes.min_p);
    over(result.repetition_penalty, wishes.repetition_penalty);
    const bool shapes = wishes.top_k || wishes.top_p || wishes.min_p;
    if (shapes && !wishes.temperature && result.temperature == 0.0f) result.temperature = 1.0f;
    result.seed = wishes.seed;
    result.check();
    return result;
  }
};

/// Why a reply ended.
enum class StopReason : unsigned char { kEndOfText, kLength, kStopText, kCallback };

struct Reply {
  std::string text;
  std::vector<TokenId> ids;  ///< new tokens, the end-of-text one excluded
  StopReason reason = StopReason::kLength;
  std::optional<TokenId> end_of_text;  ///< which of the checkpoint's was drawn, if one was
};

/// Receives pieces of whole UTF-8 characters as they become certain; returning false ends the reply.
using PieceCallback = std::function<bool(std::string_view piece)>;

/// Holds text back while it might be the beginning of a stop text.
class StopTexts {
 public:
  explicit StopTexts(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      if (!text.empty()) texts_.push_back(text);
    }
  }
  [[nodiscard]] bool found() const noexcept { return found_; }

  /// The part of `pending` + `piece` that may be shown now.
  std::string push(std::string_view piece) {
    pending_ += piece;
    std::size_t first = std::string::npos;
    for (const std::string& text : texts_) first = std::min(first, pending_.find(text));
    if (first != std::string::npos) {
      found_ = true;
      std::string shown = pending_.substr(0, first);
      pending_.clear();
      return shown;
    }
    std::size_t held = 0;
    for (const std::string& text : texts_) {
      for (std::size_t n = std::min(text.size() - 1, pending_.size()); n > held; --n) {
        if (std::string_view(pending_).ends_with(std::string_view(text).substr(0, n))) {
          held = n;
          break;
        }
      }
    }
    std::string shown = pending_.substr(0, pending_.size() - held);
    pending_.erase(0, pending_.size() - held);
    return shown;
  }
  /// What is still held back when the reply ends.
  std::string flush() { return found_ ? std::string() : std::exchange(pending_, {}); }

 private:
  std::vector<std::string> texts_;
  std::string pending_;
  bool found_ = false;
};

/// Draws tokens from `session`, whose prompt has been read and whose next logits are `logits`, until end-of-text, a stop
/// text, `max_new_tokens`, or the callback says so. `tokenizer` may be null: then the reply is ids alone.
///
/// Requires room in the session for max_new_tokens - 1 more positions
template <class AnyKindOfSession>
Reply generate(AnyKindOfSession& session, std::span<const float> logits, Sampler& sampler, Index max_new_tokens,
               std::span<const TokenId> eos_token_ids, const Tokenizer* tokenizer, const std::vector<std::string>& stop,
               const PieceCallback& callback) {
  Reply reply;
  StopTexts stops(stop);
  std::optional<StreamDecoder> decoder;
  if (tokenizer != nullptr) decoder.emplace(*tokenizer);
  reply.ids.reserve(static_cast<std::size_t>(std::max<Index>(0, max_new_tokens)));
  const auto show = [&](const std::string& piece) {
    reply.text += piece;
    return piece.empty() || !callback || callback(piece);
  };
  for (Index step = 0; step < max_new_tokens; ++step) {
    const TokenId id = sampler.sample(logits);
    if (std::ranges::find(eos_token_ids, id) != eos_token_ids.end()) {
      reply.reason = StopReason::kEndOfText;
      reply.end_of_text = id;
      break;
    }
    reply.ids.push_back(id);
    const bool go_on = !decoder || show(stops.push(decoder->push(id)));
    if (stops.found()) {
      reply.reason = StopReason::kStopText;
      break;
    }
    if (!go_on) {
      reply.reason = StopReason::kCallback;
      break;
    }
    if (step + 1 < max_new_tokens) logits = session.decode(id);
  }
  if (decoder && reply.reason != StopReason::kStopText) {
    show(stops.push(decoder->flush()));
    show(stops.flush());
  }
  return reply;
}

}  // namespace duet
