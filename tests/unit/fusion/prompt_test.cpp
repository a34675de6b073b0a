#include "duet/fusion/prompt.hpp"

#include <gtest/gtest.h>

namespace duet {
namespace fusion_prompt {

TEST(Prompt, CausalContinuesWhereASessionStands) {
  const Prompt prompt = Prompt::causal({5, 6, 7}, 10, 4);
  EXPECT_EQ(prompt.size(), 3);
  EXPECT_EQ(prompt.positions, (std::vector<Index>{10, 11, 12}));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(prompt.visible[i].begin, 0);
    EXPECT_EQ(prompt.visible[i].end, 11 + static_cast<Index>(i)) << "what was read, and itself";
    EXPECT_EQ(prompt.visible_images[i].begin, 0);
    EXPECT_EQ(prompt.visible_images[i].end, 4);
  }
  EXPECT_TRUE(prompt.image_rows.empty());
  EXPECT_EQ(Prompt::causal({}).size(), 0);
}

TEST(ImageRows, AreEmptyWithoutRows) {
  EXPECT_TRUE(ImageRows().empty());
  EXPECT_FALSE((ImageRows{Matrix(2, 3), {{0, 2}}}).empty());
}

}  // namespace fusion_prompt
}  // namespace duet
