#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

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

namespace detail {

inline void append(std::string& text, std::string_view part) { text += part; }
inline void append(std::string& text, char part) { text += part; }
/// Numbers as printf's %d and %g write them.
template <class Number>
  requires std::integral<Number> || std::floating_point<Number>
void append(std::string& text, Number number) {
  char digits[32];
  char* const end = digits + sizeof digits;
  if constexpr (std::floating_point<Number>) {
    text.append(digits, std::to_chars(digits, end, static_cast<double>(number), std::chars_format::general, 6).ptr);
  } else if constexpr (std::signed_integral<Number>) {
    text.append(digits, std::to_chars(digits, end, static_cast<long long>(number)).ptr);
  } else {
    text.append(digits, std::to_chars(digits, end, static_cast<unsigned long long>(number)).ptr);
  }
}

}  // namespace detail

/// Joins strings, characters and numbers into a string: `concat("[", rows, ", ", cols, "]")`. The same in every locale: a
/// host's may group digits, and names of tensors are made here. Never inlined: it is called where nothing is fast.
template <class... Parts>
[[gnu::noinline]] std::string concat(const Parts&... parts) {
  std::string text;
  (detail::append(text, parts), ...);
  return text;
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
  // Views and a call, not strings made in place: there are hundreds of places that throw.
  [[gnu::cold, gnu::noinline]] Error(ErrorKind kind, std::string_view where, std::string_view got, std::string_view expected,
                                     std::string_view hint = {})
      : std::runtime_error(message(where, got, expected, hint)),
        kind_(kind),
        where_(where),
        got_(got),
        expected_(expected),
        hint_(hint) {}

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
