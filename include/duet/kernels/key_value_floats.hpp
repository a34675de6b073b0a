#pragma once

#include <algorithm>

#include "duet/kernels/key_value_pages.hpp"
#include "duet/kernels/simd/dispatch.hpp"

namespace duet::kernels {

/// A page's keys and values of one head as floats, and how they lie: where they are, or in scratch.
struct FloatPage {
  const float *keys, *values;
  KeyValuePages layout;

  /// Floats of scratch: none where pages hold floats.
  static Index scratch(const KeyValueLayout& layout) noexcept {
    return layout.format == KeyValueFormat::kF32 ? 0 : kPageSize * (layout.head_dim + layout.value_width());
  }
};

inline namespace DUET_ISA_NAMESPACE {

/// out = stored: without scales, keys and values lie as they do in kF32.
template <class V, class Element>
DUET_INLINE void make_floats(const Element* stored, Index count, float* out) noexcept {
  for (Index i = 0; i < count; i += V::kWidth) V::load(stored + i).store(out + i);
}

/// out = stored, times the scales between the blocks.
template <class V>
DUET_INLINE void make_scaled_floats(const KeyValuePages& kv, Index page, Index head, const KeyValuePages& layout, float* out) noexcept {
  const std::int8_t* const keys = kv.keys_of<std::int8_t>(page, head);
  const std::int8_t* const values = kv.values_of<std::int8_t>(page, head);
  V four[kQuad];
  for (Index slot = 0; slot < kPageSize; slot += V::kWidth) {
    for (Index c = 0; c < kv.head_dim; c += kQuad) {
      const V scale = V::load(kv.key_scale(page, head, slot, c));
      V::load_quads(keys + kv.key_at(slot, c), four);
      for (Index i = 0; i < std::min(kQuad, kv.head_dim - c); ++i) (four[i] * scale).store(out + layout.key_at(slot, c + i));
    }
  }
  out += kPageSize * kv.head_dim;
  for (Index c = 0; c < kv.value_width; c += V::kWidth) {
    const F16* const scales = kv.value_scale(page, head, 0, c);
    for (Index slot = 0; slot < kPageSize; slot += kQuad) {
      V::load_quads(values + kv.value_at(slot, c), four);
      for (Index i = 0; i < kQuad; ++i) (four[i] * V::broadcast(scales + slot + i)).store(out + layout.value_at(slot + i, c));
    }
  }
}

/// The floats of a page, in place or made in `scratch`.
template <class V>
DUET_INLINE FloatPage float_page(const KeyValuePages& kv, Index page, Index head, float* scratch) noexcept {
  if (kv.format == KeyValueFormat::kF32) return {kv.keys_of<float>(page, head), kv.values_of<float>(page, head), kv};
  const FloatPage floats{scratch, scratch + kPageSize * kv.head_dim,
                         KeyValuePages::of({KeyValueFormat::kF32, kv.head_dim}, nullptr, nullptr, 0)};
  const Index count = kPageSize * (kv.head_dim + kv.value_width);
  if (kv.format == KeyValueFormat::kBF16) make_floats<V>(kv.keys_of<Bf16>(page, head), count, scratch);
  if (kv.format == KeyValueFormat::kF16) make_floats<V>(kv.keys_of<F16>(page, head), count, scratch);
  if (kv.format == KeyValueFormat::kQ8) make_scaled_floats<V>(kv, page, head, floats.layout, scratch);
  return floats;
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
