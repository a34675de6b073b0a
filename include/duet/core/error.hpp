#pragma once

#include <cstddef>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace duet {

/// What kind of input was wrong. One class with a kind instead of a hierarchy: callers switch on `kind()`.
enum class ErrorKind {
  kFileNotReadable,   ///< open, read or map failed
  kMalformedFile,     ///< the bytes break the format (safetensors, JSON, tokenizer, image)
  kMissingTensor,     ///< the checkpoint lacks a tensor the model needs
  kShapeMismatch,     ///< a tensor, or a pair of parts, has another shape than expected
  kUnsupportedDtype,  ///< a dtype known to the format, not to this model
  kUnsupportedModel,  ///< model_type is not in the zoo
  kConfigMismatch,    ///< config.json names a policy that this model type was not built with
  kInvalidArgument,   ///< a caller's value is out of range
  kContextFull,       ///< prompt and new tokens exceed max_length
};

/// Joins any streamable values into a string: `concat("[", rows, ", ", cols, "]")`. The same in every locale: a host's
/// may group digits, and names of tensors are made here.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  (text << ... << parts);
  return std::move(text).str();
}

namespace detail {

/// A piece of a file's text for an error message: not longer than a line, and cut between characters.
inline std::string shown(std::string_view text, std::size_t most = 120) {
  if (text.size() <= most) return std::string(text);
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return concat(text.substr(0, most), "...");
}

}  // namespace detail

/// Thrown for every problem with input, never for one of ours. what() reads `where: got X, expected Y; hint`.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string where, std::string got, std::string expected, std::string hint = {})
      : std::runtime_error(message(where, got, expected, hint)),
        kind_(kind),
        where_(std::move(where)),
        got_(std::move(got)),
        expected_(std::move(expected)),
        hint_(std::move(hint)) {}

  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  /// The file, JSON path, tensor name or option that was wrong.
  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  [[nodiscard]] const std::string& got() const noexcept { return got_; }
  [[nodiscard]] const std::string& expected() const noexcept { return expected_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

 private:
  static std::string message(std::string_view where, std::string_view got, std::string_view expected,
                             std::string_view hint) {
    constexpr std::size_t kMost = 400;
    std::string text = concat(where, ": got ", detail::shown(got, kMost), ", expected ", expected);
    if (!hint.empty()) text += concat("; ", hint);
    for (char& c : text) {  // one line of readable length, whatever a file's bytes were
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    }
    return text;
  }

  ErrorKind kind_;
  std::string where_, got_, expected_, hint_;
};

}  // namespace duet
