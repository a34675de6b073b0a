#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "duet/core/token.hpp"
#include "duet/pipeline/processor.hpp"

namespace duet {

/// Arguments of the reference's forward(), by its names.
struct ReferenceInputs {
  Index batch = 0, length = 0;
  std::vector<TokenId> input_ids;            ///< [batch, length]; decoder_input_ids of an encoder-decoder
  std::vector<std::uint8_t> attention_mask;  ///< [batch, length] or empty: all ones
  std::vector<Index> position_ids;           ///< [batch, length] or empty: 0, 1, 2 …
  std::optional<VisualInput> pixel_values;
  const Processor* processor = nullptr;  ///< of the family, which arranges its prompts; without, they are as a text's

  /// Rows of batch entry `b` that are no padding: one run.
  /// Errors  kInvalidArgument when the mask has holes
  [[nodiscard]] std::pair<Index, Index> unpadded(Index b) const {
    if (attention_mask.empty()) return {0, length};
    const auto row = std::span(attention_mask).subspan(static_cast<std::size_t>(b * length), static_cast<std::size_t>(length));
    const auto first = std::ranges::find_if(row, [](std::uint8_t m) { return m != 0; });
    const auto last = std::find(first, row.end(), std::uint8_t{0});
    if (first == row.end() || std::find_if(last, row.end(), [](std::uint8_t m) { return m != 0; }) != row.end()) {
      throw Error(ErrorKind::kInvalidArgument, concat("inputs.attention_mask[", b, "]"), "a mask with holes or without a one",
                  "one run of ones");
    }
    return {first - row.begin(), last - row.begin()};
  }
};

}  // namespace duet
