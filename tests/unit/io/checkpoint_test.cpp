#include "duet/io/checkpoint.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "duet/io/converted_weights.hpp"
#include "duet/io/random_weights.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace io_checkpoint {

using test::TempFolder;

constexpr std::string_view kLfsText = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 269060552\n";

NamedTensor counting(std::string name, Index count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0.0f);
  return NamedTensor::floats(std::move(name), {count}, values);
}

TempFolder& with_config(TempFolder& folder) {
  folder.write("config.json", R"({"model_type": "llama", "hidden_size": 8})");
  return folder;
}

Error error_of(const std::filesystem::path& path) {
  try {
    static_cast<void>(Checkpoint::open(path));
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "opened " << path;
  return {ErrorKind::kInvalidArgument, "", "", ""};
}

void expect_error(const std::filesystem::path& path, ErrorKind kind, std::initializer_list<std::string> words) {
  const Error error = error_of(path);
  EXPECT_EQ(error.kind(), kind) << error.what();
  for (const std::string& word : words) {
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what() << "\nlacks: " << word;
  }
}

// One file.

TEST(Checkpoint, ReadsOneFile) {
  TempFolder folder;
  with_config(folder);
  folder.write("generation_config.json", R"({"eos_token_id": 2})");
  write_safetensors(folder.path() / "model.safetensors", std::vector{counting("b", 3), counting("a", 5)});
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    const auto checkpoint = Checkpoint::open(folder.path(), access);
    EXPECT_EQ(checkpoint->config().get<std::string>("model_type"), "llama");
    EXPECT_EQ(checkpoint->generation_config().get<int>("eos_token_id"), 2);
    EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(checkpoint->bytes(), 32u);
    EXPECT_TRUE(checkpoint->contains("a"));
    EXPECT_FALSE(checkpoint->contains("c"));
    EXPECT_EQ(checkpoint->where("a"), "model.safetensors");
    EXPECT_EQ(checkpoint->where("c"), "model.safetensors");
    const Index shape[] = {5};
    ASSERT_TRUE(checkpoint->find("a", shape));
    EXPECT_EQ(checkpoint->find("a", shape)->shape, std::vector<Index>{5});
    EXPECT_FALSE(checkpoint->find("c", shape));
    EXPECT_EQ(Weights(*checkpoint).vector("a", 5), (std::vector<float>{0, 1, 2, 3, 4}));
  }
}

TEST(Checkpoint, OptionalFilesAreEmptyObjectsWhenAbsent) {
  TempFolder folder;
  with_config(folder);
  const CheckpointFolder opened(folder.path());
  EXPECT_FALSE(opened.generation_config().contains("eos_token_id"));
  EXPECT_EQ(opened.preprocessor_config().get_or<int>("size", 5), 5);
  EXPECT_EQ(opened.config().get<int>("hidden_size"), 8);
  EXPECT_TRUE(opened.has("config.json"));
  EXPECT_FALSE(opened.has("tokenizer.json"));
}

TEST(Checkpoint, FolderWithoutWeightsOpensAsAFolderOnly) {
  TempFolder folder;
  with_config(folder);
  EXPECT_NO_THROW(CheckpointFolder{folder.path()});
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"no weights", "model.safetensors"});
}

TEST(Checkpoint, OneFileIsPreferredToAnIndex) {
  TempFolder folder;
  with_config(folder);
  folder.write("model.safetensors.index.json", "{}");
  write_safetensors(folder.path() / "model.safetensors", std::vector{counting("a", 1)});
  EXPECT_TRUE(Checkpoint::open(folder.path())->contains("a"));
}

TEST(Checkpoint, MissingTensorNamesTheFile) {
  TempFolder folder;
  with_config(folder);
  write_safetensors(folder.path() / "model.safetensors", std::vector{counting("a", 1)});
  const auto checkpoint = Checkpoint::open(folder.path());
  try {
    static_cast<void>(Weights(*checkpoint).vector("b", 1));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMissingTensor);
    EXPECT_EQ(error.where(), "model.safetensors");
  }
}

TEST(Checkpoint, ForeignDtypeIsRefusedWhenItIsUsed) {
  TempFolder folder;
  with_config(folder);
  const std::string header = R"({"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})";
  folder.write("model.safetensors", std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "x");
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_TRUE(checkpoint->contains("a"));
  try {
    static_cast<void>(checkpoint->find("a"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupportedDtype);
    EXPECT_NE(error.where().find("model.safetensors: tensor a"), std::string::npos);
  }
}

// Shards.

constexpr const char* kIndex = "model.safetensors.index.json";

/// a and b in one shard, c in another.
void write_shards(const TempFolder& folder) {
  write_safetensors(folder.path() / "model-00001-of-00002.safetensors", std::vector{counting("a", 2), counting("b", 3)});
  write_safetensors(folder.path() / "model-00002-of-00002.safetensors", std::vector{counting("c", 4)});
  folder.write(kIndex, R"({"metadata": {"total_size": 36}, "weight_map": {"a": "model-00001-of-00002.safetensors",
      "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}})");
}

TEST(CheckpointShards, AreReadAsOne) {
  TempFolder folder;
  write_shards(with_config(folder));
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint->names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(checkpoint->bytes(), 36u);
  EXPECT_EQ(checkpoint->where("b"), "model-00001-of-00002.safetensors");
  EXPECT_EQ(checkpoint->where("c"), "model-00002-of-00002.safetensors");
  EXPECT_EQ(checkpoint->where("nothing"), kIndex);
  EXPECT_EQ(Weights(*checkpoint).vector("c", 4), (std::vector<float>{0, 1, 2, 3}));
}

TEST(CheckpointShards, HubCacheOfLinksIsRead) {
  TempFolder folder;
  const auto snapshot = folder.path() / "snapshots" / "0123abcd";
  std::filesystem::create_directories(snapshot);
  write_safetensors(folder.write("blobs/aa", "x"), std::vector{counting("a", 2)});
  folder.write("blobs/bb", R"({"model_type": "gpt2"})");
  folder.write("blobs/cc", R"({"weight_map": {"a": "model-00001-of-00001.safetensors"}})");
  std::filesystem::create_symlink("../../blobs/aa", snapshot / "model-00001-of-00001.safetensors");
  std::filesystem::create_symlink("../../blobs/bb", snapshot / "config.json");
  std::filesystem::create_symlink("../../blobs/cc", snapshot / kIndex);
  const auto checkpoint = Checkpoint::open(snapshot);
  EXPECT_EQ(checkpoint->where("a"), "model-00001-of-00001.safetensors");
  EXPECT_EQ(Weights(*checkpoint).vector("a", 2), (std::vector<float>{0, 1}));
}

TEST(CheckpointShards, NamesThatLeaveTheFolderAreRefused) {
  TempFolder folder;
  write_shards(with_config(folder));
  std::filesystem::create_directory(folder.path() / "sub");
  write_safetensors(folder.path() / "sub" / "model.safetensors", std::vector{counting("a", 1)});
  for (const char* name : {"sub/model.safetensors", "../model.safetensors", "/etc/passwd", "..", ".", "", "sub\\\\model.safetensors", "a\\u0000b"}) {
    folder.write(kIndex, concat(R"({"weight_map": {"a": ")", name, R"("}})"));
    expect_error(folder.path(), ErrorKind::kMalformedFile, {kIndex, "tensor a", "plain name"});
  }
  for (const char* value : {"1", "null", "[]", "{}"}) {
    folder.write(kIndex, concat(R"({"weight_map": {"a": )", value, "}}"));
    expect_error(folder.path(), ErrorKind::kMalformedFile, {kIndex, "tensor a", "plain name"});
  }
}

TEST(CheckpointShards, IndexMustHoldAWeightMap) {
  TempFolder folder;
  with_config(folder);
  for (const char* text : {"{}", "[]", "1", R"({"weight_map": []})", R"({"weight_map": {}})", R"({"weight_map": "x"})", R"({"weight_map": null})"}) {
    folder.write(kIndex, text);
    expect_error(folder.path(), ErrorKind::kMalformedFile, {kIndex, "weight_map"});
  }
  folder.write(kIndex, "{");
  expect_error(folder.path(), ErrorKind::kMalformedFile, {kIndex});
}

TEST(CheckpointShards, MissingShardIsNamed) {
  TempFolder folder;
  write_shards(with_config(folder));
  std::filesystem::remove(folder.path() / "model-00002-of-00002.safetensors");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"model-00002-of-00002.safetensors", "is the download complete?"});
}

TEST(CheckpointShards, TensorMustBeInItsShard) {
  TempFolder folder;
  write_shards(with_config(folder));
  folder.write(kIndex, R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  expect_error(folder.path(), ErrorKind::kMissingTensor, {"model-00002-of-00002.safetensors", "no tensor b", kIndex});
}

TEST(CheckpointShards, TensorInTwoShardsIsRefused) {
  TempFolder folder;
  write_shards(with_config(folder));
  write_safetensors(folder.path() / "model-00002-of-00002.safetensors", std::vector{counting("c", 4), counting("a", 2)});
  expect_error(folder.path(), ErrorKind::kMalformedFile,
               {"model-00002-of-00002.safetensors", "tensor a", "model-00001-of-00002.safetensors holds too"});
}

TEST(CheckpointShards, TensorThatTheIndexForgetsIsFound) {
  TempFolder folder;
  write_shards(with_config(folder));
  folder.write(kIndex, R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}})");
  EXPECT_EQ(Checkpoint::open(folder.path())->where("b"), "model-00001-of-00002.safetensors");
}

TEST(CheckpointShards, BrokenShardIsNamed) {
  TempFolder folder;
  write_shards(with_config(folder));
  const auto shard = folder.path() / "model-00002-of-00002.safetensors";
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  expect_error(folder.path(), ErrorKind::kMalformedFile, {shard.string(), "cut short"});
}

// What users meet first.

TEST(CheckpointFirstContact, NothingThere) {
  const TempFolder folder;
  expect_error(folder.path() / "none", ErrorKind::kFileNotReadable, {(folder.path() / "none").string(), "nothing there"});
  expect_error("organisation/model", ErrorKind::kFileNotReadable, {"hf download organisation/model"});
}

TEST(CheckpointFirstContact, AFileInsteadOfAFolder) {
  TempFolder folder;
  expect_error(folder.write("model.safetensors", "x"), ErrorKind::kFileNotReadable, {"got a file", concat("give the folder it lies in: ", folder.path().string())});
  expect_error(folder.write("model.Q4_K.gguf", "GGUF"), ErrorKind::kFileNotReadable, {"a GGUF file", "Hugging Face folder"});
}

TEST(CheckpointFirstContact, AFolderWithoutConfig) {
  TempFolder folder;
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"without config.json", "give the folder that holds config.json"});
  folder.write("model.gguf", "GGUF");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"GGUF files are not supported"});
  folder.write("adapter_config.json", "{}");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"an adapter"});
  folder.write("model_index.json", "{}");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"diffusers"});
}

TEST(CheckpointFirstContact, TheFolderAroundTheCheckpoint) {
  TempFolder folder;
  const auto inner = folder.write("SmolVLM/config.json", "{}").parent_path();
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {concat("do you mean ", inner.string())});
}

TEST(CheckpointFirstContact, TheTopOfAHubCache) {
  TempFolder folder;
  std::filesystem::create_directories(folder.path() / "snapshots");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"a Hub cache without a complete snapshot"});
  folder.write("snapshots/incomplete/README.md", "");
  const auto old = folder.write("snapshots/aaaa/config.json", "{}").parent_path();
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {concat("its checkpoint is ", old.string())});
  folder.write("snapshots/cccc/config.json", "{}");
  const auto main = folder.write("snapshots/bbbb/config.json", "{}").parent_path();
  folder.write("refs/main", "bbbb");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {concat("its checkpoint is ", main.string())});
}

TEST(CheckpointFirstContact, PicklesAreNamedWithTheirConversion) {
  for (const char* name : {"pytorch_model.bin", "pytorch_model-00001-of-00003.bin"}) {
    TempFolder folder;
    with_config(folder).write(name, std::string("PK\x03\x04", 4));
    expect_error(folder.path(), ErrorKind::kFileNotReadable, {name, "pickle", "python3 -c", "save_file", "weights_only=True", folder.path().string()});
  }
}

TEST(CheckpointFirstContact, WeightsOfOtherKinds) {
  TempFolder folder;
  with_config(folder).write("model-q4.gguf", "GGUF");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"model-q4.gguf", "GGUF is not supported"});
  std::filesystem::remove(folder.path() / "model-q4.gguf");
  folder.write("model.fp16.safetensors", "x");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"model.fp16.safetensors", "rename it to model.safetensors"});
}

TEST(CheckpointFirstContact, GitLfsPointers) {
  TempFolder folder;
  with_config(folder).write("model.safetensors", kLfsText);
  expect_error(folder.path(), ErrorKind::kMalformedFile, {"model.safetensors", "a Git LFS pointer", "git lfs pull"});
  std::filesystem::remove(folder.path() / "model.safetensors");
  write_shards(folder);
  folder.write("model-00002-of-00002.safetensors", kLfsText);
  expect_error(folder.path(), ErrorKind::kMalformedFile, {"model-00002-of-00002.safetensors", "a Git LFS pointer"});
  folder.write(kIndex, kLfsText);
  expect_error(folder.path(), ErrorKind::kMalformedFile, {kIndex, "a Git LFS pointer"});
  folder.write("config.json", kLfsText);
  expect_error(folder.path(), ErrorKind::kMalformedFile, {"config.json", "a Git LFS pointer"});
}

TEST(CheckpointFirstContact, BrokenConfig) {
  TempFolder folder;
  for (const char* text : {"{", "[]", "1", "\"x\"", "null"}) {
    folder.write("config.json", text);
    expect_error(folder.path(), ErrorKind::kMalformedFile, {"config.json"});
  }
  with_config(folder).write("generation_config.json", "{");
  expect_error(folder.path(), ErrorKind::kMalformedFile, {"generation_config.json"});
}

TEST(CheckpointFirstContact, LinksThatLeadNowhere) {
  TempFolder folder;
  with_config(folder);
  std::filesystem::create_symlink("../blobs/gone", folder.path() / "model.safetensors");
  expect_error(folder.path(), ErrorKind::kFileNotReadable, {"model.safetensors", "a link to a file that is not there", "is the download complete?"});
}

TEST(CheckpointFirstContact, TruncatedDownload) {
  TempFolder folder;
  with_config(folder);
  const auto path = folder.path() / "model.safetensors";
  write_safetensors(path, std::vector{counting("a", 1000)});
  for (const std::uintmax_t size : {std::uintmax_t{4000}, std::uintmax_t{20}, std::uintmax_t{4}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(path, size);
    EXPECT_NE(std::string(error_of(folder.path()).what()).find("model.safetensors"), std::string::npos);
    if (size >= 8) expect_error(folder.path(), ErrorKind::kMalformedFile, {"the file is cut short: download it again"});
  }
}

// Made-up and converted weights.

float value_at(const TensorView& view, Index i) {
  const std::byte* at = view.data + static_cast<std::size_t>(i) * size_of(view.dtype);
  if (view.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return view.dtype == DType::kF16 ? to_float(F16{bits}) : to_float(Bf16{bits});
}

TEST(RandomWeights, LookLikeATransformers) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const RandomWeights source(dtype);
    EXPECT_FALSE(source.contains("a.weight"));
    const Index shape[] = {300, 200}, flat[] = {200};
    const TensorView weight = *source.find("layers.0.mlp.up_proj.weight", shape);
    EXPECT_EQ(weight.dtype, dtype);
    EXPECT_EQ(weight.shape, (std::vector<Index>{300, 200}));
    double sum = 0, squares = 0, fourth = 0;
    for (Index i = 0; i < weight.size(); ++i) {
      const double value = static_cast<double>(value_at(weight, i)) / 0.02;
      sum += value;
      squares += value * value;
      fourth += value * value * value * value;
    }
    const double n = 60000;
    // Standard errors: 1/sqrt(n) of the mean, sqrt(2/n) of the variance; five of them. A sum of four uniform numbers has
    // kurtosis 3 - 1.2/4 = 2.7.
    EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2 / n));
    EXPECT_NEAR(fourth / n, 2.7, 0.15);
    for (const char* norm : {"model.norm.weight", "h.0.ln_1.weight", "transformer.ln_f.weight", "x.pre_layrnorm.weight",
                             "layers.3.input_layernorm.weight", "layernorm_before.weight", "encoder.layer_norm2.weight", "LayerNorm.weight"}) {
      EXPECT_EQ(value_at(*source.find(norm, flat), 199), 1.0f) << norm;
    }
    EXPECT_EQ(value_at(*source.find("fc.bias", flat), 7), 0.0f);
    EXPECT_EQ(value_at(*source.find("model.norm.bias", flat), 7), 0.0f);
  }
}

TEST(RandomWeights, SameNameSameTensorSameSeedSameBytes) {
  const Index shape[] = {1000, 1000};
  const RandomWeights one(DType::kBF16, 5), same(DType::kBF16, 5), other(DType::kBF16, 6);
  const TensorView a = *one.find("a.weight", shape), b = *same.find("a.weight", shape);
  EXPECT_EQ(one.find("a.weight", shape)->data, a.data);
  EXPECT_NE(a.data, b.data);
  EXPECT_EQ(std::memcmp(a.data, b.data, 2'000'000), 0);
  EXPECT_NE(std::memcmp(a.data, one.find("b.weight", shape)->data, 2'000'000), 0);
  EXPECT_NE(std::memcmp(a.data, other.find("a.weight", shape)->data, 2'000'000), 0);
  EXPECT_EQ(one.bytes(), 4'000'000u);
  const RandomWeights copy = one;
  EXPECT_EQ(copy.find("a.weight", shape)->data, a.data) << "copies share the tensors";
}

TEST(RandomWeights, ServeAModelsQuestions) {
  const RandomWeights source(DType::kF16);
  const Weights weights = Weights(source).under("model").scope("layers", 2);
  const Weights::Part parts[] = {{"q_proj", 8}, {"k_proj", 4}};
  const auto projections = weights.projections(parts, 16, Weights::Bias::kRequired);
  EXPECT_EQ(projections[1].weight.out_features, 4);
  EXPECT_EQ(projections[1].bias, std::vector<float>(4, 0.0f));
  EXPECT_EQ(weights.vector("norm.weight", 3), std::vector<float>(3, 1.0f));
}

TEST(RandomWeights, RefuseWhatTheyCannotMake) {
  EXPECT_THROW(RandomWeights{DType::kI64}, Error);
  const RandomWeights source;
  for (const auto& shape : {std::vector<Index>{-1, 2}, std::vector<Index>{Index{1} << 40, Index{1} << 40}, std::vector<Index>{Index{1} << 62}}) {
    EXPECT_THROW(static_cast<void>(source.find("a", shape)), Error);
  }
  EXPECT_EQ(source.find("none", std::vector<Index>{0, 3})->size(), 0);
}

TEST(ConvertedWeights, RoundOnceAndKeepTheirPlace) {
  TempFolder folder;
  with_config(folder);
  const std::vector<float> values = {1.0f, -0.1f, 3.14159265f, 1e-3f};
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(to_f16(value).bits);
  const std::vector<double> doubles(values.begin(), values.end());
  const std::vector<std::int64_t> ids = {1, 2};
  write_safetensors(folder.path() / "model.safetensors",
                    std::vector{NamedTensor::floats("f32", {2, 2}, values), NamedTensor::int64s("ids", {2}, ids),
                                NamedTensor::of("f16", DType::kF16, {4}, std::span<const std::uint16_t>(halves)),
                                NamedTensor::of("f64", DType::kF64, {4}, std::span<const double>(doubles)),
                                NamedTensor::of("byte", DType::kU8, {1}, std::span<const std::byte>(std::vector{std::byte{7}}))});
  const auto checkpoint = Checkpoint::open(folder.path());
  const ConvertedWeights weights(checkpoint, DType::kBF16);
  static_assert(WeightSource<decltype(weights)>);
  const TensorView f32 = *weights.find("f32", {});
  EXPECT_EQ(f32.dtype, DType::kBF16);
  EXPECT_EQ(f32.shape, (std::vector<Index>{2, 2}));
  EXPECT_EQ(weights.find("f32", {})->data, f32.data);
  for (Index i = 0; i < 4; ++i) {
    const float value = values[static_cast<std::size_t>(i)];
    EXPECT_EQ(value_at(f32, i), to_float(to_bf16(value)));
    EXPECT_EQ(value_at(*weights.find("f64", {}), i), to_float(to_bf16(value)));
    EXPECT_EQ(value_at(*weights.find("f16", {}), i), to_float(to_bf16(to_float(to_f16(value)))));
  }
  EXPECT_EQ(weights.bytes(), 24u);
  EXPECT_EQ(weights.find("ids", {})->data, checkpoint->find("ids")->data);
  EXPECT_FALSE(weights.find("none", {}));
  EXPECT_TRUE(weights.contains("f32"));
  EXPECT_EQ(weights.where("f32"), "model.safetensors");
  const ConvertedWeights same(checkpoint, DType::kF32);
  EXPECT_EQ(same.find("f32", {})->data, checkpoint->find("f32")->data) << "what has the dtype already is not copied";
  EXPECT_EQ(value_at(*same.find("f16", {}), 1), to_float(to_f16(-0.1f)));
  EXPECT_THROW(ConvertedWeights(checkpoint, DType::kU8), Error);
}

// A matrix stored [in, out] comes back [out, in]; what is dear keeps eight bits; vectors stay.
TEST(ConvertedWeights, QuantizeByUse) {
  TempFolder folder;
  with_config(folder);
  std::vector<float> values(40 * 96);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37f);
  write_safetensors(folder.path() / "model.safetensors", std::vector{NamedTensor::floats("w", {40, 96}, values),
                                                                     NamedTensor::floats("norm", {40, 96}, values),
                                                                     NamedTensor::floats("conv", {40, 3, 32}, values)});
  const auto checkpoint = Checkpoint::open(folder.path());
  const Index shape[] = {40, 96};
  const auto find = [&](const ConvertedWeights<Checkpoint>& weights, std::string_view part, TensorUse use, WeightLayout layout) {
    return *weights.find({use == TensorUse::kVector ? "norm" : "w", part, shape, use, layout});
  };
  const auto expect_close = [&](const TensorView& view, auto&& at, float most) {
    for (Index i = 0; i < view.shape[0]; ++i) {
      std::vector<float> row(static_cast<std::size_t>(view.shape[1]));
      StoredRows::of(view).read(i, 0, row);
      for (Index j = 0; j < view.shape[1]; ++j) ASSERT_NEAR(row[static_cast<std::size_t>(j)], at(i, j), most) << i << ' ' << j;
    }
  };
  const auto straight = [&](Index i, Index j) { return values[static_cast<std::size_t>(i * 96 + j)]; };
  const auto turned = [&](Index i, Index j) { return straight(j, i); };
  const float q8 = 1.0f / 254 + 1e-3f, q4 = 1.0f / 8;
  using enum WeightLayout;
  {
    const ConvertedWeights weights(checkpoint, DType::kQ8_0);
    const TensorView view = find(weights, "mlp.up_proj.weight", TensorUse::kMatrix, kOutIn);
    EXPECT_EQ(view.dtype, DType::kQ8_0);
    EXPECT_EQ(view.shape, (std::vector<Index>{40, 96}));
    expect_close(view, straight, q8);
    EXPECT_EQ(find(weights, "norm.weight", TensorUse::kVector, kOutIn).data, checkpoint->find("norm")->data);
    EXPECT_EQ(weights.find({"conv", "patch.weight", shape, TensorUse::kMatrix, kOutIn})->shape, (std::vector<Index>{40, 96}));
  }
  {
    const ConvertedWeights weights(checkpoint, DType::kQ4_0);
    const TensorView view = find(weights, "mlp.up_proj.weight", TensorUse::kMatrix, kInOut);
    EXPECT_EQ(view.dtype, DType::kQ4_0);
    EXPECT_EQ(view.shape, (std::vector<Index>{96, 40})) << "blocks go along the inputs";
    expect_close(view, turned, q4);
  }
  for (const auto& [part, use] : {std::pair("embed_tokens.weight", TensorUse::kTable), {"lm_head.weight", TensorUse::kMatrix},
                                  {"layers.0.self_attn.v_proj.weight", TensorUse::kMatrix}}) {
    EXPECT_EQ(find(ConvertedWeights(checkpoint, DType::kQ4_0), part, use, kOutIn).dtype, DType::kQ8_0) << part;
  }
}

TEST(ConvertedWeights, QuantizedFilesBecomeFloatsAgain) {
  TempFolder folder;
  with_config(folder);
  std::vector<std::byte> bytes(2 * row_bytes(DType::kQ4_0, 40));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 100);
  SafetensorsWriter writer(folder.path() / "model.safetensors", {{"w", DType::kQ4_0, {2, 40}}});
  writer.write(bytes);
  writer.commit();
  const auto checkpoint = Checkpoint::open(folder.path());
  const Index shape[] = {2, 40};
  const TensorRequest request{"w", "w.weight", shape, TensorUse::kMatrix};
  const ConvertedWeights floats(checkpoint, DType::kF32), again(checkpoint, DType::kQ8_0);
  const TensorView view = *floats.find(request);
  EXPECT_EQ(view.dtype, DType::kF32);
  std::vector<float> row(40);
  StoredRows::of(*checkpoint->find("w")).read(1, 0, row);
  for (Index i = 0; i < 40; ++i) EXPECT_EQ(value_at(view, 40 + i), row[static_cast<std::size_t>(i)]);
  EXPECT_EQ(again.find(request)->data, checkpoint->find("w")->data) << "what is quantized already is not quantized twice";
}

}  // namespace io_checkpoint
}  // namespace duet
