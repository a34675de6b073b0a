#include <iostream>

#include "commands.hpp"
#include "duet/io/chat_template.hpp"

int render_template(const TemplateOptions& options) {
  const auto chat_template = duet::ChatTemplate::load(options.model);
  const auto now = options.date.empty() ? duet::jinja::CivilTime::now() : duet::jinja::CivilTime::parse(options.date);
  std::string line;
  for (int number = 1; std::getline(std::cin, line); ++number) {
    nlohmann::json result;
    result["prompt"] = chat_template.render_json(line, duet::concat("line ", number), now);
    std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
  return 0;
}
