#include "duet/layers/extra_ranges.hpp"

#include <gmock/gmock.h>

#include "support/reference_layers.hpp"

namespace duet::testing {
namespace layers_extra_ranges {

using kernels::AttentionJob;
using kernels::KeyRange;
using reference::tiny_rows;

constexpr Index kKeys = 200;
constexpr kernels::AttentionShape kShape{.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 24, .scale = 0.4f};

/// Rows, the ranges of keys that they see, and what attention makes of them.
struct Case {
  Matrix q;
  std::vector<KeyRange> visible;
  std::vector<ExtraRange> extras;
};

Case mixed(Index rows) {
  Case result{tiny_rows(rows, 96, 5), {}, {}};
  for (Index i = 0; i < rows; ++i) {
    result.visible.push_back({i % 7, 20 + i});
    if (i % 5 != 2) result.extras.push_back({i, {70 + i, 75 + 2 * i}});
    if (i % 5 == 4) result.extras.push_back({i, {150, 163}});
    if (i % 5 == 4) result.extras.push_back({i, {190, kKeys}});
    if (i % 5 == 1) result.extras.push_back({i, {5, 5}});  // sees nothing
  }
  result.visible[3] = {0, 0};  // nothing but its extra range
  return result;
}

struct Keys {
  Matrix k = tiny_rows(kKeys, 48, 2), v = tiny_rows(kKeys, 48, 3);
  KeyValueStore store{kKeys, 2, 24};
  explicit Keys(Machine& machine) { store.write(0, k, v, machine.workspace); }
};

struct Result {
  Matrix out, log_sum_exp;
};
Result attend(const Case& c, Phase phase, Index first, Index rows, int threads = 1) {
  Machine machine(threads);
  const Keys keys(machine);
  Result result{Matrix(rows, 96), Matrix(rows, 4)};
  std::vector<ExtraRange> extras;
  for (const ExtraRange& e : c.extras) {
    if (e.row >= first && e.row < first + rows) extras.push_back({e.row - first, e.keys});
  }
  AttentionJob jobs[] = {{c.q.view().rows(first, rows), keys.store.pages(),
                          std::span(c.visible).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), result.out, result.log_sum_exp}};
  const std::span<const ExtraRange> extras_of[] = {extras};
  attention_over_ranges(jobs, extras_of, kShape, phase, machine.workspace);
  return result;
}

/// Attention under an explicit mask: keys that a row does not see are left out of its own list.
reference::Row masked(const Case& c, Index row) {
  Machine machine;
  const Keys keys(machine);
  const reference::Rows k = reference::rows_of(keys.k), v = reference::rows_of(keys.v);
  reference::Rows seen_k, seen_v;
  for (Index j = 0; j < kKeys; ++j) {
    const auto in = [j](KeyRange range) { return range.begin <= j && j < range.end; };
    const bool seen = in(c.visible[static_cast<std::size_t>(row)]) ||
                      std::ranges::any_of(c.extras, [&](const ExtraRange& e) { return e.row == row && in(e.keys); });
    if (!seen) continue;
    seen_k.push_back(k[static_cast<std::size_t>(j)]);
    seen_v.push_back(v[static_cast<std::size_t>(j)]);
  }
  const KeyRange all[] = {{0, static_cast<Index>(seen_k.size())}};
  return reference::attention({reference::rows_of(c.q)[static_cast<std::size_t>(row)]}, seen_k, seen_v, all, kShape)[0];
}

TEST(ExtraRanges, EqualAnExplicitMask) {
  const Case c = mixed(30);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    const Result got = attend(c, phase, 0, 30);
    for (Index i = 0; i < 30; ++i) {
      // A merge adds a few roundings of numbers of the size of the values, which are at most one.
      reference::Row expected = masked(c, i);
      for (reference::Bounded& b : expected) b.error += 16.0 * reference::kUnit;
      reference::expect_within(got.out.view().rows(i, 1), {expected}, "row " + std::to_string(i));
    }
  }
}

TEST(ExtraRanges, RowsWithOneRangeKeepTheirBits) {
  const Case c = mixed(30);
  Case alone = mixed(30);
  alone.extras.clear();
  const Result got = attend(c, Phase::kPrefill, 0, 30), without = attend(alone, Phase::kPrefill, 0, 30);
  for (const Index i : {2, 7, 12, 27}) EXPECT_THAT(got.out.view().row(i), ::testing::ElementsAreArray(without.out.view().row(i))) << i;
  EXPECT_THAT(got.out.view().row(4), ::testing::Not(::testing::ElementsAreArray(without.out.view().row(4))));
}

TEST(ExtraRanges, BitsDependOnNoOtherRowAndNoThread) {
  const Case c = mixed(30);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    const Result whole = attend(c, phase, 0, 30), threaded = attend(c, phase, 0, 30, 3);
    for (Index i = 0; i < 30; ++i) {
      const Result alone = attend(c, phase, i, 1);
      EXPECT_THAT(alone.out.view().row(0), ::testing::ElementsAreArray(whole.out.view().row(i))) << i;
      EXPECT_THAT(threaded.out.view().row(i), ::testing::ElementsAreArray(whole.out.view().row(i))) << i;
    }
  }
}

TEST(ExtraRanges, LogSumExpIsOfAllRanges) {
  const Case c = mixed(30);
  Case contiguous{Matrix::clone(c.q), std::vector<KeyRange>(30, KeyRange{10, 90}), {}}, split = {Matrix::clone(c.q), std::vector<KeyRange>(30, KeyRange{10, 33}), {}};
  for (Index i = 0; i < 30; ++i) split.extras.push_back({i, {33, 71}}), split.extras.push_back({i, {71, 90}});
  const Result one = attend(contiguous, Phase::kPrefill, 0, 30), three = attend(split, Phase::kPrefill, 0, 30);
  for (Index i = 0; i < 30; ++i) {
    for (Index h = 0; h < 4; ++h) EXPECT_NEAR(three.log_sum_exp(i, h), one.log_sum_exp(i, h), 2e-6f) << i << ", head " << h;
  }
}

}  // namespace layers_extra_ranges
}  // namespace duet::testing
