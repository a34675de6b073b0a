#pragma once

#include <utf8proc.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/json.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// Sentencepiece's table of replacements ("precompiled_charsmap"): a trie over characters and clusters, and the texts that stand
/// for them. The trie is an array of 32-bit units (Darts-clone): a unit's low byte labels it, bit 8 says that a text ends
/// here, and the rest how far its children lie.
///
/// Errors  kMalformedFile for what is no base64 or no such table
/// Source  google/sentencepiece, src/normalizer; huggingface/spm_precompiled
class Precompiled {
 public:
  [[nodiscard]] static Precompiled read(const JsonView& view) {
    const JsonView charsmap = view.at("precompiled_charsmap");
    const std::string bytes = from_base64(charsmap);
    const auto unit = [&](std::size_t at) {
      std::uint32_t value = 0;
      for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
      return value;
    };
    const std::size_t size = bytes.size() < 4 ? 0 : unit(0);
    if (bytes.size() < 4 || size % 4 != 0 || size > bytes.size() - 4) {
      throw Error(ErrorKind::kMalformedFile, charsmap.where(), concat(bytes.size(), " bytes, of which a trie of ", size), "a trie and texts behind it");
    }
    Precompiled result;
    for (std::size_t at = 4; at < 4 + size; at += 4) result.trie_.push_back(unit(at));
    result.texts_ = bytes.substr(4 + size);
    return result;
  }

  /// Every cluster of characters that the table has, else every character, replaced.
  [[nodiscard]] std::string apply(std::string_view text) const {
    constexpr std::size_t kLongCluster = 6;
    std::string result;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::string_view cluster = text.substr(begin, cluster_length(text, begin));
      begin += cluster.size();
      if (const auto whole = cluster.size() < kLongCluster ? find(cluster) : std::nullopt) {
        result += *whole;
        continue;
      }
      for (std::size_t i = 0; i < cluster.size();) {
        const std::string_view character = cluster.substr(i, decode_utf8(cluster, i).length);
        result += find(character).value_or(character);
        i += character.size();
      }
    }
    return result;
  }

 private:
  static std::string from_base64(const JsonView& view) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto text = view.as<std::string>();
    std::string bytes;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : std::string_view(text).substr(0, text.find('='))) {
      const std::size_t digit = kDigits.find(c);
      if (digit == std::string_view::npos) throw Error(ErrorKind::kMalformedFile, view.where(), concat("the character ", c), "base64");
      bits = bits << 6 | static_cast<std::uint32_t>(digit);
      if ((count += 6) < 8) continue;
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xFF);
    }
    return bytes;
  }

  /// The length of the cluster (what a reader takes for one character) that begins at `begin`.
  static std::size_t cluster_length(std::string_view text, std::size_t begin) {
    const Utf8Step first = decode_utf8(text, begin);
    auto before = static_cast<utf8proc_int32_t>(first.code_point);
    utf8proc_int32_t state = 0;
    std::size_t end = begin + first.length;
    while (end < text.size()) {
      const Utf8Step next = decode_utf8(text, end);
      const auto code = static_cast<utf8proc_int32_t>(next.code_point);
      if (utf8proc_grapheme_break_stateful(before, code, &state) != 0) break;
      before = code;
      end += next.length;
    }
    return end - begin;
  }

  /// The text for the shortest entry that `key` begins with.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const {
    const auto at = [&](std::size_t i) { return i < trie_.size() ? trie_[i] : 0; };
    const auto offset = [](std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & (1U << 9)) >> 6); };
    std::size_t node = offset(at(0));
    for (const char c : key) {
      const auto byte = static_cast<std::uint8_t>(c);
      if (byte == 0) break;
      node ^= byte;
      const std::uint32_t unit = at(node);
      if ((unit & (1U << 31 | 0xFF)) != byte) break;
      node ^= offset(unit);
      if ((unit >> 8 & 1) == 0) continue;
      const std::size_t begin = at(node) & ((1U << 31) - 1);
      if (begin >= texts_.size()) return std::nullopt;
      const std::string_view rest = std::string_view(texts_).substr(begin);
      return rest.substr(0, rest.find('\0'));
    }
    return std::nullopt;
  }

  std::vector<std::uint32_t> trie_;
  std::string texts_;
};

}  // namespace duet::tokenization
