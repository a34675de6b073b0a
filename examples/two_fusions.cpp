// The same encoder and the same kind of decoder, composed both ways. What differs is the last template argument, and, because
// the decoder owns its cross-attention weights, the decoder's second one.
//
//   two_fusions scenes-a scenes-b PICTURE
#include <duet/duet.hpp>
#include <duet/zoo/model_of.hpp>
#include <iostream>

using Vision = duet::VisionTransformer<duet::ClipVisionRecipe>;

using MethodA = duet::VisionLanguageModel<Vision, duet::MlpProjector<>, duet::Decoder<duet::Gpt2Recipe>,  //
                                          duet::EmbeddingFusion>;
using MethodB = duet::VisionLanguageModel<Vision, duet::IdentityOrLinear,
                                          duet::Decoder<duet::Gpt2Recipe, duet::CrossAttention<duet::InsideBlock>>,
                                          duet::CrossAttentionFusion>;

// The zoo's families are these very types, with the reading of config.json and the names of tensors around them.
static_assert(std::is_same_v<MethodA, duet::LlavaGpt2::Model>);
static_assert(std::is_same_v<MethodB, duet::ClipGpt2::Model>);

template <class Family>
void describe(const char* folder, const duet::Image& picture) {
  const duet::Pipeline pipeline = duet::load<Family>(folder);
  duet::Conversation conversation(pipeline, {});
  conversation.user(std::nullopt, {picture});
  const duet::Reply reply = conversation.reply();
  const duet::ReplyStatistics& cost = conversation.statistics();
  std::cout << Family::Model::FusionPolicy::kName << ":" << reply.text << "\n  " << cost.image_tokens << " image tokens, "
            << cost.prompt_tokens << " rows in the decoder's context\n";
}

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: two_fusions METHOD_A_FOLDER METHOD_B_FOLDER PICTURE\n";
    return 2;
  }
  const duet::Image picture = duet::Image::open(argv[3]);
  describe<duet::LlavaGpt2>(argv[1], picture);
  describe<duet::ClipGpt2>(argv[2], picture);
} catch (const duet::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
