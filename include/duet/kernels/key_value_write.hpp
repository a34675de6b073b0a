#pragma once

#include <algorithm>
#include <cstring>

#include "duet/core/workspace.hpp"
#include "duet/kernels/key_value_pages.hpp"
#include "duet/kernels/simd/dispatch.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Rows of one head that join half a page.
struct KeyValueWrite {
  const KeyValuePages* pages;
  Index page, head;
  Index slot, rows;          ///< within one block of kKeyBlock slots
  const float *k, *v;        ///< [rows, head_dim]
  Index k_stride, v_stride;
};

/// Rounds rows to a format's elements, and turns them as KeyValueLayout has them.
template <class Element>
struct KeyValueWriteKernel {
  template <class V>
  DUET_INLINE static void run(const KeyValueWrite* write) noexcept {
    const KeyValuePages& pages = *write->pages;
    auto* const keys = const_cast<Element*>(pages.keys_of<Element>(write->page, write->head));
    auto* const values = const_cast<Element*>(pages.values_of<Element>(write->page, write->head));
    for (Index c = 0; c < pages.head_dim; c += kScaleBlock) {
      const Index count = std::min(kScaleBlock, pages.head_dim - c), padded = pages.value_slot_stride(c);
      for (Index i = 0; i < write->rows; ++i) {
        const Index slot = write->slot + i;
        alignas(kAlignment) Element block[kScaleBlock];
        const F16 key_scale = round<V>(write->k + i * write->k_stride + c, count, block);
        Element* const key = keys + pages.key_at(slot, c);
        if constexpr (is_scaled<Element>) {
          for (Index n = 0; n < pages.key_quads(c); ++n) {
            const std::int8_t* const four = block + n * kQuad;
            const std::int8_t placed[] = {four[0], four[2], four[1], four[3]};
            std::memcpy(key + n * kQuadBytes, placed, sizeof placed);
          }
        } else {
          for (Index n = 0; n < count; ++n) key[n * kKeyBlock] = block[n];
        }
        const F16 value_scale = round<V>(write->v + i * write->v_stride + c, count, block);
        Element* value = values + pages.value_at(slot, c);
        if constexpr (is_scaled<Element>) {
          for (Index n = 0; n < padded; n += kQuadLanes, value += kPageSize * kQuadLanes) {
            DUET_UNROLL
            for (Index lane = 0; lane < kQuadLanes; ++lane) value[lane * kQuad] = block[n + lane];
          }
        } else {
          std::copy_n(block, padded, value);
        }
        if constexpr (is_scaled<Element>) {
          *const_cast<F16*>(pages.key_scale(write->page, write->head, slot, c)) = key_scale;
          *const_cast<F16*>(pages.value_scale(write->page, write->head, slot, c)) = value_scale;
        }
      }
    }
  }

 private:
  /// block [32] = x [count], then zeros. Returns the scale of a block that has one.
  template <class V>
  DUET_INLINE static F16 round(const float* x, Index count, Element* block) noexcept {
    constexpr Index kVectors = kScaleBlock / V::kWidth;
    V lanes[kVectors];
    for (Index i = 0; i < kVectors; ++i) {
      const Index left = count - i * V::kWidth;
      lanes[i] = left >= V::kWidth ? V::load(x + i * V::kWidth) : left > 0 ? V::load_first(x + i * V::kWidth, left) : V(0.0f);
    }
    if constexpr (!is_scaled<Element>) {
      for (Index i = 0; i < kVectors; ++i) lanes[i].store(block + i * V::kWidth);
      return {};
    } else {
      V most(0.0f), difference(0.0f);
      for (Index i = 0; i < kVectors; ++i) {
        most = max(most, abs(lanes[i]));
        difference = difference + (lanes[i] - lanes[i]);  // NaN for inf and NaN
      }
      const float step = largest(most) / 127.0f;
      F16 scale = to_f16(step);
      // What is no number, or too large, makes the whole block NaN: nothing that is wrong is hidden.
      if (sum(difference) != 0.0f || duet::to_float(scale) > 65504.0f) scale = F16{0x7e00};
      const float least = duet::to_float(scale);
      const V inverse(least > 0.0f ? 1.0f / step : 0.0f);  // false for NaN
      for (Index i = 0; i < kVectors; ++i) {
        (least > 0.0f ? lanes[i] * inverse : V(0.0f)).store(block + i * V::kWidth);
      }
      return scale;
    }
  }
};

/// Writes k, v [rows, num_key_value_heads * head_dim] to positions [begin, begin + rows) of a cache's pages, rounded to its
/// format.
///
/// Requires  pages for all of them, which may be written to
/// Cost      a read and a write of each number; on one thread where rows are few
inline void write_keys_values(const KeyValuePages& pages, Index begin, ConstMatrixView k, ConstMatrixView v,
                              Workspace& workspace) noexcept {
  const Index count = k.rows(), kv_heads = pages.head_dim == 0 ? 0 : k.cols() / pages.head_dim;
  if (count == 0 || kv_heads == 0) return;
  const Isa isa = workspace.kernels().isa;
  const auto kernel = with_element_of(
      pages.format, [&]<class Element>(Element) { return compiled_for<KeyValueWriteKernel<Element>, const KeyValueWrite*>(isa); });
  const Index first = begin / kKeyBlock, num_blocks = (begin + count - 1) / kKeyBlock - first + 1;
  const auto write_head = [&](Index task) {
    const Index block = first + task / kv_heads, head = task % kv_heads;
    const Index from = std::max(begin, block * kKeyBlock), to = std::min(begin + count, (block + 1) * kKeyBlock);
    const KeyValueWrite write{&pages,
                              from / kPageSize,
                              head,
                              from % kPageSize,
                              to - from,
                              k.row(from - begin).data() + head * pages.head_dim,
                              v.row(from - begin).data() + head * pages.head_dim,
                              k.stride(),
                              v.stride()};
    kernel(&write);
  };
  if (num_blocks > 2) {
    workspace.threads().run(num_blocks * kv_heads, write_head);
  } else {
    for (Index task = 0; task < num_blocks * kv_heads; ++task) write_head(task);
  }
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
