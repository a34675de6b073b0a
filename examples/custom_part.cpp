// A user's own activation, projector and fusion policy, without touching Duet. The weights are made up on the spot.
#include <duet/fusion/vision_language_model.hpp>
#include <duet/io/random_weights.hpp>
#include <duet/models/vision_transformer.hpp>
#include <duet/pipeline/session.hpp>
#include <iostream>

// An activation: its spelling in config.json, and the function over a vector or a float.
struct SquaredSilu {
  static constexpr std::string_view config_names[] = {"squared_silu"};
  static float apply(float x) {
    const float y = x / (1.0f + std::exp(-x));
    return y * y;
  }
};

// A projector: one image token for each pair of neighbouring features, their mean put through a linear map.
class PairingProjector {
 public:
  PairingProjector(duet::Index input_size, duet::Index output_size, const duet::Weights& weights)
      : linear_(weights, "pairing", input_size, output_size, duet::Linear::Bias::kRequired) {}

  duet::Index input_size() const { return linear_.in_features(); }
  duet::Index output_size() const { return linear_.out_features(); }
  void project(duet::ConstMatrixView features, duet::MatrixView out, duet::Workspace& workspace) const {
    const auto frame = workspace.frame();
    const duet::MatrixView mean = workspace.matrix(features.rows(), features.cols());
    for (duet::Index i = 0; i < features.rows(); ++i) {
      const duet::Index other = i % 2 == 0 && i + 1 < features.rows() ? i + 1 : i;
      mean.eigen().row(i) = 0.5f * (features.eigen().row(i) + features.eigen().row(other));
    }
    linear_.forward(mean, out, duet::Phase::kPrefill, workspace);
  }

 private:
  duet::Linear linear_;
};

// A fusion policy: the image tokens are added to the placeholders' own embeddings instead of replacing them.
struct AddingFusion {
  static constexpr std::string_view kName = "adding";
  struct Memory {};
  template <duet::SelfAttentionDecoder D>
  static void fuse(const D&, const duet::Prompt& prompt, const duet::ImageRows& rows, duet::MatrixView hidden, Memory&, duet::Workspace&) {
    for (std::size_t i = 0; i < prompt.image_rows.size(); ++i) {
      hidden.eigen().row(prompt.image_rows[i]) += rows.rows.eigen().row(static_cast<duet::Index>(i));
    }
  }
  static const duet::VisualMemory* memory_of(const Memory&) { return nullptr; }
};

struct VisionRecipe : duet::VisionRecipeDefaults {
  using Norm = duet::LayerNorm;
  using FeedForward = duet::FeedForward<SquaredSilu>;
};
struct TextRecipe : duet::DecoderRecipeDefaults {
  using Norm = duet::RmsNorm;
  using FeedForward = duet::GatedFeedForward<SquaredSilu>;
  using Position = duet::RotaryEmbedding;
};
using Model = duet::VisionLanguageModel<duet::VisionTransformer<VisionRecipe>, PairingProjector, duet::Decoder<TextRecipe>, AddingFusion>;

int main() try {
  const duet::RandomWeights weights(duet::DType::kF32);
  duet::VisionConfig vision;
  vision.image_size = 32;
  vision.patch_size = 8;
  vision.hidden_size = 32;
  vision.intermediate_size = 64;
  vision.num_hidden_layers = 2;
  vision.num_attention_heads = 4;
  vision.hidden_act = "squared_silu";
  duet::DecoderConfig text;
  text.vocab_size = 100;
  text.hidden_size = 48;
  text.intermediate_size = 96;
  text.num_hidden_layers = 2;
  text.num_attention_heads = text.num_key_value_heads = 4;
  text.head_dim = 12;
  text.max_position_embeddings = 64;
  text.hidden_act = "squared_silu";
  text.head = duet::LanguageHead::kTied;
  const duet::Weights root(weights);
  const Model model({vision, root.under("vision")}, {32, 48, root.under("projector")}, {text, root.under("text"), root.under("text")});

  duet::Threads threads;
  duet::Session<Model> session(model, {&duet::kernels::best_kernel_table(), &threads}, {.max_length = 64});
  duet::VisualInput picture;
  std::ranges::fill(picture.add_whole({32, 32}), 0.25f);
  const duet::ImageRows rows = model.encode(picture, session.workspace());

  std::vector<duet::TokenId> ids(static_cast<std::size_t>(rows.rows.rows()) + 3, 7);
  duet::Prompt prompt = duet::Prompt::causal(ids);
  for (duet::Index i = 0; i < rows.rows.rows(); ++i) prompt.image_rows.push_back(i + 1);
  const auto logits = session.prefill(prompt, rows);
  std::cout << "fusion: " << AddingFusion::kName << ", " << rows.rows.rows() << " image tokens, next token "
            << std::ranges::max_element(logits) - logits.begin() << '\n';
} catch (const duet::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
