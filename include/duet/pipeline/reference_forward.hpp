#pragma once

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/models/contrastive_model.hpp"
#include "duet/models/image_classifier.hpp"
#include "duet/models/projected_vision.hpp"
#include "duet/models/text_encoder.hpp"
#include "duet/pipeline/reference_inputs.hpp"
#include "duet/pipeline/session.hpp"
#include "duet/pipeline/stage_recorder.hpp"

namespace duet {

namespace detail {

/// The pictures of one batch entry.
struct EntryImages {
  ImageRows rows;
  std::vector<PicturePlan> pictures;  ///< num_tokens: the rows that each became
};

/// Splits pictures among batch entries: by image tokens where the prompts have them, else one picture an entry. Those that are padding
/// of the batch, of no crops, belong to the entry that they lie behind.
/// Errors  kShapeMismatch when their numbers do not agree
inline std::vector<EntryImages> images_per_entry(const ReferenceInputs& inputs, const Processor& processor, const ImageRows& all) {
  std::vector<EntryImages> result(static_cast<std::size_t>(inputs.batch));
  if (all.empty()) return result;
  const bool has_tokens = processor.rules().image_token_id.has_value();
  const auto tokens_of = [&](Index i) {  // that picture i has in a prompt
    PicturePlan picture = inputs.pixel_values->pictures[static_cast<std::size_t>(i)];
    picture.num_tokens = all.spans[static_cast<std::size_t>(i)].count;
    return has_tokens ? processor.prompt_tokens(picture) : 1;
  };
  const auto pictures = static_cast<Index>(all.spans.size());
  Index next = 0, begin = 0;  // picture, and its first row
  const auto wrong = [&](Index got) {
    Index expected = 0;
    for (Index i = 0; i < pictures; ++i) expected += tokens_of(i);
    return Error(ErrorKind::kShapeMismatch, "inputs.input_ids", concat(got, " image tokens"),
                 concat(expected, processor.rules().picture_rows == PictureRows::kInMemory ? ", one for each picture"
                                                                                            : ", one for each row of a picture"));
  };
  if (!has_tokens && pictures != inputs.batch) {
    throw Error(ErrorKind::kShapeMismatch, "inputs.pixel_values", concat(pictures, " images"), concat(inputs.batch, ", one for each row of ids"));
  }
  Index tokens_so_far = 0;
  for (Index b = 0; b < inputs.batch; ++b) {
    EntryImages& entry = result[static_cast<std::size_t>(b)];
    Index tokens = has_tokens ? 0 : 1;  // still to be accounted for
    for (Index i = 0; has_tokens && i < inputs.length; ++i) {
      if (processor.is_image_token(inputs.input_ids[static_cast<std::size_t>(b * inputs.length + i)])) ++tokens;
    }
    tokens_so_far += tokens;
    const Index first_row = begin;
    const auto is_padding = [&] { return next < pictures && inputs.pixel_values->pictures[static_cast<std::size_t>(next)].num_crops == 0; };
    while (tokens > 0 || is_padding()) {
      if (next == pictures) throw wrong(tokens_so_far);
      if (is_padding()) ++tokens;
      const Index rows = all.spans[static_cast<std::size_t>(next)].count;
      tokens -= tokens_of(next);
      if (tokens < 0) throw wrong(tokens_so_far);
      if (!all.thumbnails.empty()) {
        const ImageRows::Span thumbnail = all.thumbnails[static_cast<std::size_t>(next)];
        entry.rows.thumbnails.push_back({thumbnail.begin - first_row, thumbnail.count});
      }
      PicturePlan picture = inputs.pixel_values->pictures[static_cast<std::size_t>(next++)];
      picture.num_tokens = rows;
      entry.rows.spans.push_back({begin - first_row, rows});
      entry.pictures.push_back(picture);
      begin += rows;
    }
    entry.rows.rows = Matrix::clone(all.rows.view().rows(first_row, begin - first_row));
  }
  if (next != pictures) throw wrong(tokens_so_far);
  return result;
}

/// The part [begin, end) of batch entry b as a prompt of a sequence whose slot 0 is row `begin`.
/// Errors  kInvalidArgument for an id out of range
inline Prompt prompt_of(const ReferenceInputs& inputs, Index b, Index begin, Index end, const Processor& processor, const EntryImages& images,
                        Index num_embeddings) {
  const auto [first, last] = inputs.unpadded(b);
  const auto id_at = [&](Index i) { return inputs.input_ids[static_cast<std::size_t>(b * inputs.length + i)]; };
  const Index num_image_rows = images.rows.rows.rows() - images.rows.num_thumbnail_rows();  // in memory
  std::vector<TokenId> words;  // those that are no padding
  for (Index i = first; i < last; ++i) words.push_back(id_at(i));
  Prompt inner = Prompt::causal(std::move(words), 0, num_image_rows);
  processor.arrange(inner, images.pictures);

  // The reference's generate() counts positions from the first token that is no padding; an encoder-decoder's decoder gets
  // no position_ids from it, and counts the padding too.
  const Index zero = processor.rules().decoder_start_token_id ? 0 : begin;
  const Index shift = first - begin;  // slot, and row, of the first word
  Prompt prompt;
  for (Index i = begin; i < end; ++i) {
    const bool is_word = i >= first && i < last;
    const auto at = static_cast<std::size_t>(i - first);  // among the words
    prompt.ids.push_back(is_word ? inner.ids[at] : id_at(i));
    const Index arranged = is_word ? inner.positions[at] + first - zero : i - zero;
    prompt.positions.push_back(inputs.position_ids.empty() ? arranged : inputs.position_ids[static_cast<std::size_t>(b * inputs.length + i)]);
    prompt.visible.push_back(is_word ? kernels::KeyRange{inner.visible[at].begin + shift, inner.visible[at].end + shift}
                                     : kernels::KeyRange{std::max<Index>(shift, 0), std::max(i - begin + 1, shift)});
    prompt.visible_images.push_back(is_word ? inner.visible_images[at] : kernels::KeyRange{0, num_image_rows});
    if (!inner.offsets.empty()) prompt.offsets.push_back(is_word ? inner.offsets[at] : kernels::GridOffset{});
  }
  for (const Index row : inner.image_rows) prompt.image_rows.push_back(row + shift);
  for (const ExtraRange& extra : inner.extra_visible) prompt.extra_visible.push_back({extra.row + shift, {extra.keys.begin + shift, extra.keys.end + shift}});
  for (const ExtraRange& extra : inner.extra_visible_images) prompt.extra_visible_images.push_back({extra.row + shift, extra.keys});
  // Rows that are replaced anyway may have an id beyond the table.
  for (const Index row : prompt.image_rows) {
    TokenId& id = prompt.ids[static_cast<std::size_t>(row)];
    if (id < 0 || id >= num_embeddings) id = 0;
  }
  for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
    if (prompt.ids[i] >= 0 && prompt.ids[i] < num_embeddings) continue;
    throw Error(ErrorKind::kInvalidArgument, concat("inputs.input_ids[", b, ", ", begin + static_cast<Index>(i), "]"), std::to_string(prompt.ids[i]),
                concat("between 0 and ", num_embeddings - 1));
  }
  return prompt;
}

}  // namespace detail

/// Runs a language model as the reference's forward() does, a left-padded batch included, and then generates greedily,
/// ignoring end-of-text: every stage by the name that golden files give it. `kv_format` is what keys and values are kept in.
template <class Model>
std::vector<NamedTensor> reference_forward(const Model& model, const ReferenceInputs& inputs, Index max_new_tokens,
                                           const PromptRules& rules, Compute compute,
                                           KeyValueFormat kv_format = KeyValueFormat::kF32) {
  constexpr bool kHasVision = requires { model.vision(); };
  const auto& decoder = model.decoder();
  const Processor plain(rules);
  const Processor& processor = inputs.processor != nullptr ? *inputs.processor : plain;
  std::vector<NamedTensor> out;
  StageRecorder record(out);
  Workspace workspace(compute);
  const Index batch = inputs.batch, length = inputs.length, rows = batch * length;
  if (rows == 0) throw Error(ErrorKind::kInvalidArgument, "inputs.input_ids", "no tokens", "at least one");

  ImageRows images;
  if (inputs.pixel_values) {
    if constexpr (kHasVision) {
      record.set_groups(inputs.pixel_values->num_crops());
      images = model.encode(*inputs.pixel_values, workspace, record);
    } else {
      throw Error(ErrorKind::kInvalidArgument, "inputs.pixel_values", "an image", "none for a model that reads text alone");
    }
  }
  const std::vector<detail::EntryImages> per_entry = detail::images_per_entry(inputs, processor, images);

  std::vector<Prompt> prompts;
  std::vector<KvCache> caches;
  std::vector<typename Model::Memory> memories;
  const auto frame = workspace.frame();
  const MatrixView hidden = workspace.matrix(rows, decoder.hidden_size());  // [batch * length, hidden_size]
  for (Index b = 0; b < batch; ++b) {
    const auto at = static_cast<std::size_t>(b);
    prompts.push_back(detail::prompt_of(inputs, b, 0, length, processor, per_entry[at], decoder.num_embeddings()));
    for (const Index position : prompts.back().positions) {
      if (position >= 0 && position < decoder.num_positions()) continue;
      throw Error(ErrorKind::kContextFull, "inputs.position_ids", std::to_string(position),
                  concat("between 0 and ", decoder.config().max_position_embeddings - 1));
    }
    caches.push_back(decoder.make_cache(length, kv_format));
    memories.push_back(Session<Model>::empty_memory(kv_format));
    model.fuse(prompts.back(), per_entry[at].rows, hidden.rows(b * length, length), memories[at], workspace);
  }
  record.set_groups(batch);
  Index furthest = 0;  // the reference calls a batch as long as its longest entry
  for (const Prompt& p : prompts) {
    for (Index i = 0; i < length; ++i) furthest = std::max(furthest, p.furthest(i));
  }
  std::vector<Sequence> sequences;
  for (Index b = 0; b < batch; ++b) {
    const auto at = static_cast<std::size_t>(b);
    const VisualMemory* memory = nullptr;
    if constexpr (kHasVision) memory = Model::FusionPolicy::memory_of(memories[at]);
    const Prompt& p = prompts[at];
    sequences.push_back({.cache = &caches[at],
                         .memory = memory,
                         .positions = p.positions,
                         .visible = p.visible,
                         .memory_spans = p.visible_images,
                         .row_begin = b * length,
                         .rows = length,
                         .offsets = p.offsets,
                         .extra_visible = p.extra_visible,
                         .extra_memory = p.extra_visible_images,
                         .length = furthest + 1});
  }
  decoder.forward(hidden, sequences, Phase::kPrefill, workspace, record);
  if (const float scale = decoder.config().embedding_scale; scale != 1.0f) record.add_scaled("embeds_unscaled", "embeds", 1.0f / scale);
  decoder.normalize(hidden, hidden, workspace);
  record(Stage::kFinalNorm, 0, hidden);
  const MatrixView logits = workspace.matrix(rows, decoder.vocab_size());
  decoder.logits(hidden, logits, Phase::kPrefill, workspace);
  record.add("logits", {batch, length, decoder.vocab_size()}, logits);
  if (max_new_tokens <= 0) return out;

  // The entries' sessions step together, each without its padding.
  std::vector<Session<Model>> sessions;
  std::vector<Session<Model>*> together;
  sessions.reserve(static_cast<std::size_t>(batch));
  for (Index b = 0; b < batch; ++b) {
    const auto [begin, end] = inputs.unpadded(b);
    const detail::EntryImages& mine = per_entry[static_cast<std::size_t>(b)];
    const Prompt prompt = detail::prompt_of(inputs, b, begin, end, processor, mine, decoder.num_embeddings());
    sessions.emplace_back(model, compute, SessionOptions{.max_length = prompt.size() + max_new_tokens - 1, .kv_format = kv_format});
    together.push_back(&sessions.back());
    sessions.back().prefill(prompt, mine.rows);
  }
  std::vector<std::int64_t> ids(static_cast<std::size_t>(batch * max_new_tokens));
  std::vector<TokenId> best(static_cast<std::size_t>(batch));
  Matrix steps(batch * max_new_tokens, decoder.vocab_size());
  for (Index step = 0; step < max_new_tokens; ++step) {
    if (step > 0) Session<Model>::decode_together(together, best);
    for (Index b = 0; b < batch; ++b) {
      const std::span<const float> next = sessions[static_cast<std::size_t>(b)].logits();
      std::ranges::copy(next, steps.view().row(b * max_new_tokens + step).begin());
      best[static_cast<std::size_t>(b)] = static_cast<TokenId>(std::ranges::max_element(next) - next.begin());
      ids[static_cast<std::size_t>(b * max_new_tokens + step)] = best[static_cast<std::size_t>(b)];
    }
  }
  out.push_back(NamedTensor::int64s("generated_ids", {batch, max_new_tokens}, ids));
  record.add("generated_logits", {batch, max_new_tokens, decoder.vocab_size()}, steps);
  return out;
}

namespace detail {

inline const VisualInput& required_pixels(const ReferenceInputs& inputs) {
  if (inputs.pixel_values) return *inputs.pixel_values;
  throw Error(ErrorKind::kInvalidArgument, "inputs.pixel_values", "nothing", "an image for a vision model");
}

/// Of each text, the tokens that are no padding.
inline std::vector<kernels::KeyRange> seen_tokens(const ReferenceInputs& inputs) {
  std::vector<kernels::KeyRange> seen;
  for (Index b = 0; b < inputs.batch; ++b) {
    const auto [begin, end] = inputs.unpadded(b);
    seen.push_back({begin, end});
  }
  return seen;
}

/// The ids as input of a text encoder of these sizes.
/// Errors  kInvalidArgument for ids out of range; kContextFull
inline TextInput checked_texts(const DecoderConfig& config, const ReferenceInputs& inputs, std::span<const kernels::KeyRange> seen) {
  for (const TokenId id : inputs.input_ids) {
    if (id >= 0 && id < config.vocab_size) continue;
    throw Error(ErrorKind::kInvalidArgument, "inputs.input_ids", std::to_string(id), concat("between 0 and ", config.vocab_size - 1));
  }
  if (inputs.length > config.max_position_embeddings) {
    throw Error(ErrorKind::kContextFull, "inputs.input_ids", concat(inputs.length, " tokens"),
                concat("at most max_position_embeddings, ", config.max_position_embeddings));
  }
  return {inputs.input_ids, inputs.batch, seen};
}

}  // namespace detail

/// A text encoder on its own: its stages, its rows, and the one that stands for each text.
template <class Stack>
std::vector<NamedTensor> reference_forward(const TextEncoder<Stack>& model, const ReferenceInputs& inputs, Index,
                                           const PromptRules&, Compute compute, KeyValueFormat = KeyValueFormat::kF32) {
  std::vector<NamedTensor> out;
  StageRecorder record(out);
  Workspace workspace(compute);
  if (inputs.input_ids.empty()) throw Error(ErrorKind::kInvalidArgument, "inputs.input_ids", "no tokens", "at least one");
  const std::vector<kernels::KeyRange> seen = detail::seen_tokens(inputs);
  const TextInput texts = detail::checked_texts(model.stack().config(), inputs, seen);
  record.set_groups(inputs.batch);
  const auto frame = workspace.frame();
  const MatrixView rows = model.encode(texts, workspace, record);
  record.add("last_hidden_state", {inputs.batch, inputs.length, rows.cols()}, rows);
  const Matrix pooled = model.pool(texts, rows);
  record.add("pooler_output", {inputs.batch, rows.cols()}, pooled);
  if (model.projects()) {
    const Matrix embeds = model.project(pooled, workspace);
    record.add("text_embeds", {inputs.batch, embeds.cols()}, embeds);
  }
  return out;
}

/// A vision model on its own: its stages and what its heads say.
template <class Vision>
std::vector<NamedTensor> reference_forward(const ImageClassifier<Vision>& model, const ReferenceInputs& inputs, Index,
                                           const PromptRules&, Compute compute, KeyValueFormat = KeyValueFormat::kF32) {
  std::vector<NamedTensor> out;
  StageRecorder record(out);
  Workspace workspace(compute);
  const VisualInput& pixels = detail::required_pixels(inputs);
  record.set_groups(pixels.num_crops());
  const auto frame = workspace.frame();
  const Features features = model.vision().encode(pixels, workspace, record);
  record(Stage::kFinalNorm, 0, features.rows);
  const auto add = [&](const char* name, ConstMatrixView rows) { record.add(name, {rows.rows(), rows.cols()}, rows); };
  if (model.num_labels() > 0) {
    add("logits", model.classify(features, workspace));
    return out;
  }
  // Crops of different sizes are one sequence, as in Pixtral.
  const Index rows = features.rows.rows(), crops = std::max<Index>(1, pixels.num_crops());
  const bool alike = std::ranges::all_of(features.crops, [&](const Features::Crop& crop) { return crop.count * crops == rows; });
  record.add("last_hidden_state", {alike ? crops : 1, alike ? rows / crops : rows, features.rows.cols()}, features.rows);
  if (model.pools()) {
    const Matrix pooled = model.pool(features, workspace);
    add("pooler_output", pooled);
    if (model.projects()) add("image_embeds", model.project(pooled, workspace));
  }
  return out;
}

/// An image tower with its projector: "projected" is what the reference's forward() returns.
template <class Vision, class Projection>
std::vector<NamedTensor> reference_forward(const ProjectedVision<Vision, Projection>& model, const ReferenceInputs& inputs, Index,
                                           const PromptRules&, Compute compute, KeyValueFormat = KeyValueFormat::kF32) {
  std::vector<NamedTensor> out;
  StageRecorder record(out);
  Workspace workspace(compute);
  static_cast<void>(model.encode(detail::required_pixels(inputs), workspace, record));
  return out;
}

/// Both towers of a contrastive model and how their outputs compare.
template <class Vision, class Text>
std::vector<NamedTensor> reference_forward(const ContrastiveModel<Vision, Text>& model, const ReferenceInputs& inputs, Index,
                                           const PromptRules&, Compute compute, KeyValueFormat = KeyValueFormat::kF32) {
  std::vector<NamedTensor> out;
  StageRecorder record(out);
  Workspace workspace(compute);
  std::optional<Matrix> images, texts;
  if (inputs.pixel_values) {
    record.set_groups(inputs.pixel_values->num_crops());
    images = model.embed_images(*inputs.pixel_values, workspace, record);
    record.add("image_embeds", {images->rows(), images->cols()}, *images);
  }
  if (!inputs.input_ids.empty()) {
    const std::vector<kernels::KeyRange> seen = detail::seen_tokens(inputs);
    record.set_groups(inputs.batch);
    texts = model.embed_texts(detail::checked_texts(model.text().stack().config(), inputs, seen), workspace, record);
    record.add("text_embeds", {texts->rows(), texts->cols()}, *texts);
    for (std::size_t i = 0, n = out.size(); i < n; ++i) {  // the golden files' name for the text tower's output
      if (out[i].name == "final_norm") out.push_back({"text_out", out[i].dtype, out[i].shape, out[i].data});
    }
  }
  if (images && texts) {
    Matrix per_image(images->rows(), texts->rows()), per_text(texts->rows(), images->rows());
    for (Index i = 0; i < images->rows(); ++i) {
      for (Index j = 0; j < texts->rows(); ++j) {
        const std::span<const float> a = std::as_const(*images).view().row(i), b = std::as_const(*texts).view().row(j);
        per_image(i, j) = per_text(j, i) = model.logit_scale() * std::inner_product(a.begin(), a.end(), b.begin(), 0.0f) + model.logit_bias();
      }
    }
    record.add("logits_per_image", {per_image.rows(), per_image.cols()}, per_image);
    record.add("logits_per_text", {per_text.rows(), per_text.cols()}, per_text);
  }
  return out;
}

}  // namespace duet
