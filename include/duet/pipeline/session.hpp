#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "duet/fusion/vision_language_model.hpp"

namespace duet {

struct SessionOptions {
  Index max_length = 0;  ///< positions reserved for prompt and reply; 0: what the model was trained for
  /// Rows of a prompt run at once. The bits are the same for any value; memory for activations grows with it.
  Index prefill_chunk = 512;
};

/// A decoder on its own: the text-only model. It is no vision-language model with empty slots; it just offers what a
/// session asks of any model.
template <LanguageDecoder Text>
class TextModel {
 public:
  using Decoder = Text;
  struct Memory {};
  explicit TextModel(Text decoder) : decoder_(std::move(decoder)) {}

  [[nodiscard]] const Text& decoder() const noexcept { return decoder_; }
  void fuse(const Prompt& prompt, const ImageRows&, MatrixView hidden, Memory&, Workspace&) const {
    decoder_.embed(prompt.ids, hidden);
  }
  static const VisualMemory* memory_of(const Memory&) noexcept { return nullptr; }

 private:
  Text decoder_;
};

/// Everything that changes in one conversation with a const model: KV cache, visual memory, scratch.
///
/// `prefill` and `decode` keep a strong guarantee: when they throw, the session is as it was. After the constructor,
/// `decode` allocates nothing. One session belongs to one thread at a time; sessions of one model may run in many.
template <class Model>
class Session {
 public:
  using Decoder = typename Model::Decoder;

  /// Errors  kInvalidArgument for a max_length the model has no positions for
  Session(const Model& model, Compute compute, SessionOptions options)
      : model_(&model),
        options_(checked(options, model)),
        workspace_(compute),
        cache_(model.decoder().make_cache(options_.max_length)),
        logits_(1, model.decoder().vocab_size()) {
    workspace_.reserve(decode_bytes());
  }
  Session(const Model&&, Compute, SessionOptions) = delete;  // a session must not outlive its model

  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  [[nodiscard]] Index length() const noexcept { return cache_.length(); }
  [[nodiscard]] Index max_length() const noexcept { return options_.max_length; }
  [[nodiscard]] Workspace& workspace() noexcept { return workspace_; }
  [[nodiscard]] std::size_t cache_bytes() const noexcept { return cache_.bytes(); }
  [[nodiscard]] const VisualMemory* visual_memory() const noexcept { return memory_of(memory_); }

  /// Reads a prompt that continues the session, with the image tokens it speaks of; returns the logits [vocab_size] of its
  /// last row, valid until the next call.
  ///
  /// Errors  kContextFull, kInvalidArgument (an id out of range, an empty prompt), kShapeMismatch (placeholders); the
  ///         session is then as it was
  std::span<const float> prefill(const Prompt& prompt, const ImageRows& rows = {}) {
    check(prompt);
    const auto frame = workspace_.frame();
    const MatrixView hidden = workspace_.matrix(prompt.size(), model_->decoder().hidden_size());  // [prompt, hidden_size]
    model_->fuse(prompt, rows, hidden, memory_, workspace_);
    Index begin = 0;
    while (begin < prompt.size()) {
      const Index count = chunk(prompt, begin);
      const MatrixView part = hidden.rows(begin, count);
      const auto of = [&](const auto& values) {
        return std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
      };
      const Sequence sequence{&cache_, memory_of(memory_), of(prompt.positions), of(prompt.visible),
                              of(prompt.visible_images), 0, count};
      model_->decoder().forward(part, std::span(&sequence, 1), Phase::kPrefill, workspace_);
      begin += count;
    }
    next_position_ = prompt.positions.back() + 1;
    return logits_of(hidden.rows(prompt.size() - 1, 1), Phase::kPrefill);
  }

  /// Reads one more token; returns the logits [vocab_size] for the next, valid until the next call.
  ///
  /// Errors  kContextFull, kInvalidArgument; the session is then as it was
  std::span<const float> decode(TokenId id) {
    check_room(1);
    check_id(id);
    const auto frame = workspace_.frame();
    const MatrixView hidden = workspace_.matrix(1, model_->decoder().hidden_size());
    model_->decoder().embed(std::span(&id, 1), hidden);
    const VisualMemory* memory = memory_of(memory_);
    const kernels::KeyRange visible{0, cache_.length() + 1};
    const kernels::KeyRange images{0, memory == nullptr ? 0 : memory->num_rows()};
    const Sequence sequence{&cache_, memory, {&next_position_, 1}, {&visible, 1}, {&images, 1}, 0, 1};
    model_->decoder().forward(hidden, std::span(&sequence, 1), Phase::kDecode, workspace_);
    ++next_position_;
    return logits_of(hidden, Phase::kDecode);
  }

  /// Forgets the text and keeps the images' memory.
  void restart() noexcept {
    cache_.truncate(0);
    next_position_ = 0;
  }
  /// Forgets text and images.
  void clear() {
    restart();
    memory_ = {};
  }

 private:
  using Memory = typename Model::Memory;

  static SessionOptions checked(SessionOptions options, const Model& model) {
    const Index most = model.decoder().config().max_position_embeddings;
    if (options.max_length == 0) options.max_length = most;
    if (options.max_length < 1 || options.max_length > model.decoder().num_positions()) {
      throw Error(ErrorKind::kInvalidArgument, "max_length", std::to_string(options.max_length),
                  concat("between 1 and max_position_embeddings, ", most));
    }
    options.prefill_chunk = std::max<Index>(1, options.prefill_chunk);
    return options;
  }
  static const VisualMemory* memory_of(const Memory& memory) noexcept {
    if constexpr (requires { typename Model::FusionPolicy; }) {
      return Model::FusionPolicy::memory_of(memory);
    } else {
      return nullptr;
    }
  }

  void check_room(Index rows) const {
    if (cache_.length() + rows <= options_.max_length) return;
    throw Error(ErrorKind::kContextFull, "context", concat(cache_.length(), " positions read and ", rows, " more to read"),
                concat("at most ", options_.max_length, " in all"), "start with a larger max_length, or shorten the prompt");
  }
  void check_id(TokenId id) const {
    if (id >= 0 && id < model_->decoder().vocab_size()) return;
    throw Error(ErrorKind::kInvalidArgument, "token id", std::to_string(id),
                concat("between 0 and ", model_->decoder().vocab_size() - 1),
                "do the tokenizer and the model belong together?");
  }
  void check(const Prompt& prompt) const {
    if (prompt.ids.empty()) {
      throw Error(ErrorKind::kInvalidArgument, "prompt", "no tokens", "at least one");
    }
    check_room(prompt.size());
    for (const TokenId id : prompt.ids) check_id(id);
  }

  /// Rows to run next: up to prefill_chunk, but a row that sees keys after itself keeps their rows in its chunk.
  [[nodiscard]] Index chunk(const Prompt& prompt, Index begin) const {
    const Index read = cache_.length() - begin;  // slot of prompt row 0
    Index end = std::min(prompt.size(), begin + options_.prefill_chunk);
    for (Index i = begin; i < end; ++i) {
      end = std::max(end, std::min(prompt.size(), prompt.visible[static_cast<std::size_t>(i)].end - read));
    }
    return end - begin;
  }

  std::span<const float> logits_of(MatrixView row, Phase phase) {
    const MatrixView normed = workspace_.matrix(1, row.cols());
    model_->decoder().normalize(row, normed, workspace_);
    model_->decoder().logits(normed, logits_, phase, workspace_);
    return std::as_const(logits_).view().row(0);
  }

  /// Scratch of one decode step, generously: every matrix a layer holds at once, for one row, and the kernels' own.
  [[nodiscard]] std::size_t decode_bytes() const {
    const auto& c = model_->decoder().config();
    const Index floats = 8 * c.hidden_size + 3 * c.intermediate_size + 2 * c.vocab_size +
                         6 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim;
    return static_cast<std::size_t>(floats) * sizeof(float) * 4 + (std::size_t{4} << 20);
  }

  const Model* model_;
  SessionOptions options_;
  Workspace workspace_;
  KvCache cache_;
  Memory memory_{};
  Matrix logits_;  // [1, vocab_size]
  Index next_position_ = 0;
};

}  // namespace duet
