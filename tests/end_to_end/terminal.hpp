#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace duet::testing {

/// `duet` under a terminal of its own, which does not echo: prompts, Ctrl-C and what else only a person meets.
class Terminal {
 public:
  static constexpr std::string_view kCtrlC = "\x03", kCtrlD = "\x04", kCtrlS = "\x13";

  explicit Terminal(std::vector<std::string> arguments) {
    struct termios settings {};
    settings.c_iflag = IXON;
    settings.c_lflag = ICANON | ISIG | NOFLSH;
    settings.c_cflag = CREAD | CS8;
    settings.c_cc[VINTR] = 3;
    settings.c_cc[VEOF] = 4;
    settings.c_cc[VSTART] = 17;
    settings.c_cc[VSTOP] = 19;
    pid_ = ::forkpty(&terminal_, nullptr, &settings, nullptr);
    if (pid_ < 0) ADD_FAILURE() << "no pseudo-terminal";
    if (pid_ != 0) return;
    std::string program = DUET_PROGRAM;
    std::vector<char*> argv{program.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (terminal_ >= 0) ::close(terminal_);
  }

  void type(std::string_view keys) const {
    EXPECT_EQ(::write(terminal_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }

  /// What was shown up to and with the next `text`; a test that has to wait too long fails.
  std::string until(std::string_view text) {
    while (shown_.find(text) == std::string::npos) {
      if (!read_more()) {
        ADD_FAILURE() << "no \"" << text << "\" came, but: " << shown_;
        return std::exchange(shown_, {});
      }
    }
    const std::size_t end = shown_.find(text) + text.size();
    std::string result = shown_.substr(0, end);
    shown_.erase(0, end);
    return result;
  }

  /// Returns once the program has a handler of its own for SIGINT: while it replies.
  void wait_until_it_catches_interrupts() const {
    for (int attempt = 0; attempt < 6000; ++attempt) {
      std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("SigCgt:") && (std::stoull(line.substr(7), nullptr, 16) >> (SIGINT - 1) & 1) != 0) return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "SIGINT is not caught";
  }

  /// The exit code, once the program has ended; what it showed until then is read.
  int exit_code() {
    while (read_more()) {
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  bool read_more() {
    struct pollfd ready {terminal_, POLLIN, 0};
    if (::poll(&ready, 1, 60'000) <= 0) return false;
    char bytes[4096];
    const ssize_t count = ::read(terminal_, bytes, sizeof bytes);  // −1 (EIO) once the program has ended
    if (count > 0) shown_.append(bytes, static_cast<std::size_t>(count));
    return count > 0;
  }

  pid_t pid_ = -1;
  int terminal_ = -1;
  std::string shown_;
};

}  // namespace duet::testing
