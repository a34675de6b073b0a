#pragma once

#include <unistd.h>

#include <cstdio>
#include <string_view>

/// A line on the terminal that says what takes long; silent when standard error is no terminal.
class Progress {
 public:
  explicit Progress(std::string_view what) : shown_(::isatty(STDERR_FILENO) != 0) { say(what); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  void say(std::string_view what) const {
    if (shown_) std::fprintf(stderr, "\r\033[K%.*s ...", static_cast<int>(what.size()), what.data());
  }
  void clear() const {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  bool shown_;
};
