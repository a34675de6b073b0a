#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "duet/core/error.hpp"

/// An interpreter of the part of Jinja that chat templates use, as transformers sets it up: a sandbox in which lists and
/// dictionaries do not change, without input, output, imports and randomness.
namespace duet::jinja {

/// What one rendering may use up. The defaults are far beyond what a chat of a million characters takes.
struct Limits {
  std::uint64_t steps = 20'000'000;                ///< expressions evaluated and values looked at
  std::uint64_t bytes = std::uint64_t{1} << 30;    ///< of text and lists, kept or not
  std::size_t text_bytes = std::size_t{1} << 26;   ///< of one text, the result included
  int depth = 400;                                 ///< expressions, blocks and macros within each other
  int nesting = 150;                               ///< lists and dictionaries within each other
};

/// Where a rendering stands and what it has used. Everything that takes time or memory tells it, so that no template can take
/// more than its share.
class Run {
 public:
  explicit Run(std::string where, Limits limits = {}) : where_(std::move(where)), limits_(limits) {}

  /// What follows stands in this line of the template.
  void at(int line) noexcept { line_ = line; }
  [[nodiscard]] int line() const noexcept { return line_; }

  /// Counts work: values looked at.
  void step(std::uint64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) throw error(concat("more than ", limits_.steps, " steps"), "a template that ends");
  }
  /// Counts memory that is about to be taken.
  void make(std::uint64_t bytes) {
    bytes_ += bytes;
    if (bytes_ > limits_.bytes) throw error(concat("more than ", limits_.bytes, " bytes of text and lists"), "a template that needs less");
  }
  /// Counts a text of `bytes` bytes that is about to be made.
  void make_text(std::uint64_t bytes) {
    grow_text(0, bytes);
  }
  /// Counts `more` bytes that a text of `bytes` bytes is about to grow by.
  void grow_text(std::uint64_t bytes, std::uint64_t more) {
    if (bytes + more > limits_.text_bytes) throw error(concat("a text of ", bytes + more, " bytes"), concat("at most ", limits_.text_bytes));
    make(more);
    step(more / 64);
  }
  /// Checks how deep a list or dictionary reaches.
  [[nodiscard]] int nested(int depth) const {
    if (depth > limits_.nesting) throw error(concat("values nested deeper than ", limits_.nesting), "flatter ones");
    return depth;
  }

  /// While it lives, evaluation is one level deeper.
  class Level {
   public:
    explicit Level(Run& run) : run_(run) {
      if (++run_.depth_ > run_.limits_.depth) {
        --run_.depth_;
        throw run_.error(concat("more than ", run_.limits_.depth, " levels of expressions, blocks and macros"), "a template that ends");
      }
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --run_.depth_; }

   private:
    Run& run_;
  };

  /// Something that the template does and cannot be done.
  [[nodiscard, gnu::cold]] Error error(std::string_view got, std::string_view expected, std::string_view hint = {}) const {
    return {ErrorKind::kInvalidArgument, place(), got, expected, hint};
  }
  /// Something that Jinja or Python may know and this interpreter does not.
  [[nodiscard, gnu::cold]] Error unknown(std::string_view what) const {
    return {ErrorKind::kUnsupportedModel, place(), what, "what chat templates use of Jinja"};
  }

 private:
  [[nodiscard]] std::string place() const { return concat(where_, ", line ", line_); }

  std::string where_;
  Limits limits_;
  int line_ = 1, depth_ = 0;
  std::uint64_t steps_ = 0, bytes_ = 0;
};

}  // namespace duet::jinja
