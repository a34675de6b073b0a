#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/io/template/characters.hpp"
#include "duet/io/template/operators.hpp"
#include "duet/io/template/parameters.hpp"
#include "duet/io/template/value.hpp"

/// The methods of Python's str.
namespace duet::jinja::strings {

using View = std::string_view;
inline constexpr std::size_t kNowhere = View::npos;

/// str.replace(): the first `most` occurrences; all of them for a negative number.
inline std::string replaced(Run& run, View text, View old, View fresh, std::int64_t most) {
  std::string result;
  const auto put = [&](View part) {
    run.grow_text(result.size(), part.size());
    result += part;
  };
  run.step(text.size() / 16);
  while (most != 0) {
    const std::size_t found = text.find(old);
    if (found == kNowhere) break;
    put(text.substr(0, found));
    put(fresh);
    text.remove_prefix(found + old.size());
    --most;
    run.step();
    if (!old.empty()) continue;
    if (text.empty()) return result;  // an empty text stands between all characters
    const std::size_t length = decode_utf8(text, 0).length;
    put(text.substr(0, length));
    text.remove_prefix(length);
  }
  put(text);
  return result;
}

inline Value list_of(Run& run, const std::vector<View>& parts) {
  std::vector<Value> items;
  for (const View part : parts) items.push_back(make_text(run, part));
  return make_list(run, std::move(items));
}

/// str.split() and rsplit() by a separator: at most `most` cuts, where that is not negative.
inline std::vector<View> cut_by(Run& run, View text, View separator, std::int64_t most, Ends from) {
  if (separator.empty()) throw run.error("an empty separator", "one that is not");
  std::vector<View> parts;
  for (; most != 0; --most) {
    const std::size_t at = from == Ends::kLeft ? text.find(separator) : text.rfind(separator);
    if (at == kNowhere) break;
    run.step();
    const View before = text.substr(0, at), after = text.substr(at + separator.size());
    parts.push_back(from == Ends::kLeft ? before : after);
    text = from == Ends::kLeft ? after : before;
  }
  parts.push_back(text);
  if (from == Ends::kRight) std::ranges::reverse(parts);
  return parts;
}

/// The same between words; what is left after the cuts keeps its whitespace.
inline std::vector<View> cut_into_words(Run& run, View text, std::int64_t most, Ends from) {
  std::vector<View> words;
  std::size_t at = 0, begin = kNowhere;
  const auto end_word = [&] {
    if (begin != kNowhere) words.push_back(text.substr(begin, at - begin));
    begin = kNowhere;
  };
  for_each_character(text, [&](char32_t c, View bytes) {
    if (is_space(c)) end_word();
    if (!is_space(c) && begin == kNowhere) begin = at;
    at += bytes.size();
  });
  end_word();
  run.step(words.size());
  if (most < 0 || static_cast<std::size_t>(most) >= words.size()) return words;
  const auto cuts = static_cast<std::ptrdiff_t>(most);
  if (from == Ends::kLeft) {
    const auto rest = static_cast<std::size_t>(words[static_cast<std::size_t>(most)].data() - text.data());
    words.erase(words.begin() + cuts, words.end());
    words.push_back(text.substr(rest));
  } else {
    const View last = words[words.size() - static_cast<std::size_t>(most) - 1];
    words.erase(words.begin(), words.end() - cuts);
    words.insert(words.begin(), text.substr(0, static_cast<std::size_t>(last.data() + last.size() - text.data())));
  }
  return words;
}

inline Value split(Run& run, View text, const Parameters& p, Ends from) {
  run.step(text.size() / 16);
  const std::int64_t most = p.integer_or(1, -1);
  return list_of(run, p.given(0) ? cut_by(run, text, p.text(0), most, from) : cut_into_words(run, text, most, from));
}

/// str.splitlines(). All of Python's line boundaries end a line.
inline std::vector<View> lines_of(View text, bool keep_ends) {
  std::vector<View> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    const char32_t c = step.code_point;
    std::size_t length = step.length;
    if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029) {
      if (c == '\r' && text.substr(i + 1).starts_with('\n')) ++length;
      lines.push_back(text.substr(begin, (keep_ends ? i + length : i) - begin));
      begin = i + length;
    }
    i += length;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

/// The bytes of text[start:end] that the parameters from number `first` on say.
struct Window {
  std::size_t begin, end;
};
inline Window window(View text, const Parameters& p, std::size_t first) {
  const auto size = static_cast<std::int64_t>(count_characters(text));
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    std::int64_t x = p.given(i) ? p.integer(i) : fallback;
    if (x < 0) x = std::max<std::int64_t>(0, x + size);
    return x;
  };
  const std::int64_t start = bound(first, 0), end = std::min(bound(first + 1, size), size);
  if (start > end) return {kNowhere, 0};
  return {byte_of_character(text, static_cast<std::size_t>(start)), byte_of_character(text, static_cast<std::size_t>(end))};
}
/// str.find() and rfind(), in characters; -1 where it is not.
inline std::int64_t found(Run& run, View text, const Parameters& p, Ends from) {
  run.step(text.size() / 16);
  const Window w = window(text, p, 1);
  if (w.begin == kNowhere) return -1;
  const View inside = text.substr(w.begin, w.end - w.begin);
  const std::size_t at = from == Ends::kLeft ? inside.find(p.text(0)) : inside.rfind(p.text(0));
  return at == kNowhere ? -1 : static_cast<std::int64_t>(count_characters(text.substr(0, w.begin + at)));
}
inline Value found_or_error(Run& run, View text, const Parameters& p, Ends from) {
  const std::int64_t at = found(run, text, p, from);
  if (at < 0) throw run.error(concat("a string without \"", p.text(0), '"'), "one that has it");
  return at;
}

/// str.startswith() and endswith(), also with a tuple of strings.
inline bool begins_or_ends(Run& run, View text, const Parameters& p, Ends end) {
  const Window w = window(text, p, 1);
  if (w.begin == kNowhere) return false;
  const View inside = text.substr(w.begin, w.end - w.begin);
  const auto matches = [&](const Value& part) {
    if (!part.is_text()) throw run.error(concat("a ", part.type_name(), " as prefix or suffix"), "a string or a tuple of strings");
    return end == Ends::kLeft ? inside.starts_with(part.text()) : inside.ends_with(part.text());
  };
  const Sequence* several = p.at(0).sequence();
  if (several == nullptr || several->kind != Sequence::Kind::kTuple) return matches(p.at(0));
  return std::ranges::any_of(several->items, matches);
}

/// Whether the text has characters, and `test` is true of all.
template <class Test>
bool all(View text, const Test& test) {
  bool result = !text.empty();
  for_each_character(text, [&](char32_t c, View) { result = result && test(c); });
  return result;
}
/// str.isupper() and islower(): no cased character of another case, and at least one of this.
template <class Test>
bool all_cased(View text, const Test& test) {
  bool any = false, other = false;
  for_each_character(text, [&](char32_t c, View) {
    any = any || test(c);
    other = other || (is_cased(c) && !test(c));
  });
  return any && !other;
}

inline std::string titled(View text) {
  std::string result;
  bool inside = false;  // of a word
  for_each_character(text, [&](char32_t c, View) {
    append_in_case(result, c, inside ? Case::kLower : Case::kTitle);
    inside = is_cased(c);
  });
  return result;
}

/// `text` with `fill` at its `where` ends, to `width` characters.
inline std::string padded(Run& run, View text, std::int64_t width, View fill, Ends where) {
  if (count_characters(fill) != 1) throw run.error("a fill of other than one character", "one character");
  const auto size = static_cast<std::int64_t>(count_characters(text));
  if (width <= size) return std::string(text);
  run.make_text(static_cast<std::uint64_t>(width) * fill.size());
  const std::int64_t missing = width - size;
  const std::int64_t left = where == Ends::kLeft ? missing : where == Ends::kRight ? 0 : missing / 2 + (missing & width & 1);
  std::string result;
  for (std::int64_t i = 0; i < left; ++i) result += fill;
  result += text;
  for (std::int64_t i = left; i < missing; ++i) result += fill;
  return result;
}

inline std::string stripped(Run& run, View text, const Parameters& p, Ends ends) {
  run.step(text.size() / 64);
  return std::string(p.given(0) ? strip(text, ends, p.text(0)) : strip(text, ends));
}

inline Value partition(Run& run, View text, View separator, Ends from) {
  if (separator.empty()) throw run.error("an empty separator", "one that is not");
  const std::size_t at = from == Ends::kLeft ? text.find(separator) : text.rfind(separator);
  std::vector<Value> parts;
  const auto add = [&](View part) { parts.push_back(make_text(run, part)); };
  if (at == kNowhere) {
    add(from == Ends::kLeft ? text : View());
    add("");
    add(from == Ends::kLeft ? View() : text);
  } else {
    add(text.substr(0, at));
    add(separator);
    add(text.substr(at + separator.size()));
  }
  return make_tuple(run, std::move(parts));
}

/// separator.join(items).
inline Value joined(Run& run, View separator, const std::vector<Value>& items) {
  std::string result;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_text()) throw run.error(concat("a ", items[i].type_name(), " to join"), "strings");
    run.grow_text(result.size(), separator.size() + items[i].text().size());
    if (i > 0) result += separator;
    result += items[i].text();
  }
  return make_text(run, std::move(result));
}

inline std::int64_t count(Run& run, View text, const Parameters& p) {
  run.step(text.size() / 16);
  const Window w = window(text, p, 1);
  if (w.begin == kNowhere) return 0;
  const View inside = text.substr(w.begin, w.end - w.begin), part = p.text(0);
  if (part.empty()) return static_cast<std::int64_t>(count_characters(inside)) + 1;
  std::int64_t result = 0;
  for (std::size_t at = inside.find(part); at != kNowhere; at = inside.find(part, at + part.size())) ++result;
  return result;
}

}  // namespace duet::jinja::strings
