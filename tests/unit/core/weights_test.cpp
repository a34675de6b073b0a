#include "duet/core/weights.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace duet {
namespace core_weights {

/// A checkpoint in memory. Remembers nothing of what it was asked: tests look at what came back.
class MemorySource {
 public:
  void add(const std::string& name, std::vector<Index> shape, DType dtype = DType::kF32) {
    Tensor tensor{{}, dtype, std::move(shape)};
    Index count = 1;
    for (const Index extent : tensor.shape) count *= extent;
    for (Index i = 0; i < count; ++i) {  // the values 0, 1, 2 …
      const auto value = static_cast<float>(i);
      if (size_of(dtype) == 4) {
        append(tensor.bytes, value);
      } else {
        append(tensor.bytes, dtype == DType::kF16 ? to_f16(value).bits : to_bf16(value).bits);
      }
    }
    tensors_[name] = std::move(tensor);
  }

  std::optional<TensorView> find(std::string_view name, std::span<const Index>) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return std::nullopt;
    return TensorView{it->second.bytes.data(), it->second.dtype, it->second.shape};
  }
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  std::string where(std::string_view) const { return "memory"; }
  const std::byte* data(std::string_view name) const { return tensors_.find(name)->second.bytes.data(); }

 private:
  struct Tensor {
    std::vector<std::byte> bytes;
    DType dtype = DType::kF32;
    std::vector<Index> shape;
  };
  template <class T>
  static void append(std::vector<std::byte>& bytes, T value) {
    const auto* begin = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), begin, begin + sizeof value);
  }
  std::map<std::string, Tensor, std::less<>> tensors_;
};

using Bias = Weights::Bias;

std::vector<Weights::Projection> project(const Weights& weights, std::vector<Weights::Part> parts, Index in, Bias bias = Bias::kNone) {
  return weights.projections(parts, in, bias);
}

/// The element that a map's weights hold for an output and an input, whatever the layout.
float at(const WeightMatrix& weight, Index output, Index input) {
  const Index offset = weight.layout == WeightLayout::kOutIn ? output * weight.stride + input : input * weight.stride + output;
  float value = 0;
  std::memcpy(&value, weight.data + static_cast<std::size_t>(offset) * sizeof value, sizeof value);
  return value;
}

template <class Call>
Error error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorKind::kInvalidArgument, "", "", ""};
}

TEST(Weights, NamesAreJoinedByScopes) {
  MemorySource source;
  source.add("model.layers.12.self_attn.q_proj.weight", {2, 3});
  const Weights weights(source);
  const Weights attention = weights.under("model").scope("layers", 12).scope("self_attn");
  EXPECT_TRUE(attention.contains("q_proj.weight"));
  EXPECT_FALSE(attention.contains("k_proj.weight"));
  EXPECT_FALSE(weights.contains("layers.12.self_attn.q_proj.weight"));
  EXPECT_EQ(attention.table("q_proj", 2, 3).data, source.data("model.layers.12.self_attn.q_proj.weight"));
}

TEST(Weights, UnderAppendsToThePrefixAndForgetsTheScope) {
  MemorySource source;
  source.add("a.b.c.weight", {1});
  const Weights weights(source);
  EXPECT_TRUE(weights.under("a").under("b").contains("c.weight"));
  EXPECT_TRUE(weights.under("a").scope("x").under("b.c").contains("weight"));
  EXPECT_TRUE(weights.under("").under("a.b").contains("c.weight"));
}

TEST(Weights, TableRenamesWithTheLayerIndex) {
  static constexpr TensorName kNames[] = {
      {"layers.*.self_attn.q_proj", "h.*.attn.query"}, {"norm", "ln_f"}, {"embed_tokens", "wte"}};
  MemorySource source;
  source.add("transformer.h.7.attn.query.weight", {1});
  source.add("transformer.h.7.attn.query.bias", {1});
  source.add("transformer.h.10.attn.query.weight", {1});
  source.add("transformer.ln_f.weight", {1});
  source.add("transformer.layers.7.mlp.fc1.weight", {1});
  const Weights weights = Weights(source).under("transformer").named(kNames);
  EXPECT_TRUE(weights.scope("layers", 7).contains("self_attn.q_proj.weight"));
  EXPECT_TRUE(weights.scope("layers", 7).scope("self_attn").contains("q_proj.bias"));
  EXPECT_TRUE(weights.scope("layers", 10).contains("self_attn.q_proj.weight"));
  EXPECT_FALSE(weights.scope("layers", 1).contains("self_attn.q_proj.weight"));
  EXPECT_TRUE(weights.scope("norm").contains("weight"));
  EXPECT_TRUE(weights.scope("layers", 7).contains("mlp.fc1.weight")) << "what the table leaves out keeps its name";
}

TEST(Weights, OnlyAWholeNumberBetweenDotsIsALayerIndex) {
  static constexpr TensorName kNames[] = {{"stage2.layers.*.norm1", "s2.*.n"}, {"conv1.layers.*.x", "c.*.x"}, {"blocks.3d.x", "volume"}};
  MemorySource source;
  source.add("s2.4.n.weight", {1});
  source.add("c.4.x.weight", {1});
  source.add("volume.weight", {1});
  const Weights weights = Weights(source).named(kNames);
  EXPECT_TRUE(weights.scope("stage2").scope("layers", 4).contains("norm1.weight"));
  EXPECT_TRUE(weights.scope("conv1").scope("layers", 4).contains("x.weight"));
  EXPECT_TRUE(weights.contains("blocks.3d.x.weight"));
}

TEST(Weights, TableRowMayStandForANameWithoutWeight) {
  static constexpr TensorName kNames[] = {{"class_embedding", "embeddings.cls_token"}, {"position_embedding", "embeddings.position_embedding.weight"}};
  MemorySource source;
  source.add("embeddings.cls_token", {1, 1, 4});
  source.add("embeddings.position_embedding.weight", {3, 4});
  const Weights weights = Weights(source).named(kNames);
  EXPECT_EQ(weights.vector("class_embedding", 4), (std::vector<float>{0, 1, 2, 3}));
  EXPECT_EQ(weights.vector("position_embedding", 12).size(), 12u);
}

TEST(Weights, MissingTensorIsNamedWithItsFileAndShape) {
  const MemorySource source;
  const Error error = error_of([&] { static_cast<void>(Weights(source).under("model").table("norm", 8, 2)); });
  EXPECT_EQ(error.kind(), ErrorKind::kMissingTensor);
  EXPECT_EQ(error.where(), "memory");
  EXPECT_EQ(error.got(), "no tensor model.norm.weight");
  EXPECT_NE(error.expected().find("[8, 2]"), std::string::npos);
}

TEST(Weights, WrongShapeSaysBoth) {
  MemorySource source;
  source.add("norm.weight", {8, 2});
  for (const auto& [rows, cols] : {std::pair<Index, Index>{2, 8}, {16, 1}, {8, 1}, {0, 0}}) {
    const Error error = error_of([&] { static_cast<void>(Weights(source).table("norm", rows, cols)); });
    EXPECT_EQ(error.kind(), ErrorKind::kShapeMismatch);
    EXPECT_EQ(error.where(), "memory: norm.weight");
    EXPECT_EQ(error.got(), "[8, 2]");
    EXPECT_EQ(error.expected(), concat("[", rows, ", ", cols, "]"));
  }
}

TEST(Weights, TensorsAreFloats) {
  MemorySource source;
  source.add("ids.weight", {8, 2}, DType::kI32);
  EXPECT_EQ(error_of([&] { static_cast<void>(Weights(source).table("ids", 8, 2)); }).kind(), ErrorKind::kUnsupportedDtype);
}

TEST(Weights, VectorReadsEveryFloatDtypeOfAnyShape) {
  MemorySource source;
  source.add("f32", {2, 2});
  source.add("f16", {4}, DType::kF16);
  source.add("bf16", {1, 4, 1}, DType::kBF16);
  for (const char* name : {"f32", "f16", "bf16"}) {
    EXPECT_EQ(Weights(source).vector(name, 4), (std::vector<float>{0, 1, 2, 3})) << name;
    EXPECT_EQ(error_of([&] { static_cast<void>(Weights(source).vector(name, 5)); }).kind(), ErrorKind::kShapeMismatch);
  }
}

TEST(Weights, RankZeroIsOneValue) {
  MemorySource source;
  source.add("logit_scale", {});
  EXPECT_EQ(Weights(source).vector("logit_scale", 1), std::vector<float>{0});
}

TEST(Weights, WholeNumbersAreNoWeights) {
  MemorySource source;
  source.add("x.weight", {2, 2}, DType::kI32);
  EXPECT_EQ(error_of([&] { static_cast<void>(Weights(source).vector("x.weight", 4)); }).kind(), ErrorKind::kUnsupportedDtype);
  EXPECT_EQ(error_of([&] { static_cast<void>(project(Weights(source), {{"x", 2}}, 2)); }).kind(), ErrorKind::kUnsupportedDtype);
}

TEST(Weights, SeparateProjectionsLieWhereTheyAreStored) {
  MemorySource source;
  source.add("q.weight", {4, 3});
  source.add("k.weight", {2, 3}, DType::kBF16);
  const auto result = project(Weights(source), {{"q", 4}, {"k", 2}}, 3);
  ASSERT_EQ(result.size(), 2u);
  EXPECT_EQ(result[0].weight.data, source.data("q.weight"));
  EXPECT_EQ(result[0].weight.out_features, 4);
  EXPECT_EQ(result[0].weight.in_features, 3);
  EXPECT_EQ(result[0].weight.stride, 3);
  EXPECT_EQ(result[1].weight.data, source.data("k.weight"));
  EXPECT_EQ(result[1].weight.dtype, DType::kBF16);
  EXPECT_TRUE(result[0].bias.empty());
}

TEST(Weights, FusedProjectionsAreSlicesInTheOrderAsked) {
  static constexpr TensorName kNames[] = {{"q", "qkv"}, {"k", "qkv"}, {"v", "qkv"}};
  MemorySource source;
  source.add("qkv.weight", {8, 3});  // q 4 rows, k 2, v 2
  source.add("qkv.bias", {8});
  const auto result = project(Weights(source).named(kNames), {{"q", 4}, {"k", 2}, {"v", 2}}, 3, Bias::kRequired);
  ASSERT_EQ(result.size(), 3u);
  Index row = 0;
  for (const auto& [weight, bias] : result) {
    EXPECT_EQ(weight.in_features, 3);
    ASSERT_EQ(bias.size(), static_cast<std::size_t>(weight.out_features));
    for (Index i = 0; i < weight.out_features; ++i, ++row) {
      for (Index j = 0; j < 3; ++j) EXPECT_EQ(at(weight, i, j), static_cast<float>(row * 3 + j));
      EXPECT_EQ(bias[static_cast<std::size_t>(i)], static_cast<float>(row));
    }
  }
  EXPECT_EQ(row, 8);
}

TEST(Weights, AStoredNameMayJoinItsEndingWithAnUnderscore) {
  static constexpr TensorName kNames[] = {{"q", "attention.in_proj_"}, {"k", "attention.in_proj_"}};
  MemorySource source;
  source.add("attention.in_proj_weight", {6, 3});
  source.add("attention.in_proj_bias", {6});
  const Weights weights = Weights(source).named(kNames);
  EXPECT_TRUE(weights.contains("q.weight"));
  const auto result = project(weights, {{"q", 4}, {"k", 2}}, 3, Bias::kRequired);
  EXPECT_EQ(at(result[1].weight, 0, 0), 12.0f);
  EXPECT_EQ(result[1].bias[0], 4.0f);
}

TEST(Weights, FusedConv1dSlicesColumns) {
  static constexpr TensorName kNames[] = {
      {"q", "c_attn", WeightLayout::kInOut}, {"k", "c_attn", WeightLayout::kInOut}, {"v", "c_attn", WeightLayout::kInOut}};
  MemorySource source;
  source.add("c_attn.weight", {3, 12});  // [in, out]
  source.add("c_attn.bias", {12});
  const auto result = project(Weights(source).named(kNames), {{"q", 4}, {"k", 4}, {"v", 4}}, 3, Bias::kRequired);
  ASSERT_EQ(result.size(), 3u);
  for (Index part = 0; part < 3; ++part) {
    const auto& [weight, bias] = result[static_cast<std::size_t>(part)];
    EXPECT_EQ(weight.layout, WeightLayout::kInOut);
    EXPECT_EQ(weight.stride, 12);
    for (Index i = 0; i < 4; ++i) {
      for (Index j = 0; j < 3; ++j) EXPECT_EQ(at(weight, i, j), static_cast<float>(j * 12 + part * 4 + i));
      EXPECT_EQ(bias[static_cast<std::size_t>(i)], static_cast<float>(part * 4 + i));
    }
  }
}

TEST(Weights, FusedPairAfterASeparatePart) {
  static constexpr TensorName kNames[] = {{"k", "kv"}, {"v", "kv"}};
  MemorySource source;
  source.add("q.weight", {2, 2});
  source.add("kv.weight", {4, 2});
  const auto result = project(Weights(source).named(kNames), {{"q", 2}, {"k", 2}, {"v", 2}}, 2);
  ASSERT_EQ(result.size(), 3u);
  EXPECT_EQ(result[0].weight.data, source.data("q.weight"));
  EXPECT_EQ(at(result[1].weight, 0, 0), 0);
  EXPECT_EQ(at(result[2].weight, 0, 0), 4);
}

TEST(Weights, FusedTensorOfAnotherHeightIsRefused) {
  static constexpr TensorName kNames[] = {{"q", "qkv"}, {"k", "qkv"}, {"v", "qkv"}};
  MemorySource source;
  source.add("qkv.weight", {9, 3});
  const Error error = error_of([&] { static_cast<void>(project(Weights(source).named(kNames), {{"q", 4}, {"k", 2}, {"v", 2}}, 3)); });
  EXPECT_EQ(error.kind(), ErrorKind::kShapeMismatch);
  EXPECT_EQ(error.expected(), "[8, 3]");
}

TEST(Weights, RequiredBiasMustBeThereAndFit) {
  MemorySource source;
  source.add("fc.weight", {2, 3});
  const auto load = [&] { static_cast<void>(project(Weights(source), {{"fc", 2}}, 3, Bias::kRequired)); };
  EXPECT_EQ(error_of(load).kind(), ErrorKind::kMissingTensor);
  source.add("fc.bias", {3});
  EXPECT_EQ(error_of(load).kind(), ErrorKind::kShapeMismatch);
  source.add("fc.bias", {2});
  EXPECT_NO_THROW(load());
}

TEST(Weights, PatchKernelFoldsIntoALinearMap) {
  MemorySource source;
  source.add("patch.weight", {5, 3, 2, 2});
  source.add("video.weight", {5, 3, 1, 2, 2});
  for (const char* name : {"patch", "video"}) {
    const auto result = project(Weights(source), {{name, 5}}, 12);
    EXPECT_EQ(result[0].weight.stride, 12) << name;
    EXPECT_EQ(at(result[0].weight, 4, 11), 59) << name;
    EXPECT_EQ(error_of([&] { static_cast<void>(project(Weights(source), {{name, 5}}, 13)); }).kind(), ErrorKind::kShapeMismatch);
    EXPECT_EQ(error_of([&] { static_cast<void>(project(Weights(source), {{name, 4}}, 12)); }).kind(), ErrorKind::kShapeMismatch);
  }
}

TEST(Weights, SwappedExtentsDoNotPassForEachOther) {
  MemorySource source;
  source.add("fc.weight", {3, 2});
  EXPECT_EQ(error_of([&] { static_cast<void>(project(Weights(source), {{"fc", 2}}, 3)); }).kind(), ErrorKind::kShapeMismatch);
  static constexpr TensorName kNames[] = {{"fc", "fc", WeightLayout::kInOut}};
  EXPECT_NO_THROW(static_cast<void>(project(Weights(source).named(kNames), {{"fc", 2}}, 3)));
}

TEST(Weights, RemembersWhatWasTaken) {
  MemorySource source;
  source.add("a.weight", {1, 1});
  source.add("a.bias", {1});
  source.add("b", {1});
  source.add("unused", {1});
  TensorNames used;
  const Weights weights(source, &used);
  static_cast<void>(project(weights, {{"a", 1}}, 1, Bias::kRequired));
  static_cast<void>(weights.scope("x").under("").vector("b", 1));
  static_cast<void>(weights.contains("unused"));
  EXPECT_EQ(used, (TensorNames{"a.bias", "a.weight", "b"}));
}

TEST(ShapeText, ReadsLikeALog) {
  EXPECT_EQ(shape_text(std::vector<Index>{}), "[]");
  EXPECT_EQ(shape_text(std::vector<Index>{1}), "[1]");
  EXPECT_EQ(shape_text(std::vector<Index>{2, 0, 30}), "[2, 0, 30]");
}

TEST(Weights, TellHowManyValuesAVectorHas) {
  MemorySource source;
  source.add("encoder.bias", {5});
  source.add("encoder.table", {1, 3, 4});
  const TensorName names[] = {{"up", "encoder"}};
  TensorNames used;
  const Weights weights = Weights(source, &used).named(names);
  EXPECT_EQ(weights.vector_size("up.bias"), 5);
  EXPECT_EQ(Weights(source).scope("encoder").vector_size("table"), 12);
  EXPECT_EQ(weights.vector_size("up.weight"), std::nullopt);
}

}  // namespace core_weights
}  // namespace duet
