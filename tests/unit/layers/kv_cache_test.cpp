#include "duet/layers/kv_cache.hpp"

#include <gtest/gtest.h>

#include "support/kernel_machine.hpp"

namespace duet {
namespace layers_kv_cache {

using kernels::kPageSize;

/// The row of position `p` holds 1000 · p + channel.
Matrix numbered(Index begin, Index rows, Index cols, float sign) {
  Matrix result(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) result(i, j) = sign * static_cast<float>(1000 * (begin + i) + j);
  }
  return result;
}

float key_at(const KeyValueStore& store, Index position, Index head, Index channel) {
  return store.pages().key(head, position, channel);
}
float value_at(const KeyValueStore& store, Index position, Index head, Index channel) {
  return store.pages().value(head, position, channel);
}
class KeyValueStoreTest : public ::testing::Test {
 protected:
  test::KernelMachine machine_{kernels::Isa::kPortable};
  Workspace& workspace_ = machine_.workspace();
};
using KvCacheTest = KeyValueStoreTest;

TEST_F(KeyValueStoreTest, KeepsRowsAcrossPages) {
  constexpr Index kHeads = 3, kDim = 5, kRows = 2 * kPageSize + 7;
  KeyValueStore store(kRows, kHeads, kDim);
  for (Index begin = 0; begin < kRows; begin += 13) {  // writes that cross the borders of pages
    const Index rows = std::min<Index>(13, kRows - begin);
    store.write(begin, numbered(begin, rows, kHeads * kDim, 1.0f), numbered(begin, rows, kHeads * kDim, -1.0f), workspace_);
  }
  for (Index p = 0; p < kRows; ++p) {
    for (Index head = 0; head < kHeads; ++head) {
      for (Index c = 0; c < kDim; ++c) {
        const auto number = static_cast<float>(1000 * p + head * kDim + c);
        ASSERT_EQ(key_at(store, p, head, c), number);
        ASSERT_EQ(value_at(store, p, head, c), -number);
      }
    }
  }
}

TEST_F(KeyValueStoreTest, ReservesWholePagesInEveryFormat) {
  for (const auto& [capacity, pages] : {std::pair<Index, Index>{0, 0}, {1, 1}, {kPageSize, 1}, {kPageSize + 1, 2}}) {
    const auto bytes = [&](KeyValueFormat format, Index head_dim) {
      return static_cast<Index>(KeyValueStore(capacity, 3, head_dim, format).bytes());
    };
    const Index positions = pages * 3 * kPageSize;
    EXPECT_EQ(bytes(KeyValueFormat::kF32, 64), positions * 2 * 64 * 4);
    EXPECT_EQ(bytes(KeyValueFormat::kBF16, 64), positions * 2 * 64 * 2);
    EXPECT_EQ(bytes(KeyValueFormat::kF16, 64), positions * 2 * 64 * 2);
    EXPECT_EQ(bytes(KeyValueFormat::kQ8, 64), positions * 2 * (64 + 2 * 2));
    EXPECT_EQ(bytes(KeyValueFormat::kQ8, 6), positions * (8 + 16 + 2 * 2)) << "keys are padded to whole quads";
    EXPECT_EQ(bytes(KeyValueFormat::kQ8, 72), positions * (72 + 80 + 2 * 3 * 2)) << "values are padded to whole vectors";
  }
}

TEST_F(KeyValueStoreTest, OverwritesOnlyWhatIsWritten) {
  KeyValueStore store(10, 1, 4);
  store.write(0, numbered(0, 10, 4, 1.0f), numbered(0, 10, 4, 1.0f), workspace_);
  store.write(4, numbered(50, 2, 4, 1.0f), numbered(50, 2, 4, 1.0f), workspace_);
  EXPECT_EQ(key_at(store, 3, 0, 0), 3000.0f);
  EXPECT_EQ(key_at(store, 4, 0, 0), 50000.0f);
  EXPECT_EQ(value_at(store, 5, 0, 3), 51003.0f);
  EXPECT_EQ(key_at(store, 6, 0, 0), 6000.0f);
}

TEST_F(KvCacheTest, LayersShareMemoryAndNothingElse) {
  constexpr Index kLayers = 3, kHeads = 2, kDim = 4, kRows = 17 * kPageSize + 5;  // chunks of 8 pages, the last one in part
  KvCache cache(kLayers, kRows, kHeads, kDim);
  const auto number = [](Index layer, Index p) { return static_cast<float>(layer * kRows + p); };
  for (Index begin = 0; begin < kRows; begin += 100) {
    const Index rows = std::min<Index>(100, kRows - begin);
    for (Index layer = 0; layer < kLayers; ++layer) {
      Matrix k(rows, kHeads * kDim), v(rows, kHeads * kDim);
      for (Index i = 0; i < rows; ++i) {
        std::ranges::fill(k.view().row(i), number(layer, begin + i));
        std::ranges::fill(v.view().row(i), -number(layer, begin + i));
      }
      cache.layer(layer).write(begin, k, v, workspace_);
    }
  }
  for (Index layer = 0; layer < kLayers; ++layer) {
    for (Index p = 0; p < kRows; ++p) {
      for (Index head = 0; head < kHeads; ++head) {
        ASSERT_EQ(key_at(cache.layer(layer), p, head, kDim - 1), number(layer, p));
        ASSERT_EQ(value_at(cache.layer(layer), p, head, 0), -number(layer, p));
      }
    }
  }
}

TEST_F(KvCacheTest, CountsAndForgets) {
  KvCache cache(2, 100, 1, 4);
  EXPECT_EQ(cache.capacity(), 100);
  EXPECT_EQ(cache.bytes(), 2 * KeyValueStore(100, 1, 4).bytes());
  EXPECT_EQ(cache.length(), 0);
  cache.advance(30);
  cache.advance(1);
  EXPECT_EQ(cache.length(), 31);
  cache.truncate(40);  // there is nothing to forget
  EXPECT_EQ(cache.length(), 31);
  cache.truncate(7);
  EXPECT_EQ(cache.length(), 7);
}

TEST_F(KvCacheTest, MovesWithItsPages) {
  KvCache cache(1, 10, 1, 4);
  cache.layer(0).write(0, numbered(0, 3, 4, 1.0f), numbered(0, 3, 4, 1.0f), workspace_);
  cache.advance(3);
  KvCache moved = std::move(cache);
  EXPECT_EQ(moved.length(), 3);
  EXPECT_EQ(key_at(moved.layer(0), 2, 0, 1), 2001.0f);
}

TEST(VisualMemory, IsEmptyWithoutRows) {
  EXPECT_TRUE(VisualMemory().empty());
  EXPECT_TRUE(VisualMemory(2, 0, 1, 4).empty());
  const VisualMemory memory(2, 5, 1, 4);
  EXPECT_FALSE(memory.empty());
  EXPECT_EQ(memory.num_rows(), 5);
  EXPECT_EQ(memory.bytes(), 2 * KeyValueStore(5, 1, 4).bytes());
}

}  // namespace layers_kv_cache
}  // namespace duet
