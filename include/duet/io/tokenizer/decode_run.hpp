#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "duet/io/tokenizer/byte_alphabet.hpp"
#include "duet/io/tokenizer/decoder.hpp"
#include "duet/io/utf8.hpp"

namespace duet::tokenization {

/// Turns tokens into text as they come. Text leaves as soon as no later token can change it, in whole characters; what
/// has left and what finish() adds is the text of all tokens, however they came.
///
/// Every step is a small machine that hears three things from the step before it: a fragment of a string (whole
/// characters), the end of that string, and the end of all.
///
/// Requires  `steps` outlives it
class DecodeRun {
 public:
  explicit DecodeRun(std::span<const DecodeStep> steps) : steps_(steps), states_(steps.size()) {}

  void push(std::string_view token) {
    feed(0, token);
    end(0);
  }
  void finish() { finish(0); }
  /// The text that has become certain since the last call.
  [[nodiscard]] std::string take() { return std::exchange(text_, {}); }

 private:
  struct State {
    std::string held;            ///< of the current string (EndOfWord: the one before)
    std::string bytes;           ///< a row of byte tokens
    std::size_t checked = 0;     ///< bytes of `bytes` that are whole characters
    bool row_is_bad = false;     ///< `bytes` can be no UTF-8 any more, and its U+FFFD have left
    bool passing = false;        ///< the rest of the current string goes through
    bool any_before = false;     ///< a string has ended before this one
    bool begun = false;          ///< the current string has had a fragment
    std::uint64_t taken = 0;     ///< characters stripped from the front of the current string
    std::uint64_t trailing = 0;  ///< `content` characters held back at its end
    Utf8Assembler assembler;
  };

  void feed(std::size_t at, std::string_view fragment) {
    if (at == steps_.size()) {
      text_ += fragment;
    } else if (!fragment.empty()) {
      std::visit([&](const auto& step) { on_feed(step, states_[at], at + 1, fragment); }, steps_[at]);
    }
  }
  void end(std::size_t at) {
    if (at == steps_.size()) return;
    std::visit([&](const auto& step) { on_end(step, states_[at], at + 1); }, steps_[at]);
  }
  void finish(std::size_t at) {
    if (at == steps_.size()) return;
    std::visit([&](const auto& step) { on_finish(step, states_[at], at + 1); }, steps_[at]);
    finish(at + 1);
  }
  void whole(std::size_t at, std::string_view text) {
    feed(at, text);
    end(at);
  }

  template <class Step>
  void on_finish(const Step&, State&, std::size_t) {}

  // ByteLevel: one string comes out.
  void on_feed(const decode_step::ByteLevel&, State& state, std::size_t, std::string_view fragment) { state.held += fragment; }
  void on_end(const decode_step::ByteLevel&, State& state, std::size_t next) {
    const std::string token = std::exchange(state.held, {});
    std::string text;
    state.assembler.push(characters_as_bytes(token).value_or(token), text);
    feed(next, text);
  }
  void on_finish(const decode_step::ByteLevel&, State& state, std::size_t next) {
    std::string text;
    state.assembler.flush(text);
    whole(next, text);
  }

  // Replace: a literal waits only while a match may have begun; a regular expression sees whole strings.
  void on_feed(const decode_step::Replace& step, State& state, std::size_t next, std::string_view fragment) {
    state.held += fragment;
    const std::optional<std::string_view> literal = step.pattern.literal();
    if (!literal) return;
    std::string out;
    std::size_t done = 0;
    for (std::size_t found = state.held.find(*literal); found != std::string::npos; found = state.held.find(*literal, done)) {
      out.append(state.held, done, found - done).append(step.content);
      done = found + literal->size();
    }
    std::size_t keep = std::min(literal->size() - 1, state.held.size() - done);
    while (keep > 0 && !literal->starts_with(std::string_view(state.held).substr(state.held.size() - keep))) --keep;
    out.append(state.held, done, state.held.size() - keep - done);
    state.held.erase(0, state.held.size() - keep);
    feed(next, out);
  }
  void on_end(const decode_step::Replace& step, State& state, std::size_t next) {
    const std::string rest = std::exchange(state.held, {});
    whole(next, step.pattern.literal() ? rest : step.pattern.replace_all(rest, step.content));
  }

  // ByteFallback
  void on_feed(const decode_step::ByteFallback&, State& state, std::size_t next, std::string_view fragment) {
    constexpr std::size_t kByteToken = 6;  // <0x41>
    if (!state.passing) {
      state.held += fragment;
      if (state.held.size() <= kByteToken) return;
      end_row(state, next);
      state.passing = true;
      fragment = state.held;
    }
    const std::string out(fragment);
    state.held.clear();
    feed(next, out);
  }
  void on_end(const decode_step::ByteFallback&, State& state, std::size_t next) {
    const std::string token = std::exchange(state.held, {});
    const std::optional<char> byte = std::exchange(state.passing, false) ? std::nullopt : byte_of(token);
    if (!byte) {
      end_row(state, next);
      whole(next, token);
    } else if (state.row_is_bad) {
      whole(next, kReplacementCharacter);
    } else {
      state.bytes += *byte;
      while (state.checked < state.bytes.size()) {
        const Utf8Step c = decode_utf8(state.bytes, state.checked);
        if (c.status == Utf8Step::Status::kTruncated) return;
        if (c.status == Utf8Step::Status::kInvalid) {
          give_up_row(state, next);
          state.row_is_bad = true;
          return;
        }
        state.checked += c.length;
      }
    }
  }
  void on_finish(const decode_step::ByteFallback&, State& state, std::size_t next) { end_row(state, next); }
  void end_row(State& state, std::size_t next) {
    state.row_is_bad = false;
    if (state.bytes.empty()) return;
    if (state.checked < state.bytes.size()) return give_up_row(state, next);
    state.checked = 0;
    whole(next, std::exchange(state.bytes, {}));
  }
  void give_up_row(State& state, std::size_t next) {
    const std::size_t count = std::exchange(state.bytes, {}).size();
    state.checked = 0;
    for (std::size_t i = 0; i < count; ++i) whole(next, kReplacementCharacter);
  }
  static std::optional<char> byte_of(std::string_view token) {
    const auto digit = [](char c) {
      return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    };
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>' || digit(token[3]) < 0 || digit(token[4]) < 0) return std::nullopt;
    return static_cast<char>(digit(token[3]) * 16 + digit(token[4]));
  }

  // Fuse
  void on_feed(const decode_step::Fuse&, State&, std::size_t next, std::string_view fragment) { feed(next, fragment); }
  void on_end(const decode_step::Fuse&, State&, std::size_t) {}
  void on_finish(const decode_step::Fuse&, State&, std::size_t next) { end(next); }

  // Strip
  void on_feed(const decode_step::Strip& step, State& state, std::size_t next, std::string_view fragment) {
    std::string out;
    for (std::size_t i = 0; i < fragment.size();) {
      const std::string_view c = fragment.substr(i, decode_utf8(fragment, i).length);
      i += c.size();
      const bool strippable = c == step.content;
      if (!state.begun && strippable && state.taken < step.start) {
        ++state.taken;
        continue;
      }
      state.begun = true;
      if (strippable && state.trailing < step.stop) {
        ++state.trailing;
      } else if (strippable) {
        out += c;  // one more at the end lets the first of them go
      } else {
        for (; state.trailing > 0; --state.trailing) out += step.content;
        out += c;
      }
    }
    feed(next, out);
  }
  void on_end(const decode_step::Strip&, State& state, std::size_t next) {
    state = State{};
    end(next);
  }

  // Metaspace
  void on_feed(const decode_step::Metaspace& step, State& state, std::size_t next, std::string_view fragment) {
    const bool drop = !state.any_before && step.metaspace.prepend != Metaspace::Prepend::kNever;
    feed(next, Pattern(step.metaspace.replacement).replace_all(fragment, drop ? "" : " "));
  }
  void on_end(const decode_step::Metaspace&, State& state, std::size_t next) {
    state.any_before = true;
    end(next);
  }

  // EndOfWord: a string waits for the one behind it.
  void on_feed(const decode_step::EndOfWord&, State& state, std::size_t, std::string_view fragment) { state.bytes += fragment; }
  void on_end(const decode_step::EndOfWord& step, State& state, std::size_t next) {
    if (state.any_before) whole(next, Pattern(step.suffix).replace_all(state.held, " "));
    state.held = std::exchange(state.bytes, {});
    state.any_before = true;
  }
  void on_finish(const decode_step::EndOfWord& step, State& state, std::size_t next) {
    if (state.any_before) whole(next, Pattern(step.suffix).replace_all(state.held, ""));
  }

  // WordPiece
  void on_feed(const decode_step::WordPiece&, State& state, std::size_t, std::string_view fragment) { state.held += fragment; }
  void on_end(const decode_step::WordPiece& step, State& state, std::size_t next) {
    std::string token = std::exchange(state.held, {});
    if (std::exchange(state.any_before, true)) {
      const bool goes_on = !step.prefix.empty() && token.starts_with(step.prefix);
      token = goes_on ? token.substr(step.prefix.size()) : concat(' ', token);
    }
    whole(next, step.cleanup ? cleaned(std::move(token)) : token);
  }
  static std::string cleaned(std::string token) {
    static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},           {" ,", ","},   {" ' ", "'"},  {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) token = Pattern(std::string(from)).replace_all(token, std::string(to));
    return token;
  }

  // JoinWithSpaces
  void on_feed(const decode_step::JoinWithSpaces&, State& state, std::size_t next, std::string_view fragment) {
    if (state.any_before && !state.begun) feed(next, " ");
    state.begun = true;
    feed(next, fragment);
  }
  void on_end(const decode_step::JoinWithSpaces&, State& state, std::size_t next) {
    if (state.any_before && !state.begun) feed(next, " ");
    state.begun = false;
    state.any_before = true;
    end(next);
  }

  std::span<const DecodeStep> steps_;
  std::vector<State> states_;
  std::string text_;
};

}  // namespace duet::tokenization
