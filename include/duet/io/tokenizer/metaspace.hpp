#pragma once

#include <string>

#include "duet/io/json.hpp"

namespace duet::tokenization {

/// How sentencepiece-style tokenizers mark spaces, and where they put one that the text does not have.
///
/// Errors  kMalformedFile for an empty mark, an unknown scheme, or fields that contradict each other
/// Source  huggingface/tokenizers, src/pre_tokenizers/metaspace.rs
struct Metaspace {
  enum class Prepend : unsigned char { kNever, kFirst, kAlways };

  std::string replacement;
  Prepend prepend;

  [[nodiscard]] static Metaspace read(const JsonView& view) {
    Metaspace result{view.get_or<std::string>("replacement", "\xE2\x96\x81"), Prepend::kAlways};
    if (result.replacement.empty()) throw Error(ErrorKind::kMalformedFile, view.where(), "an empty replacement", "a character");
    const auto scheme = view.get_or<std::string>("prepend_scheme", "always");
    if (scheme == "never") {
      result.prepend = Prepend::kNever;
    } else if (scheme == "first") {
      result.prepend = Prepend::kFirst;
    } else if (scheme != "always") {
      throw Error(ErrorKind::kMalformedFile, view.where(), concat("prepend_scheme \"", scheme, '"'), "always, first or never");
    }
    if (!view.get_or("add_prefix_space", true)) {  // the older spelling
      if (view.contains("prepend_scheme") && result.prepend != Prepend::kNever) {
        throw Error(ErrorKind::kMalformedFile, view.where(), concat("add_prefix_space false with prepend_scheme \"", scheme, '"'),
                    "prepend_scheme \"never\"");
      }
      result.prepend = Prepend::kNever;
    }
    return result;
  }
};

}  // namespace duet::tokenization
