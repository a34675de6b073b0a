// Two ways to render a template: ours, and Python's Jinja in the environment of transformers, on random templates.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "duet/io/chat_template.hpp"

namespace duet {
namespace property_chat_template {

std::string output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string output;
  std::array<char, 4096> buffer;
  while (pipe && std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) output += buffer.data();
  return output;
}

TEST(ChatTemplate, RandomTemplatesRenderAsInPython) {
  if (std::system("python3 -c 'import jinja2' 2>/dev/null") != 0) GTEST_SKIP() << "needs python3-jinja2";
  constexpr int kCases = 3000;
  const std::string cases = output_of("python3 '" DUET_TEST_DIR "/support/jinja_reference.py' 7 " + std::to_string(kCases));
  int seen = 0, errors = 0;
  for (std::size_t begin = 0, end = 0; (end = cases.find('\n', begin)) != std::string::npos; begin = end + 1, ++seen) {
    const auto c = nlohmann::ordered_json::parse(cases.begin() + static_cast<std::ptrdiff_t>(begin), cases.begin() + static_cast<std::ptrdiff_t>(end));
    const auto source = c["template"].get<std::string>();
    const auto render = [&] { return ChatTemplate::parse(source).render_json(c["request"].dump(), "request", {}); };
    if (c.contains("error")) {
      ++errors;
      EXPECT_THROW(static_cast<void>(render()), Error) << source << '\n' << c["error"];
      continue;
    }
    try {
      EXPECT_EQ(render(), c["rendered"].get<std::string>()) << source;
    } catch (const Error& e) {
      ADD_FAILURE() << source << '\n' << e.what();
    }
  }
  EXPECT_EQ(seen, kCases);
  EXPECT_LT(errors, kCases / 4) << "most templates must render";
}

}  // namespace property_chat_template
}  // namespace duet
