// preprocessor_config.json from a fuzzer: whatever it says, every family's processor gives a duet::Error, or plans and pixels that agree.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "duet/pipeline/processors/any_resolution.hpp"
#include "duet/pipeline/processors/fuyu.hpp"
#include "duet/pipeline/processors/gemma3.hpp"
#include "duet/pipeline/processors/idefics1.hpp"
#include "duet/pipeline/processors/idefics2.hpp"
#include "duet/pipeline/processors/idefics3.hpp"
#include "duet/pipeline/processors/mllama.hpp"
#include "duet/pipeline/processors/phi3_v.hpp"
#include "duet/pipeline/processors/pixtral.hpp"
#include "duet/pipeline/processors/qwen2_vl.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

/// Sizes of four digits are legitimate and slow: the fuzzer learns nothing from them.
bool may_be_large(std::string_view text) {
  std::size_t digits = 0;
  for (const char c : text) {
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits > 3) return true;
  }
  return false;
}

duet::Image picture(duet::Index width, duet::Index height) {
  std::vector<std::uint8_t> rgb;
  for (duet::Index i = 0; i < 3 * width * height; ++i) rgb.push_back(static_cast<std::uint8_t>(i * 7));
  return duet::Image::from_rgb(rgb, width, height);
}

/// A folder of this process's own, with a config.json of small tiles.
const std::filesystem::path& folder() {
  static const std::filesystem::path path = [] {
    auto made = std::filesystem::temp_directory_path() / ("duet-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directories(made);
    std::ofstream(made / "config.json") << R"({"patch_size": 8, "vision_config": {"image_size": 32, "patch_size": 8}})";
    return made;
  }();
  return path;
}

template <class Processor>
void prepare(bool only_plan) {
  try {
    duet::PromptRules rules;
    rules.image_token_id = 1;
    rules.tokens_per_image = 4;
    const Processor processor(rules, duet::CheckpointFolder(folder()));
    for (const auto& [width, height] : {std::pair<duet::Index, duet::Index>{37, 23}, {1, 9}, {90, 2}}) {
      const duet::PicturePlan plan = processor.plan({height, width});
      require(plan.num_crops >= 1 && plan.num_tokens >= 1 && plan.resized.height >= 1 && plan.resized.width >= 1);
      if (only_plan || plan.resized.height * plan.resized.width > 1'000'000) continue;
      duet::VisualInput input;
      processor.process(picture(width, height), input);
      require(input.num_pictures() == 1 && input.num_crops() >= plan.num_crops && input.pictures[0].num_tokens == plan.num_tokens);
      require(!processor.tensors(input).empty());
    }
  } catch (const duet::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::ofstream(folder() / "preprocessor_config.json", std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
  const bool only_plan = may_be_large(text);
  prepare<duet::SingleViewProcessor>(only_plan);
  prepare<duet::AnyResolutionProcessor>(only_plan);
  prepare<duet::FuyuProcessor>(only_plan);
  prepare<duet::Gemma3Processor>(only_plan);
  prepare<duet::Idefics1Processor>(only_plan);
  prepare<duet::Idefics2Processor>(only_plan);
  prepare<duet::Idefics3Processor>(only_plan);
  prepare<duet::MllamaProcessor>(only_plan);
  prepare<duet::Phi3VProcessor>(only_plan);
  prepare<duet::PixtralProcessor>(only_plan);
  prepare<duet::Qwen2VlProcessor>(only_plan);
  return 0;
}
