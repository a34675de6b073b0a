// Cross-attention fusion needs a decoder that has cross-attention.
#include "parts.hpp"

#ifdef DUET_EXPECT_ERROR
using Text = Plain;
#else
using Text = Reading;
#endif
template class duet::VisionLanguageModel<Vision, duet::IdentityOrLinear, Text, duet::CrossAttentionFusion>;
