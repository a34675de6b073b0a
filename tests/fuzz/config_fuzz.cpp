// config.json from a fuzzer: whatever it says, a duet::Error, or a model of the zoo built from it. The weights are zeros of
// every shape that is asked for, as long as a real file could hold them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "duet/pipeline/generate.hpp"
#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace {

class Zeros {
 public:
  [[nodiscard]] std::optional<duet::TensorView> find(std::string_view name, std::span<const duet::Index> shape) const {
    duet::Index size = 1;
    bool too_large = ++asked_ > 1000;
    for (const duet::Index extent : shape) too_large = too_large || extent < 0 || __builtin_mul_overflow(size, extent, &size);
    if (too_large || size > static_cast<duet::Index>(zeros_.size())) {
      throw duet::Error(duet::ErrorKind::kMissingTensor, std::string(name), duet::shape_text(shape), "a tensor that fits this file");
    }
    return duet::TensorView{reinterpret_cast<const std::byte*>(zeros_.data()), duet::DType::kF32, {shape.begin(), shape.end()}};
  }
  [[nodiscard]] bool contains(std::string_view name) const { return name.ends_with("classifier.weight"); }
  [[nodiscard]] std::string where(std::string_view /*name*/) const { return "zeros"; }

 private:
  std::vector<float> zeros_ = std::vector<float>(std::size_t{1} << 20);
  mutable int asked_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const nlohmann::json json = duet::parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    const duet::JsonView config(json, "config.json");
    static_cast<void>(duet::GenerationDefaults::read(config, config));
    duet::with_family(config, [&](auto tag) {
      using Family = typename decltype(tag)::type;
      const Zeros zeros;
      const auto model = Family::load(config, duet::Weights(zeros));
      static_cast<void>(Family::rules(config));
      duet::ModelInfo info;
      duet::describe(model, info);
    });
  } catch (const duet::Error&) {
  }
  return 0;
}
