#pragma once

#include <utility>

#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// PaliGemma: every picture is stretched to one square; the prompt is read as a whole, every row seeing all others.
class PaliGemmaProcessor : public SingleViewProcessor {
 public:
  using SingleViewProcessor::SingleViewProcessor;
};

}  // namespace duet
