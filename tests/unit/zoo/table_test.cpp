// The README's table of models is what the zoo says of itself.

#include "duet/zoo/with_model.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

namespace duet::testing {
namespace zoo_table {

namespace fs = std::filesystem;

struct Line {
  std::string_view name, fusion;
  FamilyCard card;
  std::vector<std::string_view> model_types;
  Index cases = 0;
};

template <class Model>
constexpr std::string_view fusion_of() {
  if constexpr (requires { typename Model::FusionPolicy; }) {
    return Model::FusionPolicy::kName;
  } else {
    return "";
  }
}

/// Families of one name are one line.
template <class Family>
void add(std::vector<Line>& lines) {
  auto line = std::ranges::find(lines, Family::kName, &Line::name);
  if (line == lines.end()) line = lines.insert(line, {Family::kName, fusion_of<typename Family::Model>(), Family::kCard, {}, 0});
  for (const ModelType& type : Family::kModelTypes) {
    if (std::ranges::find(line->model_types, type.name) == line->model_types.end()) line->model_types.push_back(type.name);
  }
}
template <class... Families>
std::vector<Line> lines_of(FamilyList<Families...>) {
  std::vector<Line> lines;
  (add<Families>(lines), ...);
  return lines;
}

/// Counts the reference's runs that lie beside golden checkpoints, by family.
void count_cases(std::vector<Line>& lines) {
  for (const auto& folder : fs::directory_iterator(DUET_GOLDEN_DIR)) {
    if (!fs::exists(folder.path() / "config.json")) continue;
    const nlohmann::json config = read_json_file(folder.path() / "config.json");
    const std::string_view name =
        with_family(JsonView(config, "config.json"), [](auto tag) -> std::string_view { return decltype(tag)::type::kName; });
    for (const auto& file : fs::directory_iterator(folder.path())) {
      const std::string stem = file.path().stem().string();
      if (file.path().extension() == ".safetensors" && stem.starts_with("golden") && stem != "golden_preproc") {
        ++std::ranges::find(lines, name, &Line::name)->cases;
      }
    }
  }
}

std::string cell(std::string_view text) { return text.empty() ? std::string(" ") : concat(" ", text, " "); }

TEST(Readme, ItsTableOfModelsIsTheZoos) {
  std::vector<Line> lines = lines_of(Zoo{});
  const bool counted = fs::is_directory(DUET_GOLDEN_DIR);
  if (counted) count_cases(lines);
  std::ifstream file(fs::path(DUET_TEST_DIR) / ".." / "README.md");
  const std::string readme{std::istreambuf_iterator<char>(file), {}};
  std::string table = "| family | `model_type` | fusion | encoder | projector | decoder | logits equal to the reference on |\n|---|---|---|---|---|---|---|\n";
  for (const Line& line : lines) {
    std::string types;
    for (const std::string_view type : line.model_types) types += concat(types.empty() ? "" : ", ", "`", type, "`");
    std::string row = concat("|", cell(line.name), "|", cell(types), "|", cell(line.fusion), "|", cell(line.card.encoder), "|",
                             cell(line.card.projector), "|", cell(line.card.decoder), "|");
    if (counted) {
      row += line.cases == 0 ? " |" : line.cases == 1 ? " 1 case |" : concat(" ", line.cases, " cases |");
    } else {  // whatever the README says
      const std::size_t at = readme.find(row), end = readme.find('\n', at);
      if (at != std::string::npos) row = readme.substr(at, end - at);
    }
    table += row + '\n';
  }
  EXPECT_THAT(readme, ::testing::HasSubstr(table)) << "the README's table should be\n" << table;
}

}  // namespace zoo_table
}  // namespace duet::testing
