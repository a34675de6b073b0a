#include <charconv>
#include <cstdio>
#include <iostream>

#include "commands.hpp"
#include "load_model.hpp"
#include "duet/kernels/kernel_table.hpp"

namespace {

void print(const nlohmann::ordered_json& result) {
  for (const auto& [key, value] : result.items()) {
    if (key == "unused_tensors") continue;
    std::printf("%-20s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
}

/// What a picture of a size becomes.
int inspect_picture(const InspectOptions& options) {
  const auto wrong = [&] {
    return duet::Error(duet::ErrorKind::kInvalidArgument, "--image-size", options.image_size, "WIDTHxHEIGHT, as 640x480");
  };
  duet::PictureSize size;
  const char *at = options.image_size.data(), *end = at + options.image_size.size();
  for (duet::Index* edge : {&size.width, &size.height}) {
    const auto [next, error] = std::from_chars(at, end, *edge);
    if (error != std::errc() || *edge < 1 || *edge > duet::Image::kMaxPixels) throw wrong();
    if (edge == &size.width ? next == end || *next != 'x' : next != end) throw wrong();
    at = next + 1;
  }
  if (size.width > duet::Image::kMaxPixels / size.height) {
    throw duet::Error(duet::ErrorKind::kInvalidArgument, "--image-size", options.image_size, duet::concat("at most ", duet::Image::kMaxPixels, " pixels"));
  }
  const auto processor = load_processor(options.model);
  const duet::PicturePlan plan = processor->plan(size);
  nlohmann::ordered_json result;
  result["width"] = size.width;
  result["height"] = size.height;
  result["resized_width"] = plan.resized.width;
  result["resized_height"] = plan.resized.height;
  result["tiles"] = plan.num_crops;  // views of the whole among them
  result["tile_rows"] = plan.tile_rows;
  result["tile_cols"] = plan.tile_cols;
  result["image_tokens"] = processor->rules().image_token_id ? processor->prompt_tokens(plan) : plan.num_tokens;
  result["image_rows"] = plan.num_tokens;  // that the decoder reads: in a visual memory they are others than the prompt's tokens
  if (options.json) {
    std::cout << result.dump() << '\n';
  } else {
    print(result);
  }
  return 0;
}

}  // namespace

int inspect(const InspectOptions& options) {
  if (!options.image_size.empty()) return inspect_picture(options);
  const auto model = load_model(options.model);
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
  if (options.json) {
    std::cout << result.dump() << '\n';
    return 0;
  }
  print(result);
  std::printf("%-20s %zu\n", "unused_tensors", info.unused_tensors.size());
  for (const std::string& name : info.unused_tensors) std::printf("  %s\n", name.c_str());
  return 0;
}
