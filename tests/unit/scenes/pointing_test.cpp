#include "scenes/pointing.hpp"

#include <gmock/gmock.h>

#include "support/temp_folder.hpp"

namespace scenes_pointing {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// 4x4 patches of 8x8 pixels.
constexpr PatchGrid kGrid{4, 4, 32.0, 32.0};

SceneObject object(std::string colour, std::string shape, Box box) {
  return {std::move(shape), std::move(colour), "small", (box.left + box.right) / 2, (box.top + box.bottom) / 2, box};
}

std::vector<std::size_t> patches_in(const Box& box) {
  std::vector<std::size_t> result;
  for (std::size_t patch = 0; patch < kGrid.size(); ++patch) {
    if (kGrid.points_into(patch, box)) result.push_back(patch);
  }
  return result;
}

TEST(PatchGrid, APatchPointsAtWhatItsCentreLiesIn) {
  EXPECT_THAT(patches_in({9, 1, 23, 7}), ElementsAre(1, 2)) << "to the right, not down";
  EXPECT_THAT(patches_in({1, 9, 7, 23}), ElementsAre(4, 8)) << "down, not to the right";
  EXPECT_THAT(patches_in({5, 5, 11, 11}), ElementsAre()) << "four patches touched, no centre inside";
  EXPECT_THAT(patches_in({4, 4, 12, 12}), ElementsAre(0, 1, 4, 5)) << "edges belong to the box";
  EXPECT_EQ(patches_in({0, 0, 32, 32}).size(), kGrid.size());
}

TEST(PatchGrid, PatchesNeedNotBeSquare) {
  constexpr PatchGrid kWide{2, 4, 80.0, 20.0};  // of 20x10 pixels
  EXPECT_TRUE(kWide.points_into(5, {29, 14, 31, 16}));
  EXPECT_EQ(kWide.count_in({29, 14, 31, 16}), 1u);
}

TEST(PatchGrid, ChanceCountsByTheSameRule) {
  for (const Box& box : {Box{9, 1, 23, 7}, Box{5, 5, 11, 11}, Box{4, 4, 12, 12}}) EXPECT_EQ(kGrid.count_in(box), patches_in(box).size());
}

Scene scene() {
  Scene result;
  result.objects = {object("red", "circle", {0, 0, 8, 8}), object("red", "star", {16, 16, 32, 32})};
  return result;
}

/// Places and words of what is named.
std::vector<std::string> named(const std::vector<std::string>& caption) {
  std::vector<std::string> result;
  const Scene truth = scene();
  for (const NamingWord& w : naming_words(caption, truth)) {
    result.push_back(duet::concat(w.word, w.is_colour ? " colour of the " : " shape of the ", w.object->shape));
  }
  return result;
}

TEST(NamingWords, AreTheColourAndShapeOfAnObjectOfTheScene) {
  EXPECT_THAT(named({"a", "small", "red", "star", "below", "a", "small", "red", "circle"}),
              ElementsAre("2 colour of the star", "3 shape of the star", "7 colour of the circle", "8 shape of the circle"));
}

TEST(NamingWords, AWrongWordLeavesItsObjectOut) {
  EXPECT_THAT(named({"a", "small", "blue", "star", "below", "a", "large", "red", "circle"}),
              ElementsAre("7 colour of the circle", "8 shape of the circle"))
      << "no blue star; a wrong size leaves no doubt which circle is meant";
  EXPECT_THAT(named({"a", "small", "red", "cross"}), ElementsAre());
  EXPECT_THAT(named({"red"}), ElementsAre());
  EXPECT_THAT(named({}), ElementsAre());
}

/// A caption whose words look at one patch each: in layer 0 with both heads, in layer 1 with the second head alone, while its first
/// looks, somewhat harder, at patch 3.
duet::AttentionTrace trace(const std::vector<std::pair<std::string, duet::Index>>& words) {
  duet::AttentionTrace result;
  result.rows = result.cols = 4;
  result.num_layers = result.num_heads = 2;
  for (const auto& [text, patch] : words) {
    duet::AttentionTrace::Word& word = result.words.emplace_back();
    word.text = text;
    word.tokens = 1;
    for (duet::Index layer = 0; layer < 2; ++layer) {
      duet::Matrix& weights = word.layers.emplace_back(2, 16);
      for (duet::Index head = 0; head < 2; ++head) weights(head, layer == 1 && head == 0 ? 3 : patch) = layer == 1 && head == 0 ? 0.6f : 0.5f;
    }
  }
  return result;
}

TEST(PointingGame, CountsPeaksByLayerAndHead) {
  PointingGame game;
  // The circle has patch 0; the star has 10, 11, 14 and 15.
  game.play(trace({{"a", 3}, {"red", 15}, {"star", 9}, {"below", 3}, {"a", 3}, {"red", 0}, {"circle", 0}}), scene(), 32, 32);
  ASSERT_EQ(game.played.size(), 1u + 2 + 4);
  const auto expect = [&](std::size_t i, const duet::HeatChoice& choice, std::size_t colours, std::size_t shapes) {
    const Pointing& p = game.played[i];
    EXPECT_EQ(p.choice.layer, choice.layer) << i;
    EXPECT_EQ(p.choice.head, choice.head) << i;
    EXPECT_EQ(p.colours.right, colours) << i;
    EXPECT_EQ(p.shapes.right, shapes) << i;
    EXPECT_EQ(p.colours.asked, 2u) << i;
    EXPECT_EQ(p.shapes.asked, 2u) << i;
  };
  expect(0, {}, 2, 1);      // three heads outweigh one
  expect(1, {0, {}}, 2, 1);  // the star looks beside itself
  expect(2, {1, {}}, 0, 0);
  expect(3, {0, 0}, 2, 1);
  expect(4, {0, 1}, 2, 1);
  expect(5, {1, 0}, 0, 0);
  expect(6, {1, 1}, 2, 1);
  EXPECT_EQ(game.words(), 4u);
  EXPECT_DOUBLE_EQ(game.random_patch(), (1 + 1 + 4 + 4) / (4 * 16.0));
  EXPECT_DOUBLE_EQ(game.random_object(), 0.5);
}

TEST(PointingGame, GamesAddUp) {
  PointingGame all, circle, nothing;
  circle.play(trace({{"red", 0}, {"circle", 0}}), scene(), 32, 32);
  nothing.play(trace({{"blue", 0}, {"cross", 0}}), scene(), 32, 32);
  all.add(nothing);
  EXPECT_EQ(all.words(), 0u);
  EXPECT_EQ(all.random_patch(), 0.0);
  EXPECT_EQ(all.random_object(), 0.0);
  all.add(circle);
  all.add(circle);
  EXPECT_EQ(all.words(), 4u);
  EXPECT_EQ(all.played[1].all().right, 4u);
  EXPECT_EQ(all.played[6].choice.head, 1);
  EXPECT_DOUBLE_EQ(all.random_patch(), 1 / 16.0);
}

TEST(PointingGame, TheBestLayerIsChosenAmongLayersOnOtherScenes) {
  const auto game = [](std::vector<std::size_t> right) {
    PointingGame result;
    result.played = {{{}, {10, 10}, {}},  // the mean of all and a single head are no layers
                     {{0, {}}, {right[0], 10}, {}},
                     {{1, {}}, {0, 5}, {right[1], 5}},
                     {{2, {}}, {right[2], 10}, {}},
                     {{0, 0}, {10, 10}, {}}};
    return result;
  };
  EXPECT_EQ(game({3, 4, 2}).best_layer(), 2u);
  EXPECT_EQ(game({3, 4, 4}).best_layer(), 2u) << "the first of equals";
  EXPECT_EQ(game({4, 3, 4}).best_layer(), 1u);
  const PointingReport report{game({1, 2, 5}), game({1, 5, 2})};
  EXPECT_EQ(report.chosen().choice.layer, 1);
  EXPECT_EQ(report.chosen().all().right, 2u) << "reported on these scenes, chosen on those";
}

TEST(PointingGame, NoLayerIsChosenOnScenesThatAreReportedOn) {
  const std::vector<Scene> here{scene()};
  std::vector<Scene> there{scene(), scene()};
  there[0].objects[0].box.right = 9;
  there[1].objects.pop_back();
  EXPECT_NO_THROW(require_disjoint(here, there, "there"));
  there.push_back(scene());
  try {
    require_disjoint(here, there, "there");
    FAIL();
  } catch (const duet::Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("there"));
    EXPECT_THAT(e.what(), HasSubstr("another seed"));
  }
}

TEST(ReadScenes, ReadsBoxesAndRefusesHalfOfOne) {
  const duet::test::TempFolder folder;
  const auto write = [&](const std::string& bbox) {
    folder.write("scenes.jsonl",
                 R"({"file": "0.png", "objects": [{"shape": "ring", "colour": "red", "size": "small", "centre": [8, 9], "bbox": )" + bbox +
                     R"(}], "captions": ["a small red ring"], "questions": []})" + "\n");
  };
  write("[1, 2.5, 15, 15.5]");
  EXPECT_EQ(read_scenes(folder.path(), 0).at(0).objects.at(0).box, (Box{1, 2.5, 15, 15.5}));
  for (const char* wrong : {"[1, 2, 15]", "[15, 2, 1, 15]", "[1, 15, 15, 2]"}) {
    write(wrong);
    EXPECT_THROW((void)read_scenes(folder.path(), 0), duet::Error) << wrong;
  }
}

}  // namespace scenes_pointing
