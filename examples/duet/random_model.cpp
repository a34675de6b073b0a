#include "random_model.hpp"

#include <utility>

#include "duet/io/random_weights.hpp"
#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace {

using duet::Index;

/// SigLIP's policies (Zhai et al. 2023, 2303.15343): no class token, and a norm on every row that comes out.
struct SiglipRecipe : duet::VisionRecipeDefaults {
  using Norm = duet::LayerNorm;
  using FeedForward = duet::FeedForward<duet::ConfiguredActivation>;
  using OutputNorm = duet::LayerNorm;
  using FirstRow = duet::NoClassToken;
};

struct Siglip {
  static constexpr std::string_view kName = "SigLIP";
  using Model = duet::ImageClassifier<duet::VisionTransformer<SiglipRecipe>>;
  static Model load(const duet::JsonView& config, const duet::Weights& root) {
    return {duet::VisionTransformer<SiglipRecipe>(duet::read_clip_vision_config(config), root), {}};
  }
};

template <class Family>
class RandomModel final : public duet::AnyModel, public std::enable_shared_from_this<RandomModel<Family>> {
 public:
  RandomModel(const nlohmann::json& config, duet::DType dtype, int threads)
      : weights_(dtype),
        model_(Family::load(duet::JsonView(config, "shape"), duet::Weights(weights_))),
        threads_(std::make_unique<duet::Threads>(threads)),
        compute_{&duet::kernels::best_kernel_table(), threads_.get()} {
    info_.family = info_.model_type = Family::kName;
    info_.dtypes = name_of(dtype);
    info_.weight_bytes = weights_.bytes();
    info_.parameters = static_cast<Index>(weights_.elements());
    describe(model_, info_);
  }

  [[nodiscard]] const duet::ModelInfo& info() const override { return info_; }
  [[nodiscard]] const std::shared_ptr<const duet::Processor>& processor() const override { return processor_; }
  [[nodiscard]] const std::optional<duet::ChatWording>& chat_wording() const override { return no_words_; }
  [[nodiscard]] const duet::CheckpointFolder& folder() const override { throw none("folder"); }
  [[nodiscard]] const duet::Compute& compute() const override { return compute_; }
  [[nodiscard]] std::unique_ptr<duet::AnySession> start(duet::SessionOptions options) const override {
    if constexpr (requires { model_.decoder(); }) {
      return std::make_unique<duet::SessionOf<typename Family::Model>>(this->shared_from_this(), model_, compute_, options);
    } else {
      throw none("language model");
    }
  }
  [[nodiscard]] duet::ImageRows encode(const duet::VisualInput& input, duet::Workspace& workspace) const override {
    if constexpr (requires { model_.vision(); }) {
      const auto frame = workspace.frame();
      return {duet::Matrix::clone(model_.vision().encode(input, workspace).rows), {}};
    } else {
      throw none("image encoder");
    }
  }

 private:
  [[nodiscard]] static duet::Error none(std::string_view what) {
    return {duet::ErrorKind::kUnsupportedModel, "--shape", duet::concat("a shape without ", what), "a model that has it"};
  }

  duet::RandomWeights weights_;
  typename Family::Model model_;
  std::unique_ptr<duet::Threads> threads_;
  duet::Compute compute_;
  duet::ModelInfo info_;
  std::shared_ptr<const duet::Processor> processor_ = std::make_shared<const duet::Processor>(duet::PromptRules{});
  std::optional<duet::ChatWording> no_words_;
};

template <class Family>
std::shared_ptr<const duet::AnyModel> make(const nlohmann::json& config, duet::DType dtype, int threads) {
  return std::make_shared<const RandomModel<Family>>(config, dtype, threads);
}

}  // namespace

std::shared_ptr<const duet::AnyModel> random_model(const std::string& shape, duet::DType weights, int threads) {
  using nlohmann::json;
  if (shape == "gpt2") return make<duet::Gpt2>(json::object(), weights, threads);  // the config's defaults are its sizes
  if (shape == "smollm2-135m") {
    return make<duet::Llama>(json{{"vocab_size", 49152}, {"hidden_size", 576}, {"intermediate_size", 1536}, {"num_hidden_layers", 30},
                                  {"num_attention_heads", 9}, {"num_key_value_heads", 3}, {"max_position_embeddings", 8192},
                                  {"rope_theta", 100000.0}, {"tie_word_embeddings", true}},
                             weights, threads);
  }
  if (shape == "llama-3.2-1b") {
    return make<duet::Llama>(json{{"vocab_size", 128256}, {"hidden_size", 2048}, {"intermediate_size", 8192}, {"num_hidden_layers", 16},
                                  {"num_attention_heads", 32}, {"num_key_value_heads", 8}, {"head_dim", 64},
                                  {"max_position_embeddings", 131072}, {"rope_theta", 500000.0}, {"tie_word_embeddings", true}},
                             weights, threads);
  }
  if (shape == "vit-b16") return make<duet::Vit>(json::object(), weights, threads);
  if (shape == "clip-l14-336") {
    return make<duet::ClipVision>(json{{"image_size", 336}, {"patch_size", 14}, {"hidden_size", 1024}, {"intermediate_size", 4096},
                                       {"num_hidden_layers", 24}, {"num_attention_heads", 16}},
                                  weights, threads);
  }
  if (shape == "siglip-b16-512") {
    return make<Siglip>(json{{"image_size", 512}, {"patch_size", 16}, {"hidden_size", 768}, {"intermediate_size", 3072},
                             {"num_hidden_layers", 12}, {"num_attention_heads", 12}, {"hidden_act", "gelu_pytorch_tanh"}},
                        weights, threads);
  }
  throw duet::Error(duet::ErrorKind::kInvalidArgument, "--shape", shape, "a known shape");
}
