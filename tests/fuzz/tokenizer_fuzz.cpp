// Tokenizer files and texts from a fuzzer: whatever the bytes are, loading is a tokenizer or a duet::Error, and a loaded
// one keeps its promises.
//
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/tokenizer_fuzz.cpp -lpcre2-8 -lutf8proc
//   g++ -std=c++20 -g -DDUET_FUZZ_MAIN … : a program that replays the files and folders it is given
//
// An input is a tokenizer.json, a byte 0xFF (which no JSON has), and a text; without 0xFF the text is the file itself.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/tokenizer.hpp"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void use(const duet::Tokenizer& tokenizer, std::string_view text) {
  const std::vector<duet::TokenId> ids = tokenizer.encode(text);
  for (const duet::TokenId id : ids) require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
  std::vector<duet::TokenId> mixed = ids;
  for (const char c : text) mixed.push_back(static_cast<duet::TokenId>(c));  // also ids that are none
  for (const bool skip : {true, false}) {
    const std::string decoded = tokenizer.decode(mixed, {.skip_special_tokens = skip});
    require(duet::is_valid_utf8(decoded));
    duet::StreamDecoder stream(tokenizer, {.skip_special_tokens = skip});
    std::string streamed;
    for (const duet::TokenId id : mixed) {
      const std::string piece = stream.push(id);
      require(duet::is_valid_utf8(piece));
      streamed += piece;
    }
    require(streamed + stream.flush() == decoded);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\xFF');
  try {
    const duet::Tokenizer tokenizer = duet::Tokenizer::parse(input.substr(0, end));
    use(tokenizer, end == std::string_view::npos ? input : input.substr(end + 1));
  } catch (const duet::Error&) {
  }
  return 0;
}

#ifdef DUET_FUZZ_MAIN
#include <filesystem>
#include <iostream>

int main(int argc, char** argv) {
  const auto replay = [](const std::filesystem::path& path) {
    const std::string bytes = duet::read_text_file(path);
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    std::cout << path.string() << '\n';
  };
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      replay(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (entry.is_regular_file()) replay(entry.path());
    }
  }
}
#endif
