#include "duet/core/workspace.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>

namespace duet {
namespace core_workspace {

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0; }

TEST(Workspace, HandsOutDistinctAlignedMemory) {
  Workspace workspace({});
  const auto frame = workspace.frame();
  const auto bytes = workspace.array<char>(3);
  const auto floats = workspace.array<float>(5);
  const MatrixView matrix = workspace.matrix(3, 7);
  EXPECT_EQ(bytes.size(), 3u);
  EXPECT_EQ(floats.size(), 5u);
  EXPECT_EQ(matrix.rows(), 3);
  EXPECT_EQ(matrix.cols(), 7);
  EXPECT_TRUE(is_aligned(bytes.data()) && is_aligned(floats.data()) && is_aligned(matrix.data()));
  EXPECT_GE(reinterpret_cast<char*>(floats.data()), bytes.data() + 3);
  EXPECT_GE(matrix.data(), floats.data() + 5);
}

TEST(Workspace, GivesMemoryBackWhenAFrameEnds) {
  Workspace workspace({});
  const float* first = nullptr;
  {
    const auto frame = workspace.frame();
    first = workspace.array<float>(100).data();
  }
  const auto frame = workspace.frame();
  EXPECT_EQ(workspace.array<float>(100).data(), first);
}

TEST(Workspace, GoesBackToTheBlockThatAFrameBeganIn) {
  Workspace workspace({});
  const auto outer = workspace.frame();
  const std::byte* first = workspace.array<std::byte>(64).data();
  {
    const auto inner = workspace.frame();
    static_cast<void>(workspace.array<std::byte>(1 << 22));  // a block of its own
  }
  EXPECT_EQ(workspace.array<std::byte>(64).data(), first + 64);
}

TEST(Workspace, InnerFramesLeaveOuterMemoryAlone) {
  Workspace workspace({});
  const auto outer = workspace.frame();
  const auto kept = workspace.array<int>(10);
  std::fill(kept.begin(), kept.end(), 7);
  for (int i = 0; i < 3; ++i) {
    const auto inner = workspace.frame();
    const auto scratch = workspace.array<int>(1 << 20);  // more than a block
    std::fill(scratch.begin(), scratch.end(), -1);
  }
  for (const int value : kept) EXPECT_EQ(value, 7);
}

TEST(Workspace, MemoryStaysValidWhileItGrows) {
  Workspace workspace({});
  const auto frame = workspace.frame();
  const auto small = workspace.array<int>(1);
  small[0] = 42;
  std::set<const void*> places = {small.data()};
  for (int i = 0; i < 6; ++i) {
    const auto large = workspace.array<std::byte>(Index{1} << (20 + i));
    EXPECT_TRUE(places.insert(large.data()).second);
    std::fill(large.begin(), large.end(), std::byte{0xff});
  }
  EXPECT_EQ(small[0], 42);
}

/// One step of some layer, its arrays as large as `rows` asks.
void step(Workspace& workspace, Index rows) {
  const auto frame = workspace.frame();
  const auto a = workspace.matrix(rows, 300);
  {
    const auto inner = workspace.frame();
    static_cast<void>(workspace.matrix(rows, 1000));
    static_cast<void>(workspace.matrix(rows, 700));
  }
  static_cast<void>(workspace.matrix(rows, 900));
  static_cast<void>(a);
}

TEST(Workspace, AStepThatNeedsNoMoreAllocatesNothing) {
  Workspace workspace({});
  step(workspace, 1000);
  const std::size_t capacity = workspace.capacity();
  EXPECT_GT(capacity, 0u);
  for (const Index rows : {1000, 1, 999, 500, 1000, 0}) {
    step(workspace, rows);
    EXPECT_EQ(workspace.capacity(), capacity) << rows;
  }
}

TEST(Workspace, ReservedBytesAreTakenWithoutAllocation) {
  Workspace workspace({});
  workspace.reserve(10'000'000);
  const std::size_t capacity = workspace.capacity();
  EXPECT_GE(capacity, 10'000'000u);
  const auto frame = workspace.frame();
  static_cast<void>(workspace.array<std::byte>(6'000'000));
  static_cast<void>(workspace.array<std::byte>(3'999'900));
  EXPECT_EQ(workspace.capacity(), capacity);
}

TEST(Workspace, ReservingLessKeepsWhatIsThere) {
  Workspace workspace({});
  workspace.reserve(1000);
  const std::size_t capacity = workspace.capacity();
  workspace.reserve(10);
  EXPECT_EQ(workspace.capacity(), capacity);
}

TEST(Workspace, EmptyArraysAreFine) {
  Workspace workspace({});
  const auto frame = workspace.frame();
  EXPECT_TRUE(workspace.array<float>(0).empty());
  EXPECT_TRUE(workspace.matrix(0, 5).empty());
}

TEST(Workspace, MovesWithItsMemory) {
  Workspace from({});
  from.reserve(1000);
  Workspace to = std::move(from);
  EXPECT_GE(to.capacity(), 1000u);
  const auto frame = to.frame();
  EXPECT_TRUE(is_aligned(to.array<float>(10).data()));
}

}  // namespace core_workspace
}  // namespace duet
