#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "duet/io/chat_message.hpp"
#include "duet/io/checkpoint.hpp"
#include "duet/pipeline/processor.hpp"
#include "duet/pipeline/session.hpp"

namespace duet {

/// What a model is, for people and scripts.
struct ModelInfo {
  std::string family, model_type, fusion;  ///< fusion: embedding, cross-attention, or none
  Index parameters = 0;
  std::uint64_t weight_bytes = 0;
  std::string dtypes;                    ///< "BF16", or several
  Index context = 0;                     ///< max_position_embeddings; 0 without text
  Index vocab_size = 0, hidden_size = 0, num_hidden_layers = 0;
  Index num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  Index self_attention_layers = 0;       ///< layers that keep keys and values of the text
  Index cross_attention_layers = 0;      ///< layers that read the visual memory (method B)
  Index num_channels = 0, image_size = 0, image_width = 0, patch_size = 0, vision_hidden_size = 0, vision_layers = 0, tokens_per_image = 0;
  double vision_gflop = 0;               ///< of one image through encoder and projector
  double text_gflop_per_token = 0;       ///< of one row through the stack, attention and head apart
  double head_gflop = 0;
  std::uint64_t text_bytes_per_token = 0;  ///< weights that decoding one token reads, head included
  std::vector<std::string> unused_tensors;

  /// What every position adds to the KV cache, and decoding reads again for each token.
  [[nodiscard]] Index kv_bytes_per_token(KeyValueFormat format) const noexcept {
    const kernels::KeyValueLayout layout{format, head_dim};
    return self_attention_layers * num_key_value_heads * layout.bytes() / kernels::kPageSize;
  }
  /// The same for rows of the visual memory (method B).
  [[nodiscard]] Index image_bytes_per_row(KeyValueFormat format) const noexcept {
    const kernels::KeyValueLayout layout{format, head_dim};
    return cross_attention_layers * num_key_value_heads * layout.bytes() / kernels::kPageSize;
  }
  [[nodiscard]] bool reads_images() const noexcept { return image_size > 0; }
  [[nodiscard]] bool writes_text() const noexcept { return head_gflop > 0; }
};

/// One conversation with a model of any kind.
class AnySession {
 public:
  virtual ~AnySession() = default;
  virtual std::span<const float> prefill(const Prompt& prompt, const ImageRows& rows) = 0;
  virtual std::span<const float> decode(TokenId id) = 0;
  /// What takes the session back to the state that it is in now, as Session::rewind does.
  [[nodiscard]] virtual std::function<void()> mark() = 0;
  /// Forgets all rows from `length` on.
  virtual void truncate(Index length) = 0;
  /// What a file sees of the session.
  [[nodiscard]] virtual ConstSessionParts parts() const = 0;
  [[nodiscard]] virtual SessionParts parts() = 0;
  /// Forgets the text and keeps the images' memory.
  virtual void restart() = 0;
  /// Forgets text and images.
  virtual void clear() = 0;
  [[nodiscard]] virtual Index length() const = 0;
  [[nodiscard]] virtual Index next_position() const = 0;       ///< of the row that is read next
  [[nodiscard]] virtual Index max_length() const = 0;
  [[nodiscard]] virtual Index num_image_rows() const = 0;   ///< rows of the visual memory
  [[nodiscard]] virtual std::size_t memory_bytes() const = 0;  ///< KV cache and visual memory
};

/// A model whose kind is known at run time only. Const; sessions of it may run in many threads.
class AnyModel {
 public:
  virtual ~AnyModel() = default;
  [[nodiscard]] virtual const ModelInfo& info() const = 0;
  /// How the family prepares pictures and writes them into prompts; never null.
  [[nodiscard]] virtual const std::shared_ptr<const Processor>& processor() const = 0;
  [[nodiscard]] const PromptRules& rules() const { return processor()->rules(); }
  [[nodiscard]] virtual const CheckpointFolder& folder() const = 0;
  [[nodiscard]] virtual const Compute& compute() const = 0;
  /// How the checkpoint's chat template words a conversation; nothing without one, or where the family has none.
  [[nodiscard]] virtual const std::optional<ChatWording>& chat_wording() const = 0;
  /// Errors  kUnsupportedModel for a model without a language model
  [[nodiscard]] virtual std::unique_ptr<AnySession> start(SessionOptions options) const = 0;
  /// Errors  kUnsupportedModel for a model without an image encoder
  [[nodiscard]] virtual ImageRows encode(const VisualInput& input, Workspace& workspace) const = 0;
};

struct LoadOptions {
  int threads = 0;               ///< 0: one per core
  std::optional<DType> weights = std::nullopt;  ///< converted or quantized while loading; absent: as stored, in place
};

}  // namespace duet
