// Captions a picture:  caption MODEL PICTURE
#include <duet/pipeline/conversation.hpp>
#include <duet/zoo/load.hpp>
#include <duet/zoo/vision_encoder_decoder.hpp>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: caption MODEL PICTURE (a vision-encoder-decoder folder: CLIP and GPT-2)\n";
    return 2;
  }
  const duet::Pipeline pipeline = duet::load<duet::ClipGpt2>(argv[1]);
  duet::Conversation conversation(pipeline, {});
  conversation.user(std::nullopt, {duet::Image::open(argv[2])});  // a picture and no question
  std::cout << conversation.reply().text << '\n';
} catch (const duet::Error& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
