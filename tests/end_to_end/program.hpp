#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace duet::testing {

/// What the program printed and returned.
struct Outcome {
  int code = -1;
  std::string out, err;

  [[nodiscard]] nlohmann::json json() const { return nlohmann::json::parse(out); }
  /// Errors are one line, and no crash.
  [[nodiscard]] bool is_clear_error() const {
    return code == 1 && !err.empty() && std::count(err.begin(), err.end(), '\n') == 1 && err.find("expected") != std::string::npos;
  }
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Runs a program with shell-quoted arguments, and `input` as its standard input.
inline Outcome run_program(const std::string& program, const std::string& arguments, const std::string& input = "") {
  const auto folder = std::filesystem::temp_directory_path() / ("duet-test-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto file = [&](const char* name) { return (folder / name).string(); };
  std::ofstream(file("in"), std::ios::binary) << input;
  const std::string command =
      "'" + program + "' " + arguments + " <'" + file("in") + "' >'" + file("out") + "' 2>'" + file("err") + "'";
  const int status = std::system(command.c_str());
  Outcome outcome{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(file("out")), read_file(file("err"))};
  std::filesystem::remove_all(folder);
  return outcome;
}

inline Outcome duet_program(const std::string& arguments, const std::string& input = "") {
  return run_program(DUET_PROGRAM, arguments, input);
}

inline std::string golden(const std::string& name) { return std::string(DUET_TEST_GOLDEN_DIR) + "/" + name; }
inline std::string example(const std::string& name) { return std::string(DUET_EXAMPLES_DIR) + "/" + name; }

}  // namespace duet::testing
