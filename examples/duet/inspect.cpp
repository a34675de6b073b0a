#include <cstdio>
#include <iostream>

#include "commands.hpp"
#include "load_model.hpp"
#include "duet/kernels/kernel_table.hpp"

int inspect(const std::string& folder, bool json) {
  const auto model = load_model(folder);
  const duet::ModelInfo& info = model->info();
  nlohmann::ordered_json result;
  result["family"] = info.family;
  result["model_type"] = info.model_type;
  result["fusion"] = info.fusion;
  result["parameters"] = info.parameters;
  result["weight_bytes"] = info.weight_bytes;
  result["dtypes"] = info.dtypes;
  if (info.context > 0) {
    result["context"] = info.context;
    result["vocab_size"] = info.vocab_size;
    result["hidden_size"] = info.hidden_size;
    result["num_hidden_layers"] = info.num_hidden_layers;
    result["num_attention_heads"] = info.num_attention_heads;
    result["num_key_value_heads"] = info.num_key_value_heads;
    result["head_dim"] = info.head_dim;
    for (std::size_t i = 0; i < duet::kKeyValueFormatNames.size(); ++i) {  // of all layers
      result["kv_bytes_per_token"][std::string(duet::kKeyValueFormatNames[i])] = info.kv_bytes_per_token(static_cast<duet::KeyValueFormat>(i));
    }
  }
  if (info.image_size > 0) {
    if (info.image_width == info.image_size) {
      result["image_size"] = info.image_size;
    } else {
      result["image_size"] = {info.image_size, info.image_width};
    }
    result["patch_size"] = info.patch_size;
    result["vision_hidden_size"] = info.vision_hidden_size;
    result["vision_layers"] = info.vision_layers;
    result["tokens_per_image"] = info.tokens_per_image;
  }
  result["kernels"] = model->compute().kernels->name;
  result["unused_tensors"] = info.unused_tensors;
  if (json) {
    std::cout << result.dump() << '\n';
    return 0;
  }
  for (const auto& [key, value] : result.items()) {
    if (key == "unused_tensors") continue;
    std::printf("%-20s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
  std::printf("%-20s %zu\n", "unused_tensors", info.unused_tensors.size());
  for (const std::string& name : info.unused_tensors) std::printf("  %s\n", name.c_str());
  return 0;
}
