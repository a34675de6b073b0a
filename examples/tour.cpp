// Multimodal language models, figure by figure, with shapes and numbers. Everything is computed by the library's own parts on
// small made-up weights; nothing is needed beside this program.
#include <duet/fusion/vision_language_model.hpp>
#include <duet/io/random_weights.hpp>
#include <duet/kernels/patchify.hpp>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <numeric>

namespace {

using duet::ConstMatrixView;
using duet::Index;
using duet::Matrix;
using duet::MatrixView;

void title(const char* text) { std::cout << "\n== " << text << '\n'; }

void show(const char* name, ConstMatrixView m, Index rows = 3, Index cols = 5) {
  std::cout << name << "  [" << m.rows() << ", " << m.cols() << "]\n" << std::fixed << std::setprecision(3);
  for (Index i = 0; i < std::min(rows, m.rows()); ++i) {
    std::cout << "   ";
    for (Index j = 0; j < std::min(cols, m.cols()); ++j) std::cout << std::setw(8) << m(i, j);
    std::cout << (m.cols() > cols ? "  ...\n" : "\n");
  }
  if (m.rows() > rows) std::cout << "         ...\n";
}

/// softmax(q · kᵀ / sqrt(d)) · v, step by step and by hand, to be compared with the library's kernel.
Matrix attention_by_hand(ConstMatrixView q, ConstMatrixView k, ConstMatrixView v, Index (*sees)(Index)) {
  Matrix scores(q.rows(), k.rows());
  scores.eigen() = q.eigen() * k.eigen().transpose() / std::sqrt(static_cast<float>(q.cols()));
  show("scores q.k/sqrt(d)", scores, 4, 6);
  for (Index i = 0; i < q.rows(); ++i) {
    const Index n = std::min(sees(i), k.rows());
    const float most = scores.eigen().row(i).head(n).maxCoeff();
    scores.eigen().row(i).head(n) = (scores.eigen().row(i).head(n).array() - most).exp();
    scores.eigen().row(i).tail(k.rows() - n).setZero();
    scores.eigen().row(i) /= scores.eigen().row(i).sum();
  }
  show("weights softmax(scores): each row sums to 1", scores, 4, 6);
  Matrix out(q.rows(), v.cols());
  out.eigen() = scores.eigen() * v.eigen();
  return out;
}

}  // namespace

int main() {
  const duet::RandomWeights made_up(duet::DType::kF32);
  const duet::Weights weights(made_up);
  duet::Threads threads;
  duet::Workspace workspace({&duet::kernels::best_kernel_table(), &threads});
  const auto frame = workspace.frame();

  title("1. An image into patches");
  constexpr Index kEdge = 224, kPatch = 16;
  std::vector<float> pixels(3 * kEdge * kEdge);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 511) / 255.5f - 1.0f;
  const Index num_patches = (kEdge / kPatch) * (kEdge / kPatch);
  Matrix patches(num_patches, 3 * kPatch * kPatch);
  duet::kernels::patchify(pixels, 3, kEdge, kEdge, kPatch, patches);
  std::cout << kEdge << " x " << kEdge << " pixels make " << num_patches << " patches of " << kPatch << " x " << kPatch << " x 3\n";
  show("patches, flattened", patches);

  title("2. The linear projection of a patch: 16 x 16 grey pixels are 256 numbers, and become 768");
  Matrix grey(num_patches, kPatch * kPatch);
  grey.eigen() = patches.eigen().leftCols(kPatch * kPatch);
  const duet::Linear projection(weights, "patch_projection", 256, 768, duet::Linear::Bias::kRequired);
  Matrix embedded(num_patches, 768);
  projection.forward(grey, embedded, duet::Phase::kPrefill, workspace);
  show("patch embeddings = patches . W^T + b", embedded);
  std::cout << "W is [768, 256]: " << 768 * 256 << " weights, the same for every patch\n";

  title("3. Image tokens beside text tokens");
  constexpr Index kHidden = 768;
  const duet::Linear projector(weights, "projector", 768, kHidden, duet::Linear::Bias::kRequired);
  Matrix image_tokens(num_patches, kHidden);
  projector.forward(embedded, image_tokens, duet::Phase::kPrefill, workspace);
  const duet::Embedding embed_tokens(weights, "embed_tokens", 1000, kHidden);
  const std::vector<duet::TokenId> ids = {17, 4, 256, 31};
  Matrix text(static_cast<Index>(ids.size()), kHidden);
  embed_tokens.forward(ids, text);
  show("image tokens", image_tokens);
  show("text tokens", text);
  std::cout << "both are rows of the same width, " << kHidden << ": that is all a decoder asks for\n";

  title("4. Method A, unified embedding decoder: concatenation");
  Matrix sequence(num_patches + text.rows(), kHidden);
  copy(image_tokens, sequence.view().rows(0, num_patches));
  copy(text, sequence.view().rows(num_patches, text.rows()));
  std::cout << "[" << num_patches << ", " << kHidden << "] image rows and [" << text.rows() << ", " << kHidden << "] text rows are one sequence of ["
            << sequence.rows() << ", " << sequence.cols() << "],\nread by a decoder that knows nothing of images\n";

  title("5. Self-attention, step by step (6 rows, one head of width 8)");
  constexpr Index kDim = 8;
  Matrix x(6, kDim);
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < kDim; ++j) x(i, j) = std::sin(static_cast<float>(3 * i + j));
  }
  Matrix weight_q(kDim, kDim), weight_k(kDim, kDim), weight_v(kDim, kDim);
  for (Index i = 0; i < kDim * kDim; ++i) {
    weight_q.view().data()[i] = std::cos(static_cast<float>(i));
    weight_k.view().data()[i] = std::cos(static_cast<float>(2 * i + 1));
    weight_v.view().data()[i] = std::cos(static_cast<float>(3 * i + 2));
  }
  Matrix q(6, kDim), k(6, kDim), v(6, kDim);
  q.eigen() = x.eigen() * weight_q.eigen();
  k.eigen() = x.eigen() * weight_k.eigen();
  v.eigen() = x.eigen() * weight_v.eigen();
  show("x", x);
  show("q = x.Wq, k = x.Wk, v = x.Wv; q:", q);
  const Matrix by_hand = attention_by_hand(q, k, v, [](Index i) { return i + 1; });
  Matrix by_kernel(6, kDim);
  const auto* const keys = reinterpret_cast<const std::byte*>(k.view().data());
  const auto* const values = reinterpret_cast<const std::byte*>(v.view().data());
  std::vector<duet::kernels::KeyRange> causal;
  for (Index i = 0; i < 6; ++i) causal.push_back({0, i + 1});
  const duet::kernels::AttentionShape shape{1, 1, kDim, 1.0f / std::sqrt(static_cast<float>(kDim)), 0.0f};
  const duet::kernels::AttentionJob self{q, duet::kernels::KeyValuePages::plain(kDim, &keys, kDim, &values, kDim), causal, by_kernel, {}};
  duet::kernels::attention(std::span(&self, 1), shape, duet::Phase::kPrefill, workspace);
  show("output = weights . v", by_hand, 4);
  std::cout << "the library's kernel differs by at most " << std::scientific << (by_hand.eigen() - by_kernel.eigen()).cwiseAbs().maxCoeff() << '\n';

  title("6. Method B, cross-attention: two inputs, x1 (text) asks and x2 (image) answers");
  Matrix x2(4, kDim), k2(4, kDim), v2(4, kDim);
  for (Index i = 0; i < 4; ++i) {
    for (Index j = 0; j < kDim; ++j) x2(i, j) = std::cos(static_cast<float>(5 * i + 2 * j));
  }
  k2.eigen() = x2.eigen() * weight_k.eigen();
  v2.eigen() = x2.eigen() * weight_v.eigen();
  std::cout << "q comes from x1 [6, 8]; k and v come from x2 [4, 8]; scores are [6, 4]\n";
  const Matrix cross = attention_by_hand(q, k2, v2, [](Index) { return Index{1} << 30; });
  show("output: one row for each text row", cross, 4);
  std::cout << "the text keeps its length; the image's keys and values are computed once and kept\n";
}
