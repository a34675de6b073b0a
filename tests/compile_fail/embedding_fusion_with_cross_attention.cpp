// Embedding fusion on a decoder with cross-attention would load weights that never run.
#include "parts.hpp"

#ifdef DUET_EXPECT_ERROR
using Text = Reading;
#else
using Text = Plain;
#endif
template class duet::VisionLanguageModel<Vision, duet::MlpProjector<>, Text, duet::EmbeddingFusion>;
