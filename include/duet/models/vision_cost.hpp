#pragma once

#include "duet/models/visual_input.hpp"

namespace duet {

/// What an encoder reads and what that takes, of one picture of the size that it tells its costs of.
struct VisionCost {
  Index num_channels = 3;
  PictureSize image_size;
  Index patch_size = 0;
  Index hidden_size = 0;
  Index num_layers = 0;
  Index num_features = 0;     ///< rows that come out, or image tokens where the encoder merges them
  double multiply_adds = 0;  ///< of the layers that run, attention included
};

}  // namespace duet
