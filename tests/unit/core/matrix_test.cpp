#include "duet/core/matrix.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace duet {
namespace core_matrix {

Matrix counting(Index rows, Index cols) {
  Matrix matrix(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) matrix(i, j) = static_cast<float>(10 * i + j);
  }
  return matrix;
}

TEST(Matrix, StartsZeroedAndAligned) {
  const Matrix matrix(3, 5);
  EXPECT_EQ(matrix.rows(), 3);
  EXPECT_EQ(matrix.cols(), 5);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(matrix.view().data()) % kAlignment, 0u);
  EXPECT_TRUE((matrix.eigen().array() == 0).all());
}

TEST(Matrix, EmptyInEitherDirection) {
  EXPECT_TRUE(Matrix().empty());
  EXPECT_TRUE(Matrix(0, 5).empty());
  EXPECT_TRUE(Matrix(5, 0).empty());
  EXPECT_FALSE(Matrix(1, 1).empty());
  EXPECT_EQ(Matrix(0, 5).view().cols(), 5);
}

TEST(Matrix, ASizeBeyondMemoryIsNoSmallOne) {
  EXPECT_THROW(Matrix(Index{1} << 62, 8), std::bad_alloc);  // 2^65 elements are not 0
}

TEST(Matrix, MovesWithoutCopyingAndIsNotCopiedSilently) {
  static_assert(!std::is_copy_constructible_v<Matrix> && std::is_nothrow_move_constructible_v<Matrix>);
  Matrix from = counting(2, 3);
  const float* data = from.view().data();
  const Matrix to = std::move(from);
  EXPECT_EQ(to.view().data(), data);
}

TEST(Matrix, CloneOfAStridedViewIsDenseAndItsOwn) {
  Matrix matrix = counting(4, 6);
  const Matrix part = Matrix::clone(matrix.view().rows(1, 2).cols(2, 3));
  matrix(1, 2) = -1;
  EXPECT_EQ(part.view().stride(), 3);
  EXPECT_EQ(part(0, 0), 12);
  EXPECT_EQ(part(1, 2), 24);
}

TEST(MatrixView, SubViewsKeepTheStride) {
  Matrix matrix = counting(4, 6);
  const MatrixView part = matrix.view().rows(1, 3).cols(2, 2);
  EXPECT_EQ(part.rows(), 3);
  EXPECT_EQ(part.cols(), 2);
  EXPECT_EQ(part.stride(), 6);
  EXPECT_EQ(part(0, 0), 12);
  EXPECT_EQ(part(2, 1), 33);
  EXPECT_EQ(part.row(2).size(), 2u);
  part(2, 1) = 7;
  EXPECT_EQ(matrix(3, 3), 7);
}

TEST(MatrixView, EmptyRangesAtTheEndAreFine) {
  Matrix matrix = counting(2, 3);
  EXPECT_TRUE(matrix.view().rows(2, 0).empty());
  EXPECT_TRUE(matrix.view().cols(3, 0).empty());
}

TEST(MatrixView, ReadsAsConstButNotBack) {
  static_assert(std::is_convertible_v<MatrixView, ConstMatrixView>);
  static_assert(!std::is_convertible_v<ConstMatrixView, MatrixView>);
  static_assert(std::is_convertible_v<Matrix&, MatrixView>);
  static_assert(!std::is_convertible_v<const Matrix&, MatrixView>);
}

TEST(MatrixView, EigenMapSeesTheSameMemory) {
  Matrix matrix = counting(3, 4);
  matrix.view().cols(1, 2).eigen().setConstant(5);
  EXPECT_EQ(matrix(0, 0), 0);
  EXPECT_EQ(matrix(2, 1), 5);
  EXPECT_EQ(matrix(2, 2), 5);
  EXPECT_EQ(matrix(2, 3), 23);
}

TEST(MatrixView, TakesRowMajorEigen) {
  RowMajorMatrix eigen(2, 3);
  eigen << 1, 2, 3, 4, 5, 6;
  const MatrixView whole = eigen;
  EXPECT_EQ(whole(1, 2), 6);
  EXPECT_EQ(whole.data(), eigen.data());

  const RowMajorMatrix& constant = eigen;
  EXPECT_EQ(ConstMatrixView(constant)(1, 0), 4);

  const MatrixView block = eigen.block(0, 1, 2, 2);
  EXPECT_EQ(block.stride(), 3);
  EXPECT_EQ(block(1, 1), 6);

  const ConstMatrixView row = eigen.row(1);
  EXPECT_EQ(row.rows(), 1);
  EXPECT_EQ(row(0, 2), 6);

  Eigen::RowVectorXf vector(3);
  vector << 7, 8, 9;
  EXPECT_EQ(ConstMatrixView(vector)(0, 1), 8);

  std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  const Eigen::Map<const RowMajorMatrix, Eigen::Unaligned, Eigen::OuterStride<>> map(values.data(), 2, 3, Eigen::OuterStride<>(4));
  const ConstMatrixView strided = map;
  EXPECT_EQ(strided(1, 0), 5);
}

TEST(MatrixView, RefusesWhatItCannotView) {
  using ColumnMajor = Eigen::MatrixXf;
  using Doubles = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static_assert(!std::is_convertible_v<ColumnMajor&, ConstMatrixView>);
  static_assert(!std::is_convertible_v<Doubles&, ConstMatrixView>);
  static_assert(!std::is_convertible_v<const RowMajorMatrix&, MatrixView>);
  static_assert(!std::is_convertible_v<Eigen::Map<Doubles>, ConstMatrixView>);
  static_assert(!std::is_convertible_v<Eigen::Map<const RowMajorMatrix>, MatrixView>);
  static_assert(!std::is_convertible_v<Eigen::Map<RowMajorMatrix, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>, ConstMatrixView>);
}

TEST(Copy, RespectsBothStrides) {
  const Matrix from = counting(3, 4);
  Matrix to(4, 8);
  copy(from.view().cols(1, 2), to.view().rows(1, 3).cols(5, 2));
  EXPECT_EQ(to(1, 5), 1);
  EXPECT_EQ(to(3, 6), 22);
  EXPECT_EQ(to(0, 5), 0);
  EXPECT_EQ(to(1, 7), 0);
}

TEST(AlignedBuffer, AlignedAtEverySizeAndMovable) {
  for (const std::size_t size : {1u, 3u, 64u, 65u, 100'000u}) {
    AlignedBuffer<char> buffer(size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kAlignment, 0u);
    EXPECT_EQ(buffer.size(), size);
    buffer[size - 1] = 'x';
    const AlignedBuffer<char> moved = std::move(buffer);
    EXPECT_EQ(moved[size - 1], 'x');
  }
  EXPECT_EQ(AlignedBuffer<float>(0).data(), nullptr);
}

TEST(AlignedBuffer, RefusesASizeWhoseBytesDoNotFit) {
  EXPECT_THROW(AlignedBuffer<double>(SIZE_MAX / 8 + 2), std::bad_alloc);
}

#if defined(GTEST_HAS_DEATH_TEST) && (defined(DUET_CHECKED) || !defined(NDEBUG))
TEST(MatrixViewDeathTest, IndexOutOfRange) {
  Matrix matrix = counting(2, 3);
  EXPECT_DEATH(static_cast<void>(matrix(2, 0)), "out of range");
  EXPECT_DEATH(static_cast<void>(matrix(0, -1)), "out of range");
  EXPECT_DEATH(static_cast<void>(matrix.view().rows(1, 2)), "out of range");
  EXPECT_DEATH(static_cast<void>(matrix.view().cols(3, 1)), "out of range");
  EXPECT_DEATH(static_cast<void>(MatrixView(nullptr, 1, 3, 2)), "overlap");
}
#endif

}  // namespace core_matrix
}  // namespace duet
