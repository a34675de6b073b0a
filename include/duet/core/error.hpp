#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <initializer_list>
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

/// Something to be joined into a text.
class Part {
 public:
  Part(std::string_view text) noexcept : kind_(Kind::kText), text_(text) {}
  Part(const std::string& text) noexcept : Part(std::string_view(text)) {}
  Part(const char* text) noexcept : Part(std::string_view(text)) {}
  Part(char character) noexcept : kind_(Kind::kCharacter), character_(character) {}
  Part(std::signed_integral auto number) noexcept : kind_(Kind::kSigned), signed_(number) {}
  Part(std::unsigned_integral auto number) noexcept : kind_(Kind::kUnsigned), unsigned_(number) {}
  Part(std::floating_point auto number) noexcept : kind_(Kind::kFloat), float_(static_cast<double>(number)) {}

  /// Numbers are written as printf's %d and %g write them.
  void append_to(std::string& text) const {
    char digits[32];
    char* const end = digits + sizeof digits;
    switch (kind_) {
      case Kind::kText: text += text_; return;
      case Kind::kCharacter: text += character_; return;
      case Kind::kSigned: text.append(digits, std::to_chars(digits, end, signed_).ptr); return;
      case Kind::kUnsigned: text.append(digits, std::to_chars(digits, end, unsigned_).ptr); return;
      case Kind::kFloat: text.append(digits, std::to_chars(digits, end, float_, std::chars_format::general, 6).ptr); return;
    }
  }

 private:
  enum class Kind : unsigned char { kText, kCharacter, kSigned, kUnsigned, kFloat } kind_;
  union {
    std::string_view text_;
    char character_;
    long long signed_;
    unsigned long long unsigned_;
    double float_;
  };
};

inline std::string join(std::initializer_list<Part> parts) {
  std::string text;
  for (const Part& part : parts) part.append_to(text);
  return text;
}

}  // namespace detail

/// Joins strings, characters and numbers into a string: `concat("[", rows, ", ", cols, "]")`. The same in every locale: a
/// host's may group digits, and names of tensors are made here.
template <class... Parts>
std::string concat(const Parts&... parts) {
  return detail::join({parts...});
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
