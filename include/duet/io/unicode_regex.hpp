#pragma once

// One width of PCRE2 is used here; a program may define another for itself.
#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "duet/core/error.hpp"
#include "duet/io/regex_dialect.hpp"

namespace duet {

/// Where a match lies, in bytes: [begin, end).
struct TextRange {
  std::size_t begin;
  std::size_t end;
  friend bool operator==(const TextRange&, const TextRange&) = default;
};

/// A regular expression over Unicode text, in the dialect of tokenizer files (Oniguruma's), matched by PCRE2. Const and
/// safe to share among threads; what changes while matching is in a `Search`.
///
/// Errors  kMalformedFile with the offset in `pattern` where it is no regular expression; kUnsupportedModel for what
///         PCRE2 cannot say
/// Source  PCRE2 10 (pcre2api), Oniguruma doc/RE
class UnicodeRegex {
  template <auto function>
  struct Free {
    template <class T>
    void operator()(T* object) const noexcept {
      function(object);
    }
  };

 public:
  /// `where` names the pattern in errors.
  UnicodeRegex(std::string_view pattern, std::string where) : where_(std::move(where)) {
    const RegexDialect::Translation translation = RegexDialect(pattern, where_, is_script).translate();
    int error = 0;
    std::size_t offset = 0;
    code_ = compile(translation.pattern, error, offset);
    if (!code_) {
      throw Error(ErrorKind::kMalformedFile, where_, concat("an error at offset ", translation.source_offset(offset), " (", message(error), ")"),
                  "a regular expression");
    }
    pcre2_jit_compile_8(code_.get(), PCRE2_JIT_COMPLETE);  // where it fails, the interpreter matches
  }

  /// One thread's walk through texts with one expression.
  class Search {
   public:
    explicit Search(const UnicodeRegex& regex)
        : regex_(&regex), data_(pcre2_match_data_create_8(1, nullptr)), context_(pcre2_match_context_create_8(nullptr)) {
      if (!data_ || !context_) throw std::bad_alloc();
      pcre2_set_heap_limit_8(context_.get(), 1U << 19);  // KiB
    }

    /// The leftmost match that begins at `from` or later.
    ///
    /// Requires valid UTF-8; `from` at a character
    /// Errors   kInvalidArgument when the search takes unreasonably many steps (a pattern that explodes on this text)
    [[nodiscard]] std::optional<TextRange> find(std::string_view text, std::size_t from) {
      // Backtracking over a long run of blanks is linear and legitimate; the rest is not.
      const std::size_t steps = 10'000'000 + 16 * std::min<std::size_t>(text.size(), 100'000'000);
      pcre2_set_match_limit_8(context_.get(), static_cast<std::uint32_t>(steps));
      int result = match(text, from, PCRE2_NO_UTF_CHECK);
      if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(text, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
      if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer_8(data_.get());
      if (result < 0 || bounds[0] < from || bounds[1] < bounds[0]) {
        throw Error(ErrorKind::kInvalidArgument, regex_->where_, result < 0 ? message(result) : "a match that ends before it begins",
                    "a pattern that can be matched in reasonable time");
      }
      return TextRange{bounds[0], bounds[1]};
    }

   private:
    int match(std::string_view text, std::size_t from, std::uint32_t options) {
      return pcre2_match_8(regex_->code_.get(), bytes(text), text.size(), from, options, data_.get(), context_.get());
    }

    const UnicodeRegex* regex_;
    std::unique_ptr<pcre2_match_data_8, Free<pcre2_match_data_free_8>> data_;
    std::unique_ptr<pcre2_match_context_8, Free<pcre2_match_context_free_8>> context_;
  };

 private:
  using Code = std::unique_ptr<pcre2_code_8, Free<pcre2_code_free_8>>;

  static Code compile(std::string_view pattern, int& error, std::size_t& offset) {
    const std::unique_ptr<pcre2_compile_context_8, Free<pcre2_compile_context_free_8>> context(pcre2_compile_context_create_8(nullptr));
    if (!context) throw std::bad_alloc();
    pcre2_set_newline_8(context.get(), PCRE2_NEWLINE_LF);
    constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    return Code(pcre2_compile_8(bytes(pattern), pattern.size(), kOptions, &error, &offset, context.get()));
  }
  static bool is_script(std::string_view name) {
    int error = 0;
    std::size_t offset = 0;
    return name.size() > 2 && name.find_first_of("=:") == std::string_view::npos && compile(concat("\\p{sc:", name, '}'), error, offset) != nullptr;
  }
  static PCRE2_SPTR8 bytes(std::string_view text) noexcept {
    return reinterpret_cast<PCRE2_SPTR8>(text.data() != nullptr ? text.data() : "");
  }
  static std::string message(int error) {
    std::array<PCRE2_UCHAR8, 256> buffer{};
    pcre2_get_error_message_8(error, buffer.data(), buffer.size());
    return reinterpret_cast<const char*>(buffer.data());
  }

  std::string where_;
  Code code_;
};

}  // namespace duet
