// Chat templates and requests from a fuzzer: whatever they are, a prompt or a duet::Error, within the limits.
//
// An input is a template, a byte 0xFF (which no UTF-8 has), and a request as JSON; without 0xFF the request is one of ours.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "duet/io/chat_template.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::string_view kRequest = R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": " é "}]}],
    "tools": [{"name": "f", "parameters": {"b": 1, "a": [1.5, true, null]}}], "n": 3, "s": "a b", "add_generation_prompt": true})";
  const duet::jinja::Limits limits{.steps = 200'000, .bytes = 1 << 24, .text_bytes = 1 << 20};
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\xFF');
  try {
    const auto chat_template = duet::ChatTemplate::parse(input.substr(0, end), {{"bos_token", "<s>"}});
    const std::string prompt = chat_template.render_json(end == std::string_view::npos ? kRequest : input.substr(end + 1), "request", {}, limits);
    if (prompt.size() > limits.text_bytes || !duet::is_valid_utf8(prompt)) std::abort();
  } catch (const duet::Error&) {
  }
  return 0;
}
