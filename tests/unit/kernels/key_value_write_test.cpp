#include "duet/kernels/key_value_write.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "support/kernel_machine.hpp"

namespace duet {
namespace kernels_key_value_write {

using kernels::Isa;
using kernels::kPageSize;
using test::KernelMachine;

constexpr KeyValueFormat kFormats[] = {KeyValueFormat::kF32, KeyValueFormat::kBF16, KeyValueFormat::kF16, KeyValueFormat::kQ8};

/// Pages of one layer, every byte 0xAB until it is written.
struct Pages {
  Pages(KeyValueFormat format, Index capacity, Index kv_heads, Index head_dim) : layout{format, head_dim} {
    const Index num_pages = (capacity + kPageSize - 1) / kPageSize;
    bytes.assign(static_cast<std::size_t>(num_pages * kv_heads * layout.bytes()), std::byte{0xAB});
    for (Index i = 0; i < num_pages; ++i) {
      keys.push_back(bytes.data() + i * layout.bytes() + layout.first_key());
      values.push_back(bytes.data() + i * layout.bytes() + layout.first_value());
    }
  }
  [[nodiscard]] kernels::KeyValuePages view() const {
    return kernels::KeyValuePages::of(layout, keys.data(), values.data(), static_cast<Index>(keys.size()) * layout.bytes());
  }
  kernels::KeyValueLayout layout;
  std::vector<std::byte> bytes;
  std::vector<const std::byte*> keys, values;
};

/// How far a format may stray from x in a block whose largest magnitude is `most`.
double rounding_of(KeyValueFormat format, double x, double most) {
  switch (format) {
    case KeyValueFormat::kF32: return 0.0;
    case KeyValueFormat::kBF16: return std::abs(x) * 0x1p-8;  // 8 bits, half a unit
    case KeyValueFormat::kF16: return std::max(std::abs(x) * 0x1p-11, 0x1p-25);
    // Half a step, and up to 127 steps of a scale that is rounded itself; the quotient's own rounding may tip a tie.
    case KeyValueFormat::kQ8: return most / 254.0 * (1.0 + 0x1p-15) + most * 0x1p-11 + 127.0 * 0x1p-25;
  }
  return 0.0;
}

Matrix normal_matrix(Index rows, Index cols, unsigned seed) {
  Matrix result(rows, cols);
  std::ranges::copy(test::normal_floats(rows * cols, seed), result.view().data());
  return result;
}

TEST(WriteKeysValues, RoundsToNearestInEveryFormatAndKeepsTheRest) {
  constexpr Index kHeads = 3, kRows = 150;
  for (const Isa isa : test::runnable_isas()) {
    KernelMachine machine(isa, 2);
    for (const KeyValueFormat format : kFormats) {
      for (const Index head_dim : {1, 20, 32, 36, 48, 64, 72, 100}) {
        const Matrix k = normal_matrix(kRows, kHeads * head_dim, 1), v = normal_matrix(kRows, kHeads * head_dim, 2);
        Pages pages(format, kRows, kHeads, head_dim);
        for (const auto& [begin, count] : {std::pair<Index, Index>{0, 5}, {5, 1}, {6, 100}, {106, 44}}) {
          kernels::write_keys_values(pages.view(), begin, k.view().rows(begin, count), v.view().rows(begin, count), machine.workspace());
        }
        const auto expect_rounded = [&](const Matrix& rows, Index j, Index head, Index c, float stored) {
          double most = 0.0;
          for (Index i = c / 32 * 32; i < std::min(head_dim, c / 32 * 32 + 32); ++i) {
            most = std::max(most, std::abs(static_cast<double>(rows(j, head * head_dim + i))));
          }
          const auto x = static_cast<double>(rows(j, head * head_dim + c));
          ASSERT_NEAR(static_cast<double>(stored), x, rounding_of(format, x, most)) << name_of(format) << ' ' << head_dim << ' ' << j << ' ' << c;
        };
        for (Index j = 0; j < kRows; ++j) {
          for (Index head = 0; head < kHeads; ++head) {
            for (Index c = 0; c < head_dim; ++c) {
              expect_rounded(k, j, head, c, pages.view().key(head, j, c));
              expect_rounded(v, j, head, c, pages.view().value(head, j, c));
            }
          }
        }
        Pages again(format, kRows, kHeads, head_dim);
        KernelMachine portable(Isa::kPortable);
        kernels::write_keys_values(again.view(), 0, k, v, portable.workspace());
        EXPECT_EQ(pages.bytes, again.bytes) << "the same bytes from every instruction set and in any pieces; nothing else is touched";
      }
    }
  }
}

TEST(WriteKeysValues, ScalesAreOfOneBlockAndAsQ8_0HasThem) {
  for (const Isa isa : test::runnable_isas()) {
    KernelMachine machine(isa);
    Pages pages(KeyValueFormat::kQ8, 1, 1, 40);
    Matrix k(1, 40), v(1, 40);
    for (Index c = 0; c < 40; ++c) {
      k(0, c) = c < 32 ? 127.0f - 4.0f * static_cast<float>(c) : 0.5f;  // a step of 1: stored as it is
      v(0, c) = c < 32 ? 0.0f : -254.0f + static_cast<float>(c - 32);   // a step of 2: ties go to even numbers
    }
    kernels::write_keys_values(pages.view(), 0, k, v, machine.workspace());
    for (Index c = 0; c < 32; ++c) {
      EXPECT_EQ(pages.view().key(0, 0, c), k(0, c));
      EXPECT_EQ(pages.view().value(0, 0, c), 0.0f);
    }
    EXPECT_NEAR(pages.view().key(0, 0, 39), 0.5f, 0.5f * 0x1p-11f);
    for (Index c = 32; c < 40; ++c) EXPECT_EQ(pages.view().value(0, 0, c), 2.0f * std::nearbyint(v(0, c) / 2.0f));
    EXPECT_EQ(pages.view().key_scale(0, 0, 0, 0)->bits, to_f16(1.0f).bits);
    EXPECT_EQ(pages.view().value_scale(0, 0, 0, 32)->bits, to_f16(2.0f).bits);
  }
}

TEST(WriteKeysValues, WhatIsNoNumberOrTooLargeIsNotHidden) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : test::runnable_isas()) {
    KernelMachine machine(isa);
    const float full_nan = std::bit_cast<float>(0x7fffffffu);  // to round it as a number would carry into the sign
    for (const float bad : {kInf, -kInf, kNaN, full_nan, 1e30f}) {
      Matrix rows(1, 64);
      for (const Index c : {0, 17, 31}) {
        std::ranges::fill(rows.view().row(0), 1.0f);
        rows(0, c) = bad;
        for (const KeyValueFormat format : kFormats) {
          Pages pages(format, 1, 1, 64);
          kernels::write_keys_values(pages.view(), 0, rows, rows, machine.workspace());
          const float key = pages.view().key(0, 0, c), value = pages.view().value(0, 0, c);
          if (format == KeyValueFormat::kQ8) {
            EXPECT_TRUE(std::isnan(key) && std::isnan(value)) << bad;
          } else if (std::isfinite(bad)) {
            EXPECT_TRUE(format == KeyValueFormat::kF16 ? key == kInf : std::abs(key / bad - 1.0f) <= 0x1p-8f);
          } else {
            EXPECT_TRUE(std::isnan(bad) ? std::isnan(key) && std::isnan(value) : key == bad && value == bad) << name_of(format);
          }
          EXPECT_EQ(pages.view().key(0, 0, 40), pages.view().value(0, 0, 40));
          EXPECT_NEAR(pages.view().key(0, 0, 40), 1.0f, 0x1p-10f) << "the next block is as it was";
        }
      }
    }
  }
}

}  // namespace kernels_key_value_write
}  // namespace duet
