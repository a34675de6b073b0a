#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "duet/core/assert.hpp"

namespace duet {

using Index = Eigen::Index;
using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

/// An Eigen type that a view can stand for: floats, row by row, without gaps inside a row.
template <class Derived>
concept ContiguousRows = Derived::IsRowMajor != 0 && Derived::InnerStrideAtCompileTime == 1 &&
                         std::is_same_v<typename Derived::Scalar, float>;

}  // namespace detail

/// A view of row-major floats [rows, cols], rows `stride` floats apart. Never owns; copying copies the view.
///
/// Eigen is the language at the edges: anything row-major of Eigen converts to a view, and `eigen()` gives an unaligned
/// Map back. Owning Eigen objects stay out of interfaces because their alignment depends on compiler flags, so that a
/// matrix made in one translation unit may crash when freed in another.
template <class Float>
class BasicMatrixView {
 public:
  using EigenMatrix = std::conditional_t<std::is_const_v<Float>, const RowMajorMatrix, RowMajorMatrix>;
  using EigenMap = Eigen::Map<EigenMatrix, Eigen::Unaligned, Eigen::OuterStride<>>;

  BasicMatrixView() = default;
  BasicMatrixView(Float* data, Index rows, Index cols, Index stride) noexcept
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {
    DUET_ASSERT(rows >= 0 && cols >= 0 && stride >= cols, "a view's rows must not overlap");
  }
  BasicMatrixView(Float* data, Index rows, Index cols) noexcept : BasicMatrixView(data, rows, cols, cols) {}

  /// A mutable view reads as a const one.
  template <class Other>
    requires(std::is_const_v<Float> && std::is_same_v<Other, std::remove_const_t<Float>>)
  BasicMatrixView(const BasicMatrixView<Other>& other) noexcept
      : BasicMatrixView(other.data(), other.rows(), other.cols(), other.stride()) {}

  /// Views a row-major Eigen matrix, map or block whose rows are contiguous. As in Eigen, what is const is not written to.
  template <detail::ContiguousRows Derived>
  BasicMatrixView(Eigen::PlainObjectBase<Derived>& matrix) noexcept
      : BasicMatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}
  template <detail::ContiguousRows Derived>
    requires(std::is_const_v<Float>)
  BasicMatrixView(const Eigen::PlainObjectBase<Derived>& matrix) noexcept
      : BasicMatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}
  template <detail::ContiguousRows Derived>
    requires(std::is_const_v<Float> || (Derived::Flags & Eigen::LvalueBit) != 0)
  BasicMatrixView(Eigen::MapBase<Derived>&& map) noexcept
      : BasicMatrixView(map.derived().data(), map.rows(), map.cols(), std::max(map.outerStride(), map.cols())) {}
  template <detail::ContiguousRows Derived>
    requires(std::is_const_v<Float> || (Derived::Flags & Eigen::LvalueBit) != 0)
  BasicMatrixView(Eigen::MapBase<Derived>& map) noexcept : BasicMatrixView(std::move(map)) {}
  template <detail::ContiguousRows Derived>
    requires(std::is_const_v<Float>)
  BasicMatrixView(const Eigen::MapBase<Derived>& map) noexcept
      : BasicMatrixView(map.derived().data(), map.rows(), map.cols(), std::max(map.outerStride(), map.cols())) {}

  [[nodiscard]] Float* data() const noexcept { return data_; }
  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index stride() const noexcept { return stride_; }
  [[nodiscard]] bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }

  [[nodiscard]] std::span<Float> row(Index i) const noexcept {
    DUET_ASSERT(i >= 0 && i < rows_, "row index out of range");
    return {data_ + i * stride_, static_cast<std::size_t>(cols_)};
  }
  [[nodiscard]] Float& operator()(Index i, Index j) const noexcept {
    DUET_ASSERT(i >= 0 && i < rows_ && j >= 0 && j < cols_, "matrix index out of range");
    return data_[i * stride_ + j];
  }
  [[nodiscard]] BasicMatrixView rows(Index begin, Index count) const noexcept {
    DUET_ASSERT(begin >= 0 && count >= 0 && begin + count <= rows_, "row range out of range");
    return {data_ + begin * stride_, count, cols_, stride_};
  }
  [[nodiscard]] BasicMatrixView cols(Index begin, Index count) const noexcept {
    DUET_ASSERT(begin >= 0 && count >= 0 && begin + count <= cols_, "column range out of range");
    return {data_ + begin, rows_, count, stride_};
  }
  [[nodiscard]] EigenMap eigen() const noexcept { return EigenMap(data_, rows_, cols_, Eigen::OuterStride<>(stride_)); }

 private:
  Float* data_ = nullptr;
  Index rows_ = 0, cols_ = 0, stride_ = 0;
};

using MatrixView = BasicMatrixView<float>;
using ConstMatrixView = BasicMatrixView<const float>;

/// Copies `from` [n, m] over `to` [n, m].
inline void copy(ConstMatrixView from, MatrixView to) noexcept {
  DUET_ASSERT(from.rows() == to.rows() && from.cols() == to.cols(), "copy needs equal shapes");
  for (Index i = 0; i < from.rows(); ++i) std::copy_n(from.row(i).data(), from.cols(), to.row(i).data());
}

/// 64 bytes: a cache line and the widest vector register. A constant, so that every unit agrees on it.
inline constexpr std::size_t kAlignment = 64;

/// Uninitialised memory aligned to kAlignment that frees itself.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_destructible_v<T> && std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) : size_(size) {
    if (size > SIZE_MAX / sizeof(T)) throw std::bad_array_new_length();
    if (size > 0) data_.reset(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{kAlignment})));
  }
  [[nodiscard]] T* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] T& operator[](std::size_t i) const noexcept { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const noexcept { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

/// An owning row-major matrix of floats [rows, cols], zeroed. Movable; copies are explicit (`clone`).
class Matrix {
 public:
  Matrix() = default;
  Matrix(Index rows, Index cols) : storage_(product(rows, cols)), rows_(rows), cols_(cols) {
    std::fill_n(storage_.data(), storage_.size(), 0.0f);
  }
  [[nodiscard]] static Matrix clone(ConstMatrixView from) {
    Matrix result(from.rows(), from.cols());
    copy(from, result);
    return result;
  }

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }
  [[nodiscard]] MatrixView view() noexcept { return {storage_.data(), rows_, cols_}; }
  [[nodiscard]] ConstMatrixView view() const noexcept { return {storage_.data(), rows_, cols_}; }
  operator MatrixView() noexcept { return view(); }             // NOLINT(google-explicit-constructor)
  operator ConstMatrixView() const noexcept { return view(); }  // NOLINT(google-explicit-constructor)
  [[nodiscard]] MatrixView::EigenMap eigen() noexcept { return view().eigen(); }
  [[nodiscard]] ConstMatrixView::EigenMap eigen() const noexcept { return view().eigen(); }
  [[nodiscard]] float& operator()(Index i, Index j) noexcept { return view()(i, j); }
  [[nodiscard]] float operator()(Index i, Index j) const noexcept { return view()(i, j); }

 private:
  static std::size_t product(Index rows, Index cols) {
    std::size_t result = 0;
    if (__builtin_mul_overflow(rows, cols, &result)) throw std::bad_array_new_length();
    return result;
  }

  AlignedBuffer<float> storage_;
  Index rows_ = 0, cols_ = 0;
};

}  // namespace duet
