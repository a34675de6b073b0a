// A recipe without a position encoding.
#include "parts.hpp"

#ifdef DUET_EXPECT_ERROR
struct Recipe : duet::DecoderRecipeDefaults {
  using Norm = duet::RmsNorm;
  using FeedForward = duet::GatedFeedForward<>;
};
#else
using Recipe = TextRecipe;
#endif
duet::Index size_of_a_decoder() { return static_cast<duet::Index>(sizeof(duet::Decoder<Recipe>)); }
