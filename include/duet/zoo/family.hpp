#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/layers/positions.hpp"
#include "duet/pipeline/prompt_rules.hpp"

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

/// rope_theta, rope_scaling (old) or rope_parameters (new).
inline RopeConfig read_rope(const JsonView& config, float default_theta) {
  const bool is_new = config.contains("rope_parameters");
  const JsonView scaling = config.object_or_empty(is_new ? "rope_parameters" : "rope_scaling");
  RopeConfig rope;
  rope.rope_theta = scaling.get_or("rope_theta", config.get_or("rope_theta", default_theta));
  // A rope_scaling that does not say of which type it is, is refused as one of an unknown type.
  rope.rope_type = scaling.get_any<std::string>({"rope_type", "type"}, is_new || scaling.json().empty() ? "default" : "");
  rope.factor = rope.rope_type == "linear" || rope.rope_type == "llama3" ? scaling.get<float>("factor") : 1.0f;
  rope.low_freq_factor = scaling.get_or("low_freq_factor", 1.0f);
  rope.high_freq_factor = scaling.get_or("high_freq_factor", 4.0f);
  rope.original_max_position_embeddings = scaling.get_or<Index>(
      "original_max_position_embeddings", config.get_or<Index>("max_position_embeddings", 0));
  rope.partial_rotary_factor = scaling.get_or("partial_rotary_factor", config.get_or("partial_rotary_factor", 1.0f));
  return rope;
}

/// How many labels a classifier tells apart.
inline Index read_num_labels(const JsonView& config) {
  if (config.contains("id2label")) return static_cast<Index>(config.at("id2label").json().size());
  return config.get_or<Index>("num_labels", 2);
}

/// Whether `key` holds a true boolean, as a requirement for biases.
inline Weights::Bias read_bias(const JsonView& config, std::string_view key, bool fallback) {
  return config.get_or(key, fallback) ? Weights::Bias::kRequired : Weights::Bias::kNone;
}

}  // namespace duet
