// An encoder does not fit the projector's slot; the message names the concept.
#include "parts.hpp"

#ifdef DUET_EXPECT_ERROR
using Projection = Vision;
#else
using Projection = duet::LinearProjector;
#endif
template class duet::VisionLanguageModel<Vision, Projection, Plain, duet::EmbeddingFusion>;
