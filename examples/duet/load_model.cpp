#include "load_model.hpp"

#include "duet/zoo/load_any.hpp"
#include "duet/zoo/prompts_any.hpp"

duet::DType dtype_named(std::string_view name) {
  using duet::DType;
  for (const auto& [known, dtype] : {std::pair("f32", DType::kF32), {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"q8", DType::kQ8_0},
                                     {"q4", DType::kQ4_0}}) {
    if (name == known) return dtype;
  }
  throw duet::Error(duet::ErrorKind::kInvalidArgument, "--weights", name, "f32, f16, bf16, q8 or q4");
}

duet::LoadOptions load_options(const std::string& weights, int threads) {
  duet::LoadOptions options{threads};
  if (!weights.empty()) options.weights = dtype_named(weights);
  return options;
}

std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options) {
  return duet::load_any(folder, options);
}

duet::PromptEncoder load_prompts(const std::filesystem::path& folder) { return duet::prompts_any(duet::CheckpointFolder(folder)); }

std::shared_ptr<const duet::Processor> load_processor(const std::filesystem::path& folder) {
  return duet::processor_any(duet::CheckpointFolder(folder));
}
