#pragma once

/// Duet: multimodal (vision + text) language models on the CPU, straight from Hugging Face checkpoint folders.
///
///     const duet::Pipeline pipeline = duet::load<duet::LlavaGpt2>("scenes-a");      // or Pipeline(duet::load_any(folder))
///     duet::Conversation chat(pipeline, {.max_length = 128});
///     chat.user("What colour is the circle?", duet::Image::open("scene.png"));
///     std::cout << chat.reply().text << '\n';

#include "duet/pipeline/conversation.hpp"
#include "duet/zoo/load.hpp"
#include "duet/zoo/llava.hpp"
#include "duet/zoo/vision_encoder_decoder.hpp"
