#pragma once

#include "duet/core/matrix.hpp"

namespace duet {

/// The places in a model where one can look, in the order in which they run.
enum class Stage : unsigned char {
  kVisionEmbeds,    ///< patches, class token and positions, before any norm [num_features, hidden_size]
  kVisionLayer,     ///< output of encoder block i
  kVisionOut,       ///< the encoder's last hidden state
  kProjected,       ///< rows of the text's width, as they leave the projector's last map
  kPacked,          ///< image rows [num_image_tokens, hidden_size of the text], where packing comes after that map
  kEmbeds,          ///< input of the first decoder layer [rows, hidden_size]
  kCrossAttention,  ///< cross-attention i before its gate
  kLayer,           ///< output of decoder layer i, before the final norm
  kFinalNorm,       ///< after the final norm
};

/// Looks at nothing, and compiles to nothing.
struct NoObserver {
  static constexpr bool kLooks = false;
  void operator()(Stage, Index, ConstMatrixView) const noexcept {}
};

}  // namespace duet
