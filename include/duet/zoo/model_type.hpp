#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/json.hpp"

namespace duet {

/// How config.json names a family: by its model_type and, where that leaves several, by those of parts within it.
struct ModelType {
  enum class Absent : unsigned char { kRefused, kTaken };
  struct Part {
    std::string_view key;               ///< where the part's config stands: "text_config"
    std::string_view name;              ///< its model_type
    Absent absent = Absent::kRefused;   ///< whether a config without that key is meant, too
  };
  std::string_view name;
  std::array<Part, 2> parts = {};
};

/// A line of the table of models: what a family is made of. Its fusion is the model's type to tell.
struct FamilyCard {
  std::string_view encoder, projector, decoder;
};

/// `name` with a part for pictures and each of a text family's kinds of text_config; the first of them if there is none.
template <std::size_t N>
constexpr std::array<ModelType, N> with_text(std::string_view name, ModelType::Part vision, const std::array<ModelType, N>& texts) {
  std::array<ModelType, N> types{};
  for (std::size_t i = 0; i < N; ++i) {
    types[i] = {name, {vision, {"text_config", texts[i].name, i == 0 ? ModelType::Absent::kTaken : ModelType::Absent::kRefused}}};
  }
  return types;
}
/// Two lists as one.
template <class T, std::size_t N, std::size_t M>
constexpr std::array<T, N + M> joined(const std::array<T, N>& a, const std::array<T, M>& b) {
  std::array<T, N + M> both{};
  std::copy(a.begin(), a.end(), both.begin());
  std::copy(b.begin(), b.end(), both.begin() + N);
  return both;
}

namespace detail {

inline bool is_part(const JsonView& config, const ModelType::Part& part) {
  const auto inner = config.object_or_empty(part.key).get_or<std::string>("model_type", "");
  return inner == part.name || (inner.empty() && part.absent == ModelType::Absent::kTaken);
}

/// Whether config.json names the class among its architectures.
inline bool has_architecture(const JsonView& config, std::string_view name) {
  const auto architectures = config.get_or("architectures", std::vector<std::string>());
  return std::ranges::find(architectures, name) != architectures.end();
}

/// What a model_type and the name of a class have in common: letters and digits in lower case.
inline std::string bare_name(std::string_view text) {
  std::string bare;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) bare += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return bare;
}

/// Whether the config names `type`: model_type, or, where there is none, the class in `architectures`, which is the name with what
/// the model is for behind it (LlamaForCausalLM).
inline bool is_named(const JsonView& config, std::string_view type) {
  if (const auto named = config.get_or<std::string>("model_type", ""); !named.empty()) return named == type;
  const auto architectures = config.get_or<std::vector<std::string>>("architectures", {});
  if (architectures.empty()) return false;
  std::string bare = bare_name(architectures.front());
  for (const std::string_view ending : {"forconditionalgeneration", "forcausallm", "forimageclassification", "lmheadmodel", "model"}) {
    if (bare == bare_name(type)) return true;
    if (bare.ends_with(ending)) bare.resize(bare.size() - ending.size());
  }
  return bare == bare_name(type);
}

inline bool takes(const JsonView& config, std::span<const ModelType> types) {
  return std::ranges::any_of(types, [&](const ModelType& type) {
    return is_named(config, type.name) && std::ranges::all_of(type.parts, [&](const ModelType::Part& part) {
             return part.key.empty() || is_part(config, part);
           });
  });
}

/// Why none of `known` takes the config: an unknown model_type, or a known one with a part that it is not known with.
inline Error unknown_model(const JsonView& config, std::span<const ModelType> known) {
  const auto listed = [](const std::vector<std::string_view>& names) {
    std::vector<std::string_view> once;
    for (const std::string_view name : names) {
      if (std::ranges::find(once, name) == once.end()) once.push_back(name);
    }
    std::string text;
    for (std::size_t i = 0; i < once.size(); ++i) text += concat(i == 0 ? "" : i + 1 == once.size() ? " or " : ", ", once[i]);
    return text;
  };
  std::vector<ModelType> named;
  std::vector<std::string_view> all;
  for (const ModelType& type : known) {
    all.push_back(type.name);
    if (is_named(config, type.name)) named.push_back(type);
  }
  if (named.empty()) {
    const auto type = config.get_or<std::string>("model_type", "");
    return {ErrorKind::kUnsupportedModel, "config.json: model_type", type.empty() ? "nothing" : '"' + type + '"', concat("one of ", listed(all)),
            type.empty() ? "is this the config.json of a transformers checkpoint?" : "Duet's zoo does not have this family"};
  }
  // The first part that none of those left is known with.
  for (std::size_t i = 0; i < named.front().parts.size(); ++i) {
    std::vector<ModelType> left;
    std::vector<std::string_view> parts;
    for (const ModelType& type : named) {
      if (!type.parts[i].key.empty()) parts.push_back(type.parts[i].name);
      if (type.parts[i].key.empty() || is_part(config, type.parts[i])) left.push_back(type);
    }
    if (left.empty()) {
      const std::string_view key = named.front().parts[i].key;
      const auto inner = config.object_or_empty(key).get_or<std::string>("model_type", "");
      return {ErrorKind::kUnsupportedModel, concat("config.json: ", key, ".model_type"), inner.empty() ? "nothing" : '"' + inner + '"', listed(parts),
              "Duet's zoo does not have this family with such a part"};
    }
    named = std::move(left);
  }
  return {ErrorKind::kUnsupportedModel, "config.json: model_type", config.get_or<std::string>("model_type", ""), listed(all)};
}

}  // namespace detail
}  // namespace duet
