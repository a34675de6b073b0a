#include <iostream>

#include "commands.hpp"
#include "duet/io/tokenizer.hpp"

int tokenize(const std::string& model) {
  const auto tokenizer = duet::Tokenizer::load(model);
  std::string line;
  for (int number = 1; std::getline(std::cin, line); ++number) {
    const nlohmann::json text = duet::parse_json(line, duet::concat("line ", number));
    if (!text.is_string()) {
      throw duet::Error(duet::ErrorKind::kInvalidArgument, duet::concat("line ", number), text.type_name(), "a JSON string");
    }
    const auto ids = tokenizer.encode(text.get<std::string>(), duet::SpecialTokens::kAdd);
    nlohmann::ordered_json result;
    result["ids"] = ids;
    result["decoded"] = tokenizer.decode(ids, {.skip_special_tokens = false});
    std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
  return 0;
}
