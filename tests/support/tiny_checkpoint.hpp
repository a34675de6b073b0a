#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/safetensors_writer.hpp"
#include "duet/pipeline/any_model.hpp"
#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {

/// Names of a checkpoint's tensors, and their shapes.
using Shapes = std::map<std::string, std::vector<Index>>;

/// A checkpoint folder of small pseudo-random weights. A tensor's values come from its name as given here, so that a
/// checkpoint saved under other names is the same model.
struct TinyCheckpoint {
  nlohmann::json config;
  Shapes shapes;
  std::function<std::string(const std::string&)> stored_name = [](const std::string& name) { return name; };

  [[nodiscard]] TinyCheckpoint with(const nlohmann::json& changes) const {
    TinyCheckpoint result = *this;
    result.config.merge_patch(changes);
    return result;
  }
  [[nodiscard]] TinyCheckpoint without(const char* pointer) const {
    TinyCheckpoint result = *this;
    const nlohmann::json::json_pointer at(pointer);
    result.config.at(at.parent_pointer()).erase(at.back());
    return result;
  }
  /// Saved with other beginnings of names: the first row that fits says which.
  [[nodiscard]] TinyCheckpoint renamed(std::vector<std::pair<std::string, std::string>> beginnings) const {
    TinyCheckpoint result = *this;
    result.stored_name = [beginnings = std::move(beginnings)](const std::string& name) {
      for (const auto& [from, to] : beginnings) {
        if (name.starts_with(from)) return to + name.substr(from.size());
      }
      return name;
    };
    return result;
  }

  [[nodiscard]] std::shared_ptr<const AnyModel> load() const {
    const test::TempFolder folder;
    folder.write("config.json", config.dump());
    std::vector<NamedTensor> tensors;
    for (const auto& [name, shape] : shapes) tensors.push_back(NamedTensor::floats(stored_name(name), shape, values(name, shape)));
    write_safetensors(folder.path() / "model.safetensors", tensors);
    return load_model(folder.path(), {.threads = 1});
  }
  /// The stages of a forward pass.
  std::map<std::string, std::vector<float>> run(const ReferenceInputs& inputs, Index max_new_tokens = 0) const {
    std::map<std::string, std::vector<float>> result;
    const std::shared_ptr<const AnyModel> model = load();
    ReferenceInputs arranged = inputs;
    if (arranged.processor == nullptr) arranged.processor = model->processor().get();
    for (const NamedTensor& tensor : forward_model(*model, arranged, max_new_tokens)) {
      auto& stage = result[tensor.name];
      stage.resize(tensor.data.size() / sizeof(float));
      std::memcpy(stage.data(), tensor.data.data(), tensor.data.size());
    }
    return result;
  }

 private:
  static std::vector<float> values(std::string_view name, const std::vector<Index>& shape) {
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    std::uint64_t state = 1469598103934665603u;
    for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 1099511628211u;
    const float center = name.find("norm") != std::string_view::npos && name.ends_with("weight") ? 1.0f : 0.0f;
    std::vector<float> result;
    for (Index i = 0; i < size; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      result.push_back(center + static_cast<float>(state >> 40) / 16777216.0f - 0.5f);
    }
    return result;
  }
};

inline void add_norm(Shapes& shapes, const std::string& name, Index size) {
  shapes[name + ".weight"] = shapes[name + ".bias"] = {size};
}
inline void add_linear(Shapes& shapes, const std::string& name, Index in, Index out, bool bias = true) {
  shapes[name + ".weight"] = {out, in};
  if (bias) shapes[name + ".bias"] = {out};
}
inline Shapes together(Shapes a, const Shapes& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// The parts of tiny checkpoints, as the Hub names them. All have two layers of two heads.

inline nlohmann::json tiny_gpt2_config() {
  return {{"model_type", "gpt2"}, {"vocab_size", 23}, {"n_positions", 20}, {"n_embd", 12}, {"n_layer", 2}, {"n_head", 2}};
}
inline Shapes tiny_gpt2_shapes(const std::string& prefix, bool cross_attention = false) {
  Shapes shapes{{prefix + "wte.weight", {23, 12}}, {prefix + "wpe.weight", {20, 12}}};
  const auto conv = [&](const std::string& name, Index in, Index out) { add_linear(shapes, name, out, in), shapes[name + ".bias"] = {out}; };
  for (const char* layer : {"h.0.", "h.1."}) {
    const std::string h = prefix + layer;
    for (const char* norm : {"ln_1", "ln_2"}) add_norm(shapes, h + norm, 12);
    conv(h + "attn.c_attn", 12, 36), conv(h + "attn.c_proj", 12, 12), conv(h + "mlp.c_fc", 12, 48), conv(h + "mlp.c_proj", 48, 12);
    if (!cross_attention) continue;
    add_norm(shapes, h + "ln_cross_attn", 12);
    conv(h + "crossattention.c_attn", 12, 24), conv(h + "crossattention.q_attn", 12, 12), conv(h + "crossattention.c_proj", 12, 12);
  }
  add_norm(shapes, prefix + "ln_f", 12);
  return shapes;
}

inline nlohmann::json tiny_llama_config() {
  return {{"model_type", "llama"}, {"vocab_size", 23}, {"hidden_size", 12}, {"intermediate_size", 20}, {"num_hidden_layers", 2},
          {"num_attention_heads", 2}, {"max_position_embeddings", 20}};
}
inline Shapes tiny_llama_shapes(const std::string& prefix, const std::string& head) {
  Shapes shapes{{prefix + "embed_tokens.weight", {23, 12}}, {prefix + "norm.weight", {12}}, {head + "lm_head.weight", {23, 12}}};
  for (const char* layer : {"layers.0.", "layers.1."}) {
    const std::string l = prefix + layer;
    shapes[l + "input_layernorm.weight"] = shapes[l + "post_attention_layernorm.weight"] = {12};
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) add_linear(shapes, l + "self_attn." + name, 12, 12, false);
    for (const char* name : {"gate_proj", "up_proj"}) add_linear(shapes, l + "mlp." + name, 12, 20, false);
    add_linear(shapes, l + "mlp.down_proj", 20, 12, false);
  }
  return shapes;
}

inline nlohmann::json tiny_vit_config() {
  return {{"model_type", "vit"}, {"hidden_size", 12}, {"intermediate_size", 20}, {"num_hidden_layers", 2}, {"num_attention_heads", 2},
          {"image_size", 8}, {"patch_size", 4}};
}
inline Shapes tiny_vit_shapes(const std::string& prefix, Index num_patches = 4) {
  const std::string e = prefix + "embeddings.";
  Shapes shapes{{e + "patch_embeddings.projection.weight", {12, 3, 4, 4}}, {e + "patch_embeddings.projection.bias", {12}},
                {e + "cls_token", {1, 1, 12}}, {e + "position_embeddings", {1, num_patches + 1, 12}}};
  for (const char* layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    const std::string l = prefix + layer;
    for (const char* norm : {"layernorm_before", "layernorm_after"}) add_norm(shapes, l + norm, 12);
    for (const char* name : {"attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"}) {
      add_linear(shapes, l + name, 12, 12);
    }
    add_linear(shapes, l + "intermediate.dense", 12, 20);
    add_linear(shapes, l + "output.dense", 20, 12);
  }
  add_norm(shapes, prefix + "layernorm", 12);
  return shapes;
}

inline void add_clip_layers(Shapes& shapes, const std::string& prefix) {
  for (const char* layer : {"encoder.layers.0.", "encoder.layers.1."}) {
    const std::string l = prefix + layer;
    for (const char* norm : {"layer_norm1", "layer_norm2"}) add_norm(shapes, l + norm, 12);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) add_linear(shapes, l + "self_attn." + name, 12, 12);
    add_linear(shapes, l + "mlp.fc1", 12, 20);
    add_linear(shapes, l + "mlp.fc2", 20, 12);
  }
}
inline nlohmann::json tiny_clip_vision_config() {
  nlohmann::json config = tiny_vit_config();
  config["model_type"] = "clip_vision_model";
  return config;
}
inline Shapes tiny_clip_vision_shapes(const std::string& prefix) {
  const std::string e = prefix + "embeddings.";
  Shapes shapes{{e + "patch_embedding.weight", {12, 3, 4, 4}}, {e + "class_embedding", {12}}, {e + "position_embedding.weight", {5, 12}}};
  add_clip_layers(shapes, prefix);
  for (const char* norm : {"pre_layrnorm", "post_layernorm"}) add_norm(shapes, prefix + norm, 12);
  return shapes;
}
inline nlohmann::json tiny_clip_text_config() {
  return {{"model_type", "clip_text_model"}, {"vocab_size", 23}, {"hidden_size", 12}, {"intermediate_size", 20}, {"num_hidden_layers", 2},
          {"num_attention_heads", 2}, {"max_position_embeddings", 20}, {"eos_token_id", 22}};
}
inline Shapes tiny_clip_text_shapes(const std::string& prefix) {
  Shapes shapes{{prefix + "embeddings.token_embedding.weight", {23, 12}}, {prefix + "embeddings.position_embedding.weight", {20, 12}}};
  add_clip_layers(shapes, prefix);
  add_norm(shapes, prefix + "final_layer_norm", 12);
  return shapes;
}

inline nlohmann::json tiny_siglip_vision_config() {
  nlohmann::json config = tiny_vit_config();
  config["model_type"] = "siglip_vision_model";
  return config;
}
/// SigLIP's image tower, without the head that pools.
inline Shapes tiny_siglip_vision_shapes(const std::string& prefix, Index num_patches = 4) {
  const std::string e = prefix + "embeddings.";
  Shapes shapes{{e + "patch_embedding.weight", {12, 3, 4, 4}}, {e + "patch_embedding.bias", {12}}, {e + "position_embedding.weight", {num_patches, 12}}};
  add_clip_layers(shapes, prefix);
  add_norm(shapes, prefix + "post_layernorm", 12);
  return shapes;
}
inline Shapes tiny_siglip_head_shapes(const std::string& prefix) {
  Shapes shapes{{prefix + "probe", {1, 1, 12}}, {prefix + "attention.in_proj_weight", {36, 12}}, {prefix + "attention.in_proj_bias", {36}}};
  add_linear(shapes, prefix + "attention.out_proj", 12, 12);
  add_norm(shapes, prefix + "layernorm", 12);
  add_linear(shapes, prefix + "mlp.fc1", 12, 20);
  add_linear(shapes, prefix + "mlp.fc2", 20, 12);
  return shapes;
}
inline nlohmann::json tiny_siglip_text_config() {
  nlohmann::json config = tiny_clip_text_config();
  config["model_type"] = "siglip_text_model";
  config.erase("eos_token_id");
  return config;
}
inline Shapes tiny_siglip_text_shapes(const std::string& prefix) {
  Shapes shapes = tiny_clip_text_shapes(prefix);
  add_linear(shapes, prefix + "head", 12, 12);
  return shapes;
}
/// Gemma's text model of either generation: the first has two norms a block, the others four.
inline Shapes tiny_gemma_shapes(const std::string& prefix, bool four_norms) {
  Shapes shapes = tiny_llama_shapes(prefix, prefix);
  shapes.erase(prefix + "lm_head.weight");
  for (const char* layer : {"layers.0.", "layers.1."}) {
    if (!four_norms) continue;
    for (const char* norm : {"pre_feedforward_layernorm", "post_feedforward_layernorm"}) shapes[prefix + layer + norm + ".weight"] = {12};
  }
  return shapes;
}

/// The image tower of BLIP and BLIP-2.
inline Shapes tiny_blip_vision_shapes(const std::string& prefix) {
  const std::string e = prefix + "embeddings.";
  Shapes shapes{{e + "patch_embedding.weight", {12, 3, 4, 4}}, {e + "patch_embedding.bias", {12}}, {e + "class_embedding", {1, 1, 12}},
                {e + "position_embedding", {1, 5, 12}}};
  for (const char* layer : {"encoder.layers.0.", "encoder.layers.1."}) {
    const std::string l = prefix + layer;
    for (const char* norm : {"layer_norm1", "layer_norm2"}) add_norm(shapes, l + norm, 12);
    add_linear(shapes, l + "self_attn.qkv", 12, 36), add_linear(shapes, l + "self_attn.projection", 12, 12);
    add_linear(shapes, l + "mlp.fc1", 12, 20), add_linear(shapes, l + "mlp.fc2", 20, 12);
  }
  add_norm(shapes, prefix + "post_layernorm", 12);
  return shapes;
}

/// One row of ids.
inline ReferenceInputs tiny_text(std::vector<TokenId> ids = {3, 1, 4, 1, 5, 9, 2, 6}) {
  ReferenceInputs inputs;
  inputs.batch = 1;
  inputs.length = static_cast<Index>(ids.size());
  inputs.input_ids = std::move(ids);
  return inputs;
}
/// Some picture, with ids if there are any.
inline ReferenceInputs tiny_picture(ReferenceInputs inputs = {}, Index height = 8, Index width = 8) {
  VisualInput input;
  const std::span<float> pixels = input.add_whole({height, width});
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i * 37 % 199) / 100.0f - 1.0f;
  inputs.pixel_values = std::move(input);
  return inputs;
}

/// Crops of 8 x 8 pixels of one picture, whose plan is `plan`, with ids if there are any.
inline ReferenceInputs tiny_crops(const PicturePlan& plan, ReferenceInputs inputs = {}) {
  VisualInput input;
  input.add_picture(plan);
  for (Index k = 0; k < plan.num_crops; ++k) {
    const std::span<float> pixels = input.add_crop({8, 8});
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>((i * 37 + static_cast<std::size_t>(k) * 11) % 199) / 100.0f - 1.0f;
  }
  inputs.pixel_values = std::move(input);
  return inputs;
}

/// What loading or running complains about, or "".
template <class Act>
std::string complaint(Act&& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace duet::testing
