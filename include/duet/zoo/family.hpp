#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/layers/positions.hpp"
#include "duet/models/decoder_config.hpp"
#include "duet/pipeline/prompt_rules.hpp"
#include "duet/zoo/model_type.hpp"

namespace duet {

/// Where a part's tensors may lie, in the spellings of the reference's versions.
using Prefixes = std::vector<std::string_view>;

/// The first of `prefixes` under which the checkpoint holds `probe`, a name in Duet's words; the first one if none does,
/// so that what is missing is reported by its usual name.
inline Weights first_under(const Weights& weights, const Prefixes& prefixes, std::string_view probe,
                           std::span<const TensorName> names = {}) {
  for (const std::string_view prefix : prefixes) {
    const Weights candidate = weights.under(prefix).named(names);
    if (candidate.contains(probe)) return candidate;
  }
  return weights.under(prefixes.front()).named(names);
}

/// A value that has had several names.
/// Errors  kConfigMismatch when config.json gives it under two of them and they differ
template <class T>
T read_any(const JsonView& config, std::initializer_list<std::string_view> keys, T fallback) {
  std::string_view first;
  for (const std::string_view key : keys) {
    if (!config.contains(key)) continue;
    if (first.empty()) {
      first = key;
    } else if (config.get<T>(key) != config.get<T>(first)) {
      throw Error(ErrorKind::kConfigMismatch, config.at(key).where(), config.at(key).shown(),
                  concat("the same as ", first, ", ", config.at(first).shown()), "they are two names of one value");
    }
  }
  return first.empty() ? std::move(fallback) : config.get<T>(first);
}

/// A number whose absence stands for `fallback`, and null for none.
template <class T>
std::optional<T> read_nullable(const JsonView& config, std::string_view key, std::optional<T> fallback) {
  if (config.contains(key)) return config.get<T>(key);
  return config.is_null(key) ? std::nullopt : fallback;
}

/// What absent keys of a rotation stand for.
struct RopeDefaults {
  RopeDefaults(float theta, Index context = 0, Index original_context = 0)
      : rope_theta(theta), max_position_embeddings(context), original_max_position_embeddings(original_context) {}
  float rope_theta;
  Index max_position_embeddings;
  Index original_max_position_embeddings;  ///< 0: max_position_embeddings
};

/// rope_theta, rope_scaling (old) or rope_parameters (new), which may hold one object for each type of layer.
inline RopeConfig read_rope(const JsonView& config, RopeDefaults defaults, std::string_view layer_type = "full_attention") {
  const bool is_new = config.contains("rope_parameters");
  JsonView scaling = config.object_or_empty(is_new ? "rope_parameters" : "rope_scaling");
  if (scaling.contains(layer_type)) scaling = scaling.object_or_empty(layer_type);
  RopeConfig rope;
  rope.rope_theta = scaling.get_or("rope_theta", config.get_or("rope_theta", defaults.rope_theta));
  // A rope_scaling that does not say of which type it is, is refused as one of an unknown type.
  rope.rope_type = scaling.get_any<std::string>({"rope_type", "type"}, is_new || scaling.json().empty() ? "default" : "");
  // Older spellings of one type.
  if (rope.rope_type == "su" || (rope.rope_type == "yarn" && scaling.contains("short_factor"))) rope.rope_type = "longrope";
  if (rope.rope_type == "mrope") rope.rope_type = "default";
  rope.partial_rotary_factor = scaling.get_or("partial_rotary_factor", config.get_or("partial_rotary_factor", 1.0f));
  rope.low_freq_factor = scaling.get_or("low_freq_factor", 1.0f);
  rope.high_freq_factor = scaling.get_or("high_freq_factor", 4.0f);
  rope.mrope_section = scaling.get_or<std::vector<Index>>("mrope_section", {});

  const auto context = config.get_or("max_position_embeddings", defaults.max_position_embeddings);
  const auto original = scaling.get_or("original_max_position_embeddings",
                                       config.get_or("original_max_position_embeddings", defaults.original_max_position_embeddings));
  rope.original_max_position_embeddings = original > 0 ? original : context;
  const float longer = original > 0 ? static_cast<float>(context) / static_cast<float>(original) : 1.0f;
  if (rope.rope_type == "longrope") {
    rope.factor = original > 0 ? longer : scaling.get_or("factor", 1.0f);
  } else if (rope.rope_type == "yarn") {
    rope.factor = scaling.get_or("factor", longer);
  } else if (rope.rope_type == "linear" || rope.rope_type == "llama3") {
    rope.factor = scaling.get<float>("factor");
  }
  if (rope.rope_type == "longrope") {
    rope.short_factor = scaling.get<std::vector<float>>("short_factor");
    rope.long_factor = scaling.get<std::vector<float>>("long_factor");
  }
  const bool scales = rope.rope_type == "longrope" || rope.rope_type == "yarn";
  if (scales && scaling.contains("attention_factor")) rope.attention_factor = scaling.get<float>("attention_factor");
  rope.beta_fast = scaling.get_or("beta_fast", 32.0f);
  rope.beta_slow = scaling.get_or("beta_slow", 1.0f);
  rope.mscale = scaling.get_or("mscale", 0.0f);
  rope.mscale_all_dim = scaling.get_or("mscale_all_dim", 0.0f);
  return rope;
}

/// How many labels a classifier tells apart.
inline Index read_num_labels(const JsonView& config) {
  if (config.contains("id2label")) return static_cast<Index>(config.at("id2label").json().size());
  return config.get_or<Index>("num_labels", 2);
}

/// The layers with a sliding window: as layer_types lists them (new), else those of which slides(i) holds (old).
/// Errors  kConfigMismatch for a list of another length; kUnsupportedModel for a type of layer that is not known
template <class Slides>
std::vector<Index> read_sliding_layers(const JsonView& config, Index num_hidden_layers, Slides&& slides) {
  std::vector<Index> layers;
  if (!config.contains("layer_types")) {
    for (Index i = 0; i < std::min(num_hidden_layers, kLargestWidth); ++i) {
      if (slides(i)) layers.push_back(i);
    }
    return layers;
  }
  const std::vector<JsonView> types = config.at("layer_types").elements();
  if (static_cast<Index>(types.size()) != num_hidden_layers) {
    throw Error(ErrorKind::kConfigMismatch, config.at("layer_types").where(), concat(types.size(), " types"),
                concat("num_hidden_layers, ", num_hidden_layers));
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto type = types[i].as<std::string>();
    if (type == "sliding_attention") {
      layers.push_back(static_cast<Index>(i));
    } else if (type != "full_attention") {
      throw Error(ErrorKind::kUnsupportedModel, types[i].where(), '"' + type + '"', "full_attention or sliding_attention");
    }
  }
  return layers;
}

/// Whether `key` holds a true boolean, as a requirement for biases.
inline Weights::Bias read_bias(const JsonView& config, std::string_view key, bool fallback) {
  return config.get_or(key, fallback) ? Weights::Bias::kRequired : Weights::Bias::kNone;
}

/// Every head has keys and values of its own, and together they are as wide as the rows.
/// Errors  kInvalidArgument, said of `where`, when the heads do not share the width out
inline void set_equal_heads(DecoderConfig& config, const std::string& where) {
  config.num_key_value_heads = config.num_attention_heads;
  if (config.num_attention_heads <= 0 || config.hidden_size % config.num_attention_heads != 0) {
    throw Error(ErrorKind::kInvalidArgument, where, std::to_string(config.num_attention_heads),
                concat("a divisor of the rows' width, ", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.num_attention_heads;
}

}  // namespace duet
