#pragma once

#include <string>
#include <vector>

#include "duet/models/decoder.hpp"
#include "duet/models/projectors.hpp"
#include "duet/zoo/family.hpp"

namespace duet {

/// What LLaVA's descendants share whatever their tower is: an MLP projector, a text model of another family, and how config.json
/// speaks of them.
template <class TextFamily>
struct LlavaFrame {
  using Projector = MlpProjector<ConfiguredActivation>;
  using Text = Decoder<typename TextFamily::Recipe>;

  static Text load_text(const JsonView& config, const Weights& root) {
    const bool old_names = !root.contains("model.multi_modal_projector.linear_1.weight");
    return TextFamily::load_decoder(config.object_or_empty("text_config"), root, TextFamily::inside_vlm(), old_names ? "language_model" : "");
  }
  static Projector load_projector(const JsonView& config, const Weights& root, Index input_size, Index output_size) {
    ProjectorConfig projector;
    projector.input_size = input_size;
    projector.output_size = output_size;
    projector.projector_hidden_act = config.get_or<std::string>("projector_hidden_act", "gelu");
    projector.bias = read_bias(config, "multimodal_projector_bias", true);
    return {projector, first_under(root, {"multi_modal_projector", "model.multi_modal_projector"}, "linear_1.weight")};
  }
  /// Hidden states of the tower that the projector reads: one number or several.
  static std::vector<Index> read_feature_layers(const JsonView& config) {
    if (!config.contains("vision_feature_layer")) return {config.get_or<std::string>("model_type", "") == "llava_onevision" ? -1 : -2};
    const JsonView layers = config.at("vision_feature_layer");
    return layers.json().is_array() ? layers.as<std::vector<Index>>() : std::vector<Index>{layers.as<Index>()};
  }
};

}  // namespace duet
