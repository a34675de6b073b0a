#include "duet/kernels/attention.hpp"
#include "duet/kernels/key_value_write.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/case_names.hpp"
#include "support/kernel_machine.hpp"
#include "support/reference.hpp"

namespace duet {
namespace kernels_attention {

using kernels::AttentionJob;
using kernels::AttentionShape;
using kernels::Isa;
using kernels::KeyRange;
using kernels::kPageSize;
using test::KernelMachine;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

/// Keys and values of one sequence in pages, as the KV cache keeps them. What has not been written is NaN.
class Pages {
 public:
  Pages(KeyValueFormat format, Index num_keys, Index kv_heads, Index head_dim, unsigned seed)
      : layout_{format, head_dim}, kv_heads_(kv_heads) {
    const Index num_pages = (num_keys + kPageSize - 1) / kPageSize;
    k_ = v_ = std::vector<float>(static_cast<std::size_t>(num_pages * kPageSize * kv_heads * head_dim), kNaN);
    bytes_.resize(static_cast<std::size_t>(num_pages * kv_heads * layout_.bytes()));
    std::ranges::copy(test::normal_floats(num_keys * kv_heads * head_dim, seed), k_.begin());
    std::ranges::copy(test::normal_floats(num_keys * kv_heads * head_dim, seed + 1), v_.begin());
    store();
  }
  /// What position j holds; store() brings changes to the pages.
  float* key(Index j, Index head) { return k_.data() + at(j, head); }
  float* value(Index j, Index head) { return v_.data() + at(j, head); }
  /// Writes everything to the pages, and keeps what they made of it.
  void store() {
    const Index num_pages = static_cast<Index>(k_.size()) / (kPageSize * kv_heads_ * layout_.head_dim);
    keys_.clear(), values_.clear();
    for (Index i = 0; i < num_pages; ++i) {
      keys_.push_back(bytes_.data() + i * layout_.bytes() + layout_.first_key());
      values_.push_back(bytes_.data() + i * layout_.bytes() + layout_.first_value());
    }
    KernelMachine machine(Isa::kPortable);
    const Index cols = kv_heads_ * layout_.head_dim, rows = num_pages * kPageSize;
    kernels::write_keys_values(view(), 0, {k_.data(), rows, cols}, {v_.data(), rows, cols}, machine.workspace());
    for (Index j = 0; j < rows; ++j) {
      for (Index head = 0; head < kv_heads_; ++head) {
        for (Index c = 0; c < layout_.head_dim; ++c) {
          key(j, head)[c] = view().key(head, j, c);
          value(j, head)[c] = view().value(head, j, c);
        }
      }
    }
  }
  [[nodiscard]] kernels::KeyValuePages view() const {
    return kernels::KeyValuePages::of(layout_, keys_.data(), values_.data(), static_cast<Index>(keys_.size()) * layout_.bytes());
  }
  [[nodiscard]] KeyValueFormat format() const { return layout_.format; }
  /// Overwrites every slot outside of `range`.
  void poison_outside(KeyRange range, float with) {
    for (Index j = 0; j < static_cast<Index>(keys_.size()) * kPageSize; ++j) {
      if (j >= range.begin && j < range.end) continue;
      for (Index h = 0; h < kv_heads_; ++h) {
        std::fill_n(key(j, h), layout_.head_dim, with);
        std::fill_n(value(j, h), layout_.head_dim, with);
      }
    }
    store();
  }

 private:
  [[nodiscard]] Index at(Index j, Index head) const { return (j * kv_heads_ + head) * layout_.head_dim; }
  kernels::KeyValueLayout layout_;
  Index kv_heads_;
  std::vector<float> k_, v_;
  std::vector<std::byte> bytes_;
  std::vector<const std::byte*> keys_, values_;
};

struct Result {
  Matrix out, log_sum_exp;
};

Result run(KernelMachine& machine, const AttentionShape& shape, Phase phase, ConstMatrixView q,
           const kernels::KeyValuePages& kv, std::span<const KeyRange> visible) {
  Result result{Matrix(q.rows(), q.cols()), Matrix(q.rows(), shape.num_attention_heads)};
  for (Index i = 0; i < q.rows(); ++i) std::ranges::fill(result.out.view().row(i), kNaN);
  const AttentionJob jobs[] = {{q, kv, visible, result.out, result.log_sum_exp}};
  kernels::attention(jobs, shape, phase, machine.workspace());
  return result;
}

Matrix normal_matrix(Index rows, Index cols, unsigned seed) {
  Matrix result(rows, cols);
  const auto values = test::normal_floats(rows * cols, seed);
  std::ranges::copy(values, result.view().data());
  return result;
}

/// The rows from `begin` on, each seeing itself and what came before, but no more than `window`.
std::vector<KeyRange> causal(Index begin, Index rows, Index window = std::numeric_limits<Index>::max()) {
  std::vector<KeyRange> result;
  for (Index i = begin; i < begin + rows; ++i) result.push_back({std::max<Index>(0, i + 1 - window), i + 1});
  return result;
}

void expect_reference(const Result& result, const AttentionShape& shape, ConstMatrixView q, Pages& pages,
                      std::span<const KeyRange> visible, Phase phase, std::string_view what) {
  const Index group = shape.num_attention_heads / shape.num_key_value_heads, d = shape.head_dim;
  for (Index i = 0; i < q.rows(); ++i) {
    for (Index h = 0; h < shape.num_attention_heads; ++h) {
      const KeyRange seen = visible[static_cast<std::size_t>(i)];
      const auto expected = reference::attend(
          q.row(i).subspan(static_cast<std::size_t>(h * d), static_cast<std::size_t>(d)),
          [&](Index j) { return pages.key(j, h / group); }, [&](Index j) { return pages.value(j, h / group); }, seen.begin,
          seen.end, static_cast<double>(shape.scale), static_cast<double>(shape.soft_cap));
      // A score is a sum of d products, off by about √d roundings of its largest partial sum, and so is the exponent of its
      // weight; the result is an average of n values. Roundings of 2^-24, and a factor for bad luck.
      const double n = static_cast<double>(std::max<Index>(1, seen.end - seen.begin)), u = 0x1p-24;
      double score_error = 4.0 * u * std::sqrt(static_cast<double>(d) + 4.0) * expected.largest_score, weight_error = 0.0;
      if (phase == Phase::kDecode && pages.format() == KeyValueFormat::kQ8) {
        // Channels of q, and weights times scales, are rounded to 1 / 32767 of the largest: off by up to half of that each.
        double most = 0.0;
        for (Index c = 0; c < d; ++c) most = std::max(most, std::abs(static_cast<double>(q.row(i)[static_cast<std::size_t>(h * d + c)])));
        score_error += 2.0 / 65534.0 * std::sqrt(static_cast<double>(d)) * most * expected.largest_key * static_cast<double>(shape.scale);
        weight_error = 2.0 / 65534.0 * std::sqrt(n) * expected.largest_weight;
      }
      const double tolerance = (2.0 * score_error + weight_error + 4.0 * u * (std::sqrt(n) + 4.0)) * expected.largest_value;
      for (Index c = 0; c < d; ++c) {
        ASSERT_NEAR(static_cast<double>(result.out(i, h * d + c)), expected.out[static_cast<std::size_t>(c)], tolerance)
            << what << ": row " << i << " head " << h << " channel " << c << " head_dim " << d;
      }
      if (seen.begin >= seen.end) {
        ASSERT_EQ(result.log_sum_exp(i, h), -kInf);
      } else {
        ASSERT_NEAR(static_cast<double>(result.log_sum_exp(i, h)), expected.log_sum_exp,
                    score_error + 4.0 * u * (std::sqrt(n) + std::abs(expected.log_sum_exp)));
      }
    }
  }
}

AttentionShape shape_of(Index heads, Index kv_heads, Index head_dim, float soft_cap = 0.0f) {
  return {heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), soft_cap};
}

class AttentionTest : public ::testing::TestWithParam<std::tuple<Isa, Phase, KeyValueFormat>> {
 protected:
  [[nodiscard]] static Isa isa() { return std::get<0>(GetParam()); }
  [[nodiscard]] static Phase phase() { return std::get<1>(GetParam()); }
  [[nodiscard]] static KeyValueFormat format() { return std::get<2>(GetParam()); }
};

TEST_P(AttentionTest, AgreesWithTheReferenceForEveryHeadSize) {
  KernelMachine machine(isa());
  for (const Index head_dim : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 24, 31, 32, 33, 36, 64, 72, 80, 96, 100, 128, 256}) {
    const AttentionShape shape = shape_of(4, 2, head_dim);
    Pages pages(format(), 70, 2, head_dim, 1);
    const Matrix q = normal_matrix(70, 4 * head_dim, 2);
    const auto visible = causal(0, 70);
    expect_reference(run(machine, shape, phase(), q, pages.view(), visible), shape, q, pages, visible, phase(), "causal");
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForEveryNumberOfRowsAndKeys) {
  KernelMachine machine(isa());
  for (const Index rows : {1, 2, 3, 5, 15, 16, 17, 47, 48, 49, 97}) {
    for (const Index keys : {1, 3, 7, 8, 9, 63, 64, 65, 130}) {
      const AttentionShape shape = shape_of(1, 1, 8);
      Pages pages(format(), keys, 1, 8, 3);
      const Matrix q = normal_matrix(rows, 8, 4);
      const std::vector<KeyRange> visible(static_cast<std::size_t>(rows), KeyRange{0, keys});
      expect_reference(run(machine, shape, phase(), q, pages.view(), visible), shape, q, pages, visible, phase(), "all");
    }
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForEveryGroup) {
  KernelMachine machine(isa());
  for (const Index group : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 50}) {
    const AttentionShape shape = shape_of(2 * group, 2, 16);
    Pages pages(format(), 100, 2, 16, 5);
    const Matrix q = normal_matrix(9, 2 * group * 16, 6);
    const auto visible = causal(91, 9);
    expect_reference(run(machine, shape, phase(), q, pages.view(), visible), shape, q, pages, visible, phase(), "group");
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForEveryKindOfMask) {
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(6, 2, 24);
  constexpr Index kKeys = 1300;  // three chunks of decode
  Pages pages(format(), kKeys, 2, 24, 7);
  const Matrix q = normal_matrix(60, 6 * 24, 8);
  std::vector<std::pair<const char*, std::vector<KeyRange>>> masks = {
      {"late causal", causal(kKeys - 60, 60)},
      {"sliding", causal(kKeys - 60, 60, 100)},
      {"narrow sliding", causal(640, 60, 3)},
      {"prefix", {60, KeyRange{0, 77}}},
      {"middle of a page", {60, KeyRange{70, 90}}},
      {"empty", {60, KeyRange{10, 10}}},
      {"backwards", {60, KeyRange{80, 10}}},
  };
  std::mt19937 generator(9);
  std::vector<KeyRange> random;
  for (Index i = 0; i < 60; ++i) {
    const auto a = static_cast<Index>(generator() % kKeys), b = static_cast<Index>(generator() % (kKeys + 1));
    random.push_back({a, b});  // a third of them empty, most disjoint from their neighbours
  }
  masks.emplace_back("random", random);
  std::vector<KeyRange> far(60, KeyRange{0, 5});
  far[30] = {kKeys - 5, kKeys};  // a tile that skips pages
  masks.emplace_back("far apart", far);
  for (const auto& [name, visible] : masks) {
    expect_reference(run(machine, shape, phase(), q, pages.view(), visible), shape, q, pages, visible, phase(), name);
  }
}

TEST_P(AttentionTest, CapsScores) {
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(2, 1, 32, 5.0f);
  Pages pages(format(), 90, 1, 32, 10);
  Matrix q = normal_matrix(20, 64, 11);
  for (Index i = 0; i < 20; ++i) {
    for (float& x : q.view().row(i)) x *= 8.0f;  // scores up to some tens, well beyond the cap
  }
  const auto visible = causal(70, 20);
  expect_reference(run(machine, shape, phase(), q, pages.view(), visible), shape, q, pages, visible, phase(), "cap");
}

TEST_P(AttentionTest, StandsLargeAndSmallScores) {
  KernelMachine machine(isa());
  for (const float factor : {1e3f, 1e10f, 1e-20f, 1e-38f, 1e-44f, 0.0f}) {
    const AttentionShape shape = shape_of(1, 1, 16);
    Pages pages(format(), 100, 1, 16, 12);
    Matrix q = normal_matrix(50, 16, 13);
    for (Index i = 0; i < 50; ++i) {
      for (float& x : q.view().row(i)) x *= factor;
    }
    const auto visible = causal(50, 50);
    const Result result = run(machine, shape, phase(), q, pages.view(), visible);
    if (factor < 1e10f) {
      expect_reference(result, shape, q, pages, visible, phase(), "extreme");
    } else {  // one key takes all: rounding may pick another only if the two lie together, and then either is right
      for (Index i = 0; i < 50; ++i) {
        for (Index c = 0; c < 16; ++c) ASSERT_TRUE(std::isfinite(result.out(i, c)));
      }
    }
  }
}

TEST_P(AttentionTest, InfiniteScores) {
  if (format() == KeyValueFormat::kQ8) return;  // an infinity has no scale: its block is NaN
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(1, 1, 8);
  Pages pages(format(), 80, 1, 8, 14);
  const Matrix q = normal_matrix(1, 8, 15);
  const std::vector<KeyRange> visible = {{0, 80}};
  std::fill_n(pages.key(3, 0), 8, 0.0f);
  pages.key(3, 0)[0] = q(0, 0) > 0.0f ? -kInf : kInf;  // a score of −inf: weight 0
  pages.store();
  const Result result = run(machine, shape, phase(), q, pages.view(), visible);
  expect_reference(result, shape, q, pages, visible, phase(), "-inf");
  for (Index j = 0; j < 80; ++j) {
    for (Index c = 0; c < 8; ++c) pages.key(j, 0)[c] = c > 0 ? 0.0f : q(0, 0) > 0.0f ? -kInf : kInf;
  }
  pages.store();
  for (Index c = 0; c < 8; ++c) EXPECT_EQ(run(machine, shape, phase(), q, pages.view(), visible).out(0, c), 0.0f);
  pages.key(3, 0)[0] = kNaN;  // a NaN that is seen is not hidden
  pages.store();
  EXPECT_TRUE(std::isnan(run(machine, shape, phase(), q, pages.view(), visible).out(0, 0)));
}

TEST_P(AttentionTest, WhatIsSeenAndIsNoNumberIsNotHidden) {
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(1, 1, 40);
  const Matrix q = normal_matrix(1, 40, 15);
  const std::vector<KeyRange> visible = {{0, 80}};
  for (const Index channel : {0, 35}) {
    Pages keys(format(), 80, 1, 40, 14), values = keys;
    keys.key(70, 0)[channel] = kNaN;
    keys.store();
    EXPECT_TRUE(std::isnan(run(machine, shape, phase(), q, keys.view(), visible).out(0, 0)));
    values.value(70, 0)[channel] = kNaN;
    values.store();
    EXPECT_TRUE(std::isnan(run(machine, shape, phase(), q, values.view(), visible).out(0, channel)));
  }
}

TEST_P(AttentionTest, SameBitsForAnyNumberOfThreads) {
  const AttentionShape shape = shape_of(6, 3, 40);
  Pages pages(format(), 1400, 3, 40, 17);
  const Matrix q = normal_matrix(100, 240, 18);
  const auto visible = causal(1300, 100);
  KernelMachine one(isa(), 1);
  const Result expected = run(one, shape, phase(), q, pages.view(), visible);
  for (const int threads : {2, 3}) {
    KernelMachine machine(isa(), threads);
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Result result = run(machine, shape, phase(), q, pages.view(), visible);
      EXPECT_TRUE(test::same_bits(result.out, expected.out)) << threads;
      EXPECT_TRUE(test::same_bits(result.log_sum_exp, expected.log_sum_exp)) << threads;
    }
  }
}

TEST_P(AttentionTest, SameBitsHoweverRowsAreCut) {
  KernelMachine machine(isa());
  for (const Index group : {1, 3, 5}) {
    const AttentionShape shape = shape_of(2 * group, 2, 20);
    Pages pages(format(), 700, 2, 20, 19);
    const Matrix q = normal_matrix(120, 2 * group * 20, 20);
    for (const Index window : {10, 200, 10000}) {
      const auto visible = causal(580, 120, window);
      const Result whole = run(machine, shape, phase(), q, pages.view(), visible);
      for (const Index step : {1, 7, 16, 48, 64}) {
        for (Index begin = 0; begin < 120; begin += step) {
          const Index rows = std::min<Index>(step, 120 - begin);
          const Result part = run(machine, shape, phase(), q.view().rows(begin, rows), pages.view(),
                                  std::span(visible).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)));
          ASSERT_TRUE(test::same_bits(part.out, whole.out.view().rows(begin, rows))) << step << ' ' << begin;
          ASSERT_TRUE(test::same_bits(part.log_sum_exp, whole.log_sum_exp.view().rows(begin, rows)));
        }
      }
    }
  }
}

TEST_P(AttentionTest, SameBitsInABatch) {
  KernelMachine machine(isa(), 2);
  const AttentionShape shape = shape_of(4, 2, 32);
  std::vector<Pages> pages;
  std::vector<Matrix> q;
  std::vector<std::vector<KeyRange>> visible;
  for (const Index keys : {5, 640, 64, 1, 1100}) {
    const Index rows = std::min<Index>(keys, 30);
    pages.emplace_back(format(), keys, 2, 32, static_cast<unsigned>(keys));
    q.push_back(normal_matrix(rows, 128, static_cast<unsigned>(keys + 1)));
    visible.push_back(causal(keys - rows, rows));
  }
  std::vector<Result> results;
  std::vector<AttentionJob> jobs;
  results.reserve(q.size());
  for (std::size_t i = 0; i < q.size(); ++i) {
    results.push_back({Matrix(q[i].rows(), 128), Matrix(q[i].rows(), 4)});
    jobs.push_back({q[i].view(), pages[i].view(), visible[i], results[i].out, results[i].log_sum_exp});
  }
  kernels::attention(jobs, shape, phase(), machine.workspace());
  for (std::size_t i = 0; i < q.size(); ++i) {
    const Result alone = run(machine, shape, phase(), q[i], pages[i].view(), visible[i]);
    EXPECT_TRUE(test::same_bits(alone.out, results[i].out)) << i;
    EXPECT_TRUE(test::same_bits(alone.log_sum_exp, results[i].log_sum_exp)) << i;
  }
}

TEST_P(AttentionTest, NothingComesInFromSlotsThatARowDoesNotSee) {
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(2, 1, 20);
  constexpr Index kRows = 70;
  const Matrix q = normal_matrix(kRows, 40, 21);
  for (const Index window : {1, 5, 100}) {
    auto visible = causal(0, kRows, window);
    visible[10] = {30, 20};
    visible[11] = {64, 70};
    Pages pages(format(), kRows, 1, 20, 22);
    const Result clean = run(machine, shape, phase(), q, pages.view(), visible);
    for (Index i = 0; i < kRows; ++i) {  // all rows run together; what i does not see is poisoned
      for (const float poison : {kNaN, kInf, -kInf, 3e38f}) {
        Pages poisoned(format(), kRows, 1, 20, 22);
        poisoned.poison_outside(visible[static_cast<std::size_t>(i)], poison);
        const Result result = run(machine, shape, phase(), q, poisoned.view(), visible);
        ASSERT_TRUE(test::same_bits(result.out.view().rows(i, 1), clean.out.view().rows(i, 1))) << i << ' ' << poison;
        ASSERT_TRUE(test::same_bits(result.log_sum_exp.view().rows(i, 1), clean.log_sum_exp.view().rows(i, 1)));
      }
    }
  }
}

TEST_P(AttentionTest, AllocatesNothingTheSecondTime) {
  KernelMachine machine(isa());
  const AttentionShape shape = shape_of(4, 4, 64);
  Pages pages(format(), 2000, 4, 64, 23);
  const Matrix q = normal_matrix(200, 256, 24);
  const auto visible = causal(1800, 200);
  run(machine, shape, phase(), q, pages.view(), visible);
  const std::size_t before = machine.workspace().capacity();
  run(machine, shape, phase(), q, pages.view(), visible);
  EXPECT_EQ(machine.workspace().capacity(), before);
}

TEST_P(AttentionTest, NothingToDo) {
  KernelMachine machine(isa());
  kernels::attention({}, shape_of(1, 1, 8), phase(), machine.workspace());
  const AttentionJob empty[] = {{Matrix(0, 8).view(), Pages(format(), 1, 1, 8, 0).view(), {}, Matrix(0, 8).view(), {}}};
  kernels::attention(empty, shape_of(1, 1, 8), phase(), machine.workspace());
}

TEST(Prefill, ReadsPlainMatricesAndWritesNothingBesideItsOutput) {
  for (const Isa isa : test::runnable_isas()) {
    KernelMachine machine(isa);
    const AttentionShape shape = shape_of(3, 3, 20);
    constexpr Index kRows = 150;
    const Matrix wide = normal_matrix(kRows, 3 * 60 + 5, 16);  // rows of q | k | v and some more
    const ConstMatrixView q = wide.view().cols(0, 60), k = wide.view().cols(60, 60), v = wide.view().cols(120, 60);
    std::vector<const std::byte*> keys, values;
    for (Index i = 0; i < kRows; i += kPageSize) {
      keys.push_back(std::as_bytes(k.row(i)).data());
      values.push_back(std::as_bytes(v.row(i)).data());
    }
    const std::vector<KeyRange> visible(kRows, KeyRange{0, kRows});
    Matrix out(kRows, 64), log_sum_exp(kRows, 3);
    const AttentionJob jobs[] = {
        {q, kernels::KeyValuePages::plain(20, keys.data(), k.stride(), values.data(), v.stride()), visible, out.view().cols(2, 60), log_sum_exp}};
    kernels::attention(jobs, shape, Phase::kPrefill, machine.workspace());

    Pages pages(KeyValueFormat::kF32, kRows, 3, 20, 0);
    for (Index j = 0; j < kRows; ++j) {
      for (Index h = 0; h < 3; ++h) {
        std::copy_n(k.row(j).data() + h * 20, 20, pages.key(j, h));
        std::copy_n(v.row(j).data() + h * 20, 20, pages.value(j, h));
      }
    }
    pages.store();
    const Result paged = run(machine, shape, Phase::kPrefill, q, pages.view(), visible);
    EXPECT_TRUE(test::same_bits(out.view().cols(2, 60), paged.out));
    EXPECT_TRUE(test::same_bits(log_sum_exp, paged.log_sum_exp));
    for (Index i = 0; i < kRows; ++i) {
      for (const Index c : {0, 1, 62, 63}) ASSERT_EQ(out(i, c), 0.0f);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionTest,
    ::testing::Combine(::testing::ValuesIn(test::runnable_isas()), ::testing::Values(Phase::kPrefill, Phase::kDecode),
                       ::testing::Values(KeyValueFormat::kF32, KeyValueFormat::kBF16, KeyValueFormat::kF16, KeyValueFormat::kQ8)),
    [](const auto& c) {
      return std::string(kernels::kernel_table(std::get<0>(c.param)).name) +
             (std::get<1>(c.param) == Phase::kPrefill ? "Prefill_" : "Decode_") + std::string(name_of(std::get<2>(c.param)));
    });

}  // namespace kernels_attention
}  // namespace duet
