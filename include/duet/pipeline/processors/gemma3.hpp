#pragma once

#include <utility>

#include "duet/pipeline/single_view_processor.hpp"

namespace duet {

/// Gemma 3: every picture is stretched to one square.
class Gemma3Processor : public SingleViewProcessor {
 public:
  using SingleViewProcessor::SingleViewProcessor;
};

}  // namespace duet
