// The program that holds models against rendered scenes, on the bundled ones.

#include <gmock/gmock.h>

#include "end_to_end/program.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {
using duet::test::TempFolder;
namespace end_to_end_evaluate {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kModels = "'" + example("models/scenes-a") + "' '" + example("models/scenes-b") + "'";

Outcome evaluate(const std::string& arguments) { return run_program(DUET_EVALUATE, arguments); }

/// The bundled scenes shared out to two folders: the first eight to report on, the others to choose a layer on.
class Pointing : public ::testing::Test {
 protected:
  Pointing() {
    std::ifstream lines(example("scenes/bundled/scenes.jsonl"));
    std::string line, here, there;
    for (int i = 0; std::getline(lines, line); ++i) (i < 8 ? here : there) += line + '\n';
    folder_.write("here/scenes.jsonl", here);
    folder_.write("there/scenes.jsonl", there);
    for (const fs::directory_entry& file : fs::directory_iterator(example("scenes/bundled"))) {
      if (file.path().extension() != ".png") continue;
      for (const char* name : {"here", "there"}) fs::copy(file.path(), folder_.path() / name);
    }
  }
  [[nodiscard]] std::string folder(const char* name) const { return " '" + (folder_.path() / name).string() + "'"; }

 private:
  TempFolder folder_;
};

TEST_F(Pointing, BothMethodsPointAtWhatTheyName) {
  const Outcome outcome = evaluate(kModels + folder("here") + " --pointing" + folder("there") + " --json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto models = outcome.json()["models"];
  ASSERT_EQ(models.size(), 2u);
  for (const auto& model : models) {
    const auto& pointing = model["pointing"];
    EXPECT_GT(pointing["both"]["share"].get<double>(), 0.6) << model["name"] << ", where the whole seed's is above 0.8";
    EXPECT_LT(pointing["here"]["random_patch"].get<double>(), 0.2) << model["name"];
    EXPECT_EQ(pointing["both"]["asked"], pointing["here"]["words"]) << model["name"];
    EXPECT_NE(pointing["here"]["words"], pointing["chosen_on"]["words"]) << model["name"];
    int chosen = -1, best = -1;  // on the others, whatever is best here
    for (const auto& choice : pointing["chosen_on"]["choices"]) {
      if (choice["layer"].is_null() || !choice["head"].is_null()) continue;
      const int right = choice["colours"]["right"].get<int>() + choice["shapes"]["right"].get<int>();
      best = std::max(best, right);
      if (choice["layer"] == pointing["layer"]) chosen = right;
    }
    EXPECT_EQ(chosen, best) << model["name"];
  }
}

TEST_F(Pointing, TheNumberOfThreadsChangesNothing) {
  const auto pointing = [&](const std::string& threads) {
    return evaluate("'" + example("models/scenes-b") + "'" + folder("here") + " --pointing" + folder("there") + " --json --threads " + threads)
        .json()["models"][0]["pointing"];
  };
  EXPECT_EQ(pointing("1"), pointing("3"));
}

TEST_F(Pointing, NeedsScenesOfItsOwn) {
  const Outcome outcome = evaluate(kModels + folder("here") + " --pointing" + folder("here"));
  EXPECT_TRUE(outcome.is_clear_error()) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("another seed"));
}

TEST_F(Pointing, IsPlayedOnRequest) {
  const Outcome table = evaluate(kModels + folder("here"));
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, ::testing::Not(HasSubstr("points at")));
  EXPECT_FALSE(evaluate(kModels + folder("here") + " --json").json()["models"][0].contains("pointing"));
  EXPECT_THAT(evaluate(kModels + folder("here") + " --pointing" + folder("there")).out, HasSubstr("points at what it names"));
}

}  // namespace end_to_end_evaluate
}  // namespace duet::testing
