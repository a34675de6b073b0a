#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/named_tensor.hpp"
#include "duet/models/stages.hpp"

namespace duet {

/// Copies what a model shows on its way, under the names that the golden files use.
class StageRecorder {
 public:
  static constexpr bool kLooks = true;

  explicit StageRecorder(std::vector<NamedTensor>& out) : out_(&out) {}
  /// The leading extents that the next stages' rows stand for: [groups, rows / groups, width].
  void set_groups(Index groups) noexcept { groups_ = groups; }

  void operator()(Stage stage, Index index, ConstMatrixView rows) {
    static constexpr std::string_view kNames[] = {"vision_embeds", "vision_layer_out.", "vision_out", "projected", "packed_image_features",
                                                  "embeds", "cross_attn_out.", "layer_out.", "final_norm"};
    std::string name(kNames[static_cast<std::size_t>(stage)]);
    if (name.ends_with('.')) name += std::to_string(index);
    const Index groups = groups_ == 0 || rows.rows() % groups_ != 0 ? 1 : groups_;  // crops of different sizes make no groups
    add(std::move(name), {groups, rows.rows() / groups, rows.cols()}, rows);
  }
  void add(std::string name, std::vector<Index> shape, ConstMatrixView rows) {
    std::vector<float> values;
    for (Index i = 0; i < rows.rows(); ++i) values.insert(values.end(), rows.row(i).begin(), rows.row(i).end());
    out_->push_back(NamedTensor::floats(std::move(name), std::move(shape), values));
  }
  /// factor · a stage that was recorded, under another name.
  void add_scaled(std::string name, std::string_view stage, float factor) {
    const auto it = std::ranges::find(*out_, stage, &NamedTensor::name);
    std::vector<float> values(it->data.size() / sizeof(float));
    std::memcpy(values.data(), it->data.data(), it->data.size());
    for (float& value : values) value *= factor;
    out_->push_back(NamedTensor::floats(std::move(name), it->shape, values));
  }

 private:
  std::vector<NamedTensor>* out_;
  Index groups_ = 1;
};

}  // namespace duet
