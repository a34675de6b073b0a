#pragma once

#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "duet/models/decoder_config.hpp"
#include "duet/pipeline/session_contents.hpp"

namespace duet {

// A session as its file sees it: without the type of its model, so that this is compiled once for all families, and only in
// programs that keep sessions in files.

/// What a session's file has to know of the model.
struct SessionModel {
  template <class Model>
  SessionModel(const Model& model, KeyValueFormat kv_format, Index most_positions)
      : format(kv_format),
        max_length(most_positions),
        config(&model.decoder().config()),
        hidden_size(model.decoder().hidden_size()),
        num_positions(model.decoder().num_positions()),
        num_embeddings(model.decoder().num_embeddings()),
        can_switch(SessionContents<Model>::can_switch(model)),
        decoder(&model.decoder()),
        embed_rows([](const void* self, std::span<const TokenId> ids, MatrixView rows) {
          static_cast<const typename Model::Decoder*>(self)->embed(ids, rows);
        }) {
    if constexpr (requires { typename Model::FusionPolicy; }) fusion = Model::FusionPolicy::kName;
    if constexpr (SessionContents<Model>::kKeepsImages) memory_layers = model.decoder().cost().cross_layers;
  }

  KeyValueFormat format;
  Index max_length;
  const DecoderConfig* config;
  Index hidden_size, num_positions, num_embeddings;
  Index memory_layers = 0;           ///< of a visual memory with images
  bool can_switch;                   ///< whether long sequences are read otherwise
  std::string_view fusion = "none";
  const void* decoder;
  void (*embed_rows)(const void* decoder, std::span<const TokenId> ids, MatrixView rows);
};

/// A session's parts, to be written to a file.
struct ConstSessionParts {
  SessionModel model;
  const TextContents* text;
  const VisualMemory* memory;  ///< null in a session that keeps no images
};

/// A session's parts, to be replaced by a file's.
struct SessionParts {
  SessionModel model;
  TextContents* text;
  VisualMemory* memory;
  Workspace* workspace;
};

namespace detail {

/// What a session must share with the model that goes on with it: sizes, and numbers, for a model trained further is
/// another.
[[nodiscard]] inline std::map<std::string, std::string> session_identity(const SessionModel& model) {
  const DecoderConfig& c = *model.config;
  std::map<std::string, std::string> identity = {{"kv", std::string(name_of(model.format))},
                                                 {"vocab_size", std::to_string(c.vocab_size)},
                                                 {"hidden_size", std::to_string(c.hidden_size)},
                                                 {"intermediate_size", std::to_string(c.intermediate_size)},
                                                 {"num_hidden_layers", std::to_string(c.num_hidden_layers)},
                                                 {"num_attention_heads", std::to_string(c.num_attention_heads)},
                                                 {"num_key_value_heads", std::to_string(c.num_key_value_heads)},
                                                 {"head_dim", std::to_string(c.head_dim)},
                                                 {"fusion", std::string(model.fusion)}};
  constexpr Index kRows = 64;  // of the embedding table: they stand for all weights
  std::vector<TokenId> ids;
  for (Index i = 0; i < kRows; ++i) ids.push_back(static_cast<TokenId>(i * c.vocab_size / kRows));
  Matrix rows(kRows, model.hidden_size);
  model.embed_rows(model.decoder, ids, rows);
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a (Fowler, Noll, Vo), a number at a time
  for (const float value : std::span(rows.view().data(), static_cast<std::size_t>(kRows * rows.cols()))) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3u;
  }
  identity["embeddings"] = std::to_string(hash);
  return identity;
}

[[nodiscard]] inline VisualMemory read_memory(const SessionFile& file, const SessionModel& model, Workspace& workspace) {
  const std::vector<std::int64_t> counts = file.numbers("num_image_rows");
  if (counts.size() != 1 || counts[0] < 0) {
    throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor num_image_rows"), concat(counts.size(), " numbers"),
                "one, which is not negative");
  }
  if (counts[0] == 0) return VisualMemory(model.format);
  const DecoderConfig& c = *model.config;
  // Looked at before there is room for it: a file holds as much as it says.
  const KeyValueStore shape(0, c.num_key_value_heads, c.head_dim, model.format);
  for (Index i = 0; i < model.memory_layers; ++i) file.check(concat("images.", i), shape, counts[0]);
  VisualMemory memory(model.memory_layers, counts[0], c.num_key_value_heads, c.head_dim, model.format);
  for (Index i = 0; i < model.memory_layers; ++i) file.read(concat("images.", i), memory.layer(i), counts[0], workspace);
  return memory;
}

}  // namespace detail

/// All that is needed to go on with the same bits.
[[nodiscard]] inline SessionState state_of(const ConstSessionParts& parts) {
  const TextContents& text = *parts.text;
  SessionState state;
  state.metadata.merge(detail::session_identity(parts.model));
  for (Index i = 0; i < text.cache.num_layers(); ++i) state.add(concat("layers.", i), text.cache.layer(i), text.cache.length());
  text.rows.save(state);
  if (parts.model.can_switch) state.add("switched", std::vector<std::int64_t>{text.switched ? 1 : 0});
  state.tensors.push_back(NamedTensor::matrix("logits", text.logits));
  if (const VisualMemory* memory = parts.memory) {
    state.add("num_image_rows", std::vector<std::int64_t>{memory->num_rows()});
    for (Index i = 0; i < memory->num_layers(); ++i) state.add(concat("images.", i), memory->layer(i), memory->num_rows());
  }
  return state;
}

/// Makes a session what state_of() was of, whatever was there before.
/// Errors  as Session::restore; the session is then as it was
inline void restore_session(const SessionFile& file, const SessionParts& parts) {
  const SessionModel& model = parts.model;
  TextContents& text = *parts.text;
  Workspace& workspace = *parts.workspace;
  for (const auto& [key, value] : detail::session_identity(model)) file.expect(key, value);
  VisualMemory images;
  if (parts.memory != nullptr) images = detail::read_memory(file, model, workspace);
  const auto length = static_cast<Index>(file.numbers("positions").size());
  if (length > model.max_length) {
    throw Error(ErrorKind::kContextFull, file.where(), concat(length, " positions"), concat("at most ", model.max_length),
                "start with a larger max_length");
  }
  ReadRows read = text.rows.load(file, model.max_length, model.num_positions, model.num_embeddings, images.num_rows());
  const bool was_switched = model.can_switch && file.numbers("switched") == std::vector<std::int64_t>{1};
  for (Index i = 0; i < text.cache.num_layers(); ++i) file.check(concat("layers.", i), text.cache.layer(i), length);
  const Index one_row[] = {1, text.logits.cols()};
  const TensorView& last = file.tensor("logits", DType::kF32, one_row);
  const Index floats = length * model.config->num_key_value_heads * model.config->head_dim;  // of a layer's keys, and of its values
  workspace.reserve(2 * (static_cast<std::size_t>(floats) * sizeof(float) + kAlignment));
  // From here on nothing fails.
  for (Index i = 0; i < text.cache.num_layers(); ++i) file.read(concat("layers.", i), text.cache.layer(i), length, workspace);
  std::memcpy(text.logits.view().data(), last.data, static_cast<std::size_t>(text.logits.cols()) * sizeof(float));
  text.cache.truncate(0);
  text.cache.advance(length);
  text.rows = std::move(read);
  text.switched = was_switched;
  if (parts.memory != nullptr) *parts.memory = std::move(images);
}

}  // namespace duet
