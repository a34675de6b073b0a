#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/models/vision_cost.hpp"
#include "duet/pipeline/image_attention.hpp"
#include "duet/pipeline/pipeline.hpp"

namespace duet {

/// Which layers and heads a heat map averages; what is absent is averaged over.
struct HeatChoice {
  std::optional<Index> layer = {}, head = {};
};

/// A reply with where each of its words looked in the picture.
struct AttentionTrace {
  struct Word {
    std::string text;
    std::vector<Matrix> layers;  ///< [num_attention_heads, patches], summed over the word's tokens
    Index tokens = 0;
  };
  std::string text;
  std::vector<Word> words;
  Index rows = 0, cols = 0;  ///< the grid of patches
  Index num_layers = 0, num_heads = 0;

  /// Attention on each patch [rows * cols, row by row] while `word` was written: the mean over its tokens and the chosen layers and
  /// heads. Sums to the share of attention that goes to patches, at most 1.
  /// Errors  kInvalidArgument for a layer or head that is not there
  [[nodiscard]] std::vector<float> heat(const Word& word, const HeatChoice& choice = {}) const {
    check("layer", choice.layer, num_layers);
    check("head", choice.head, num_heads);
    const auto [first_layer, end_layer] = range(choice.layer, num_layers);
    const auto [first_head, end_head] = range(choice.head, num_heads);
    std::vector<float> result(static_cast<std::size_t>(rows * cols));
    const auto share = 1.0f / static_cast<float>(word.tokens * (end_layer - first_layer) * (end_head - first_head));
    for (Index layer = first_layer; layer < end_layer; ++layer) {
      for (Index head = first_head; head < end_head; ++head) {
        const auto weights = word.layers[static_cast<std::size_t>(layer)].view().row(head);
        for (std::size_t i = 0; i < result.size(); ++i) result[i] += share * weights[i];
      }
    }
    return result;
  }

 private:
  static void check(std::string_view what, std::optional<Index> wish, Index count) {
    if (!wish || (*wish >= 0 && *wish < count)) return;
    throw Error(ErrorKind::kInvalidArgument, what, std::to_string(*wish), concat("between 0 and ", count - 1));
  }
  static std::pair<Index, Index> range(std::optional<Index> wish, Index count) {
    return wish ? std::pair(*wish, *wish + 1) : std::pair<Index, Index>(0, count);
  }
};

/// Answers a question about one picture greedily (or, without one, captions it) and keeps where every word looks.
///
/// Errors  kInvalidArgument when the image tokens are no grid of patches: where pictures are cut into tiles, or their features are
///         pooled or resampled; those of Pipeline and Session
template <class Model>
AttentionTrace trace_attention(const Model& model, const Pipeline& pipeline, const Image& picture,
                               std::optional<std::string_view> question, Index max_new_tokens,
                               KeyValueFormat kv_format = KeyValueFormat::kF32) {
  const VisionCost vision = model.vision().cost();
  const std::vector<PicturePlan> pictures = pipeline.prompts().plans({&picture, 1});
  const std::vector<TokenId> ids = pipeline.prompts().encode_turn(question, pictures, PromptEncoder::Turn::kFirst);
  const Index length = static_cast<Index>(ids.size());
  const Index positions = length + std::max<Index>(1, max_new_tokens) - 1;
  Session<Model> session(model, pipeline.model().compute(), {.max_length = positions, .kv_format = kv_format});
  const VisualInput input = pipeline.prompts().preprocess({&picture, 1});
  const ImageRows rows = model.encode(input, session.workspace());
  AttentionTrace trace;
  trace.rows = input.crops.front().size.height / vision.patch_size;
  trace.cols = input.crops.front().size.width / vision.patch_size;
  const Index patches = trace.rows * trace.cols, before = rows.rows.rows() - patches;  // a class token, or nothing
  if (input.num_crops() > 1 || before < 0 || before > 1) {
    throw Error(ErrorKind::kInvalidArgument, "image tokens", concat(rows.rows.rows(), " of ", input.num_crops(), " crops"),
                concat("one for each of ", patches, " patches"), "this model's image tokens do not stand for patches");
  }
  const Prompt prompt = pipeline.make_prompt(ids, pictures, {}, rows.rows.rows());

  constexpr bool kMemory = Model::Decoder::kReadsImages;
  std::vector<Index> keys;
  for (Index i = before; i < before + patches; ++i) keys.push_back(kMemory ? i : prompt.image_rows[static_cast<std::size_t>(i)]);
  ImageAttention attention(kMemory ? AttentionKind::kCross : AttentionKind::kSelf, std::move(keys));

  Sampler sampler = pipeline.make_sampler({.temperature = 0.0f});
  for (const TokenId id : ids) sampler.see(id);
  std::optional<StreamDecoder> decoder;
  if (pipeline.tokenizer() != nullptr) decoder.emplace(*pipeline.tokenizer());
  std::span<const float> logits = session.prefill(prompt, rows, attention);
  for (Index step = 0; step < max_new_tokens; ++step) {
    const TokenId id = sampler.sample(logits);
    if (std::ranges::find(pipeline.defaults().eos_token_ids, id) != pipeline.defaults().eos_token_ids.end()) break;
    const std::string piece = decoder ? decoder->push(id) : concat(' ', id);
    trace.text += piece;
    if (trace.words.empty() || piece.starts_with(' ') || piece.starts_with('\n')) trace.words.emplace_back();
    AttentionTrace::Word& word = trace.words.back();
    word.text += piece.substr(std::min(piece.find_first_not_of(" \n"), piece.size()));
    ++word.tokens;
    word.layers.resize(static_cast<std::size_t>(attention.num_layers()));
    for (Index i = 0; i < attention.num_layers(); ++i) {
      Matrix& sum = word.layers[static_cast<std::size_t>(i)];
      if (sum.empty()) sum = Matrix(attention.num_heads(), patches);
      sum.eigen() += attention.layer(i).eigen();
    }
    if (step + 1 < max_new_tokens) logits = session.decode(id, attention);
  }
  trace.num_layers = attention.num_layers();
  trace.num_heads = attention.num_heads();
  if (trace.text.starts_with(' ')) trace.text.erase(0, 1);  // it belongs to the prompt
  return trace;
}

}  // namespace duet
