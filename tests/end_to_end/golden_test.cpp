// Every golden checkpoint, stage by stage, against the reference's numbers.

#include <gmock/gmock.h>

#include "duet/io/safetensors_writer.hpp"
#include "end_to_end/program.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {
using duet::test::TempFolder;
namespace end_to_end_golden {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::vector<fs::path> golden_folders(std::vector<fs::path> roots) {
  std::vector<fs::path> folders;
  for (const fs::path& root : roots) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      if (entry.is_directory() && fs::exists(entry.path() / "config.json")) folders.push_back(entry.path());
    }
  }
  return folders;
}

class Golden : public ::testing::TestWithParam<fs::path> {};

/// At the last position of its cache the reference's generate() shifts the keys of sliding layers by one: the oldest is lost, and an
/// empty one is seen (HybridCache, transformers 4.51). The logits of that one step are of this flaw, which Duet does not copy.
bool ends_in_the_references_flaw(const fs::path& folder) { return folder.filename() == "paligemma-2"; }

TEST_P(Golden, EveryStageAgrees) {
  const Outcome outcome = duet_program("check '" + GetParam().string() + "'");
  if (ends_in_the_references_flaw(GetParam())) {
    EXPECT_THAT(outcome.err, HasSubstr("1 of 15 stages differ; the first is golden.safetensors generated_logits"));
    EXPECT_THAT(outcome.out, HasSubstr("generated_ids: worst error 0"));
    EXPECT_THAT(outcome.out, HasSubstr("at [0, 15, "));  // the last step
    return;
  }
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("stages agree"));
}

/// Of a model of each mechanism: those in the repository.
class GoldenInShortFormats : public Golden {};

TEST_P(GoldenInShortFormats, EveryStageAgreesWithinTheRoundingOfKeysAndValues) {
  for (const char* kv : {"bf16", "f16", "q8"}) {
    const Outcome outcome = duet_program("check '" + GetParam().string() + "' --kv " + kv);
    EXPECT_EQ(outcome.code, 0) << kv << ": " << outcome.out << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("stages agree"));
  }
}

std::string name_of(const ::testing::TestParamInfo<fs::path>& param) {
  std::string name = std::to_string(param.index) + "_" + param.param.filename().string();
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Folders, Golden, ::testing::ValuesIn(golden_folders({DUET_TEST_GOLDEN_DIR, DUET_GOLDEN_DIR, fs::path(DUET_SHARED_DIR) / "weights"})),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Folders, GoldenInShortFormats, ::testing::ValuesIn(golden_folders({DUET_TEST_GOLDEN_DIR})), name_of);

/// A writable copy of a golden checkpoint.
fs::path copy_of(const std::string& name, const TempFolder& folder) {
  const fs::path to = folder.path() / name;
  fs::copy(golden(name), to, fs::copy_options::recursive);
  for (const auto& entry : fs::recursive_directory_iterator(to)) fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
  return to;
}

/// Flips bits of a tensor's first value in model.safetensors.
void corrupt(const fs::path& folder, const std::string& tensor) {
  const fs::path path = folder / "model.safetensors";
  std::string bytes = read_file(path);
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  const auto json = nlohmann::json::parse(bytes.substr(8, header));
  const std::size_t at = 8 + header + json.at(tensor).at("data_offsets")[0].get<std::size_t>();
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 0x02);  // of the exponent
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Check, NamesTheFirstStageThatACorruptWeightChanges) {
  const TempFolder folder;
  const fs::path llama = copy_of("llama-0", folder);
  corrupt(llama, "model.layers.1.mlp.down_proj.weight");
  const Outcome outcome = duet_program("check '" + llama.string() + "'");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("the first is golden.safetensors layer_out.1"));
  EXPECT_THAT(outcome.out, HasSubstr("equal     golden.safetensors layer_out.0"));

  const fs::path captioner = copy_of("vision-encoder-decoder-1", folder);
  corrupt(captioner, "encoder.encoder.layer.0.output.dense.weight");
  EXPECT_THAT(duet_program("check '" + captioner.string() + "'").err, HasSubstr("vision_layer_out.0"));
}

TEST(Check, ListsWhatItDidNotCompareAndFailsWhenThatIsAll) {
  const TempFolder folder;
  const fs::path llama = copy_of("llama-0", folder);
  for (const auto& entry : fs::directory_iterator(llama)) {
    if (entry.path().filename().string().starts_with("golden_")) fs::remove(entry);
  }
  const std::int64_t ids[] = {1, 2, 3};
  const float numbers[] = {0.5f};
  std::vector<NamedTensor> tensors;
  tensors.push_back(NamedTensor::int64s("inputs.input_ids", {1, 3}, ids));
  tensors.push_back(NamedTensor::floats("mystery", {1}, numbers));
  write_safetensors(llama / "golden_mystery.safetensors", tensors, {});
  const Outcome with_others = duet_program("check '" + llama.string() + "'");
  EXPECT_EQ(with_others.code, 0) << with_others.err;
  EXPECT_THAT(with_others.out, HasSubstr("not compared:\n  golden_mystery.safetensors mystery"));
  fs::remove(llama / "golden.safetensors");
  const Outcome alone = duet_program("check '" + llama.string() + "'");
  EXPECT_EQ(alone.code, 1);
  EXPECT_THAT(alone.out, HasSubstr("golden_mystery.safetensors mystery"));
  EXPECT_THAT(alone.err, HasSubstr("nothing was compared"));
}

TEST(Check, ATensorOfAnotherShapeDiffers) {
  const TempFolder folder;
  const fs::path llama = copy_of("llama-0", folder);
  const std::int64_t ids[] = {1, 2, 3};
  const float numbers[] = {0.5f};
  std::vector<NamedTensor> tensors;
  tensors.push_back(NamedTensor::int64s("inputs.input_ids", {1, 3}, ids));
  tensors.push_back(NamedTensor::floats("logits", {1}, numbers));
  write_safetensors(llama / "golden_short.safetensors", tensors, {});
  const Outcome outcome = duet_program("check '" + llama.string() + "'");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("the first is golden_short.safetensors logits"));
}

TEST(Check, WithoutGoldenFilesIsAnError) {
  const Outcome outcome = duet_program("check '" + example("models/scenes-a") + "'");
  EXPECT_TRUE(outcome.is_clear_error()) << outcome.err;
}

TEST(Forward, WritesTheStagesByTheirNames) {
  const TempFolder folder;
  const std::string out = (folder.path() / "out.safetensors").string();
  const Outcome outcome = duet_program("forward '" + golden("llava-0") + "' '" + golden("llava-0/golden.safetensors") + "' '" + out + "' --max-new-tokens 4");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string bytes = read_file(out);
  for (const char* name : {"\"logits\"", "\"layer_out.0\"", "\"vision_layer_out.3\"", "\"projected\"", "\"vision_embeds\"", "\"vision_out\"", "\"final_norm\"", "\"generated_ids\""}) {
    EXPECT_THAT(bytes.substr(0, 4000), HasSubstr(name));
  }
}

}  // namespace end_to_end_golden
}  // namespace duet::testing
