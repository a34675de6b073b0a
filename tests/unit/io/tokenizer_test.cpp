#include "duet/io/tokenizer.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace duet {
namespace io_tokenizer {

using Ids = std::vector<TokenId>;
using Json = nlohmann::json;

/// A tokenizer file in the making: a BPE model of these tokens (ids in order) and merges.
Json bpe_file(const std::vector<std::string>& tokens, const std::vector<std::string>& merges = {}) {
  Json vocab = Json::object();
  for (std::size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  return {{"version", "1.0"},      {"added_tokens", Json::array()}, {"normalizer", nullptr}, {"pre_tokenizer", nullptr}, {"post_processor", nullptr},
          {"decoder", nullptr},    {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}
std::vector<std::string> letters(std::string_view text) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = decode_utf8(text, i).length;
    result.emplace_back(text.substr(i, length));
    i += length;
  }
  return result;
}
Json added(TokenId id, std::string content, std::initializer_list<std::string> flags = {}) {
  Json token = {{"id", id}, {"content", std::move(content)}, {"normalized", false}};
  for (const std::string& flag : flags) token[flag] = true;
  return token;
}
Tokenizer parse(const Json& file) { return Tokenizer::parse(file.dump()); }
Ids encode(const Json& file, std::string_view text) { return parse(file).encode(text); }

/// The pieces that steps cut a text into, seen through a model that has a token for each.
std::vector<std::string> pieces(const Json& pre_tokenizer, const std::string& text) {
  const auto steps = tokenization::PreTokenizer::read(JsonView(pre_tokenizer, "pre_tokenizer"));
  const auto result = steps.apply(text, tokenization::Pieces::Piece::Place::kBeginsText);
  std::vector<std::string> views;
  for (const auto& piece : result.pieces) views.emplace_back(result.view(piece));
  return views;
}
std::string normalize(const Json& normalizer, const std::string& text) {
  return tokenization::Normalizer::read(JsonView(normalizer, "normalizer")).apply(text);
}
std::string decode(const Json& decoder, const std::vector<std::string>& tokens) {
  const auto steps = tokenization::DecoderReader::read(JsonView(decoder, "decoder"));
  tokenization::DecodeRun run(steps);
  std::string text;
  for (const std::string& token : tokens) {
    run.push(token);
    const std::string piece = run.take();
    EXPECT_TRUE(is_valid_utf8(piece));
    text += piece;
  }
  run.finish();
  return text + run.take();
}
using Strings = std::vector<std::string>;

TEST(Bpe, MergesByRankThenFromTheLeft) {
  const Json file = bpe_file({"a", "b", "c", "ab", "bc", "abc", "aa"}, {"b c", "a b", "a bc", "a a"});
  EXPECT_EQ(encode(file, "abc"), (Ids{5}));    // bc first, then a bc
  EXPECT_EQ(encode(file, "aab"), (Ids{0, 3}));  // a b before a a
  EXPECT_EQ(encode(file, "aaa"), (Ids{6, 0}));  // leftmost
  EXPECT_EQ(encode(file, ""), Ids{});
}

TEST(Bpe, MergesComeAsStringsOrPairs) {
  Json file = bpe_file({"a", "b", "ab"});
  file["model"]["merges"] = Json::array({Json::array({"a", "b"})});
  EXPECT_EQ(encode(file, "abab"), (Ids{2, 2}));
  file["model"]["merges"] = {"#version: 0.2", "a b"};
  EXPECT_EQ(encode(file, "abab"), (Ids{2, 2}));
}

TEST(Bpe, LongPiecesMergeAsShortOnes) {
  // The two algorithms against each other, on words around and beyond the length where one takes over.
  std::mt19937 random(7);
  std::vector<tokenization::MergeTable::Merge> merges;
  for (TokenId made = 4; made < 204; ++made) {
    const auto any = [&] { return static_cast<TokenId>(random() % static_cast<unsigned>(made)); };
    const TokenId left = any();
    merges.push_back({left, any(), made});
  }
  const tokenization::MergeTable table(merges);
  for (int round = 0; round < 300; ++round) {
    Ids word(1 + random() % 100);
    for (TokenId& id : word) id = static_cast<TokenId>(random() % 4);
    Ids naive = word;
    for (;;) {  // by definition
      std::size_t best = naive.size();
      for (std::size_t i = 0; i + 1 < naive.size(); ++i) {
        const auto rank = table.rank(naive[i], naive[i + 1]);
        if (rank != tokenization::MergeTable::kNoMerge && (best == naive.size() || rank < table.rank(naive[best], naive[best + 1]))) best = i;
      }
      if (best == naive.size()) break;
      naive[best] = table.result(table.rank(naive[best], naive[best + 1]));
      naive.erase(naive.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    tokenization::BpeMerger().merge(word, table);
    ASSERT_EQ(word, naive);
  }
}

TEST(Bpe, WordsOfOneTextDoNotMixUp) {
  Json file = bpe_file(letters("abcdefghijklmnopqrstuvwxyz"));
  file["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  std::string text;  // more words than are remembered, each twice, all of one length
  Ids expected;
  for (TokenId word = 0; word < 2 * 26 * 26 * 26; ++word) {
    for (const TokenId letter : {word / 2 / 676 % 26, word / 2 / 26 % 26, word / 2 % 26}) {
      text += static_cast<char>('a' + letter);
      expected.push_back(letter);
    }
    text += ' ';
  }
  EXPECT_EQ(encode(file, text), expected);
}

TEST(Bpe, ByteFallbackUnknownsAndFusing) {
  Json file = bpe_file({"<unk>", "a"});
  EXPECT_EQ(encode(file, "aéa"), (Ids{1, 1}));  // without unk_token they vanish, as in the reference
  file["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(encode(file, "aéüa"), (Ids{1, 0, 0, 1}));
  file["model"]["fuse_unk"] = true;
  EXPECT_EQ(encode(file, "aéüaé"), (Ids{1, 0, 1, 0}));
  file["model"]["byte_fallback"] = true;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    file["model"]["vocab"][name] = 2 + byte;
  }
  EXPECT_EQ(encode(file, "aé"), (Ids{1, 2 + 0xC3, 2 + 0xA9}));
  file["model"]["vocab"].erase("<0xA9>");
  EXPECT_EQ(encode(file, "aé"), (Ids{1, 0}));  // all bytes or none
}

TEST(Bpe, AnUnknownUnkTokenIsAnErrorOnlyWhenNeeded) {
  Json file = bpe_file({"a"});
  file["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(encode(file, "aa"), (Ids{0, 0}));
  EXPECT_THROW((void)encode(file, "b"), Error);
}

TEST(Bpe, IgnoreMergesTakesWholePieces) {
  Json file = bpe_file({"a", "b", "c", "bc", "abc"}, {"b c"});
  EXPECT_EQ(encode(file, "abc"), (Ids{0, 3}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(encode(file, "abc"), (Ids{4}));
}

TEST(Bpe, PrefixesAndSuffixes) {
  Json file = bpe_file({"a", "##b", "##b</w>", "ab</w>", "a</w>"}, {"a ##b</w>"});
  file["model"]["continuing_subword_prefix"] = "##";
  file["model"]["end_of_word_suffix"] = "</w>";
  EXPECT_EQ(encode(file, "ab"), (Ids{3}));
  EXPECT_EQ(encode(file, "abb"), (Ids{0, 1, 2}));
  EXPECT_EQ(encode(file, "a"), (Ids{4}));
}

TEST(Normalizer, Kinds) {
  EXPECT_EQ(normalize({{"type", "NFC"}}, "e\u0301 a\u0307\u0323 \u212b x"), "é ạ̇ Å x");
  EXPECT_EQ(normalize({{"type", "NFD"}}, "é"), "e\u0301");
  EXPECT_EQ(normalize({{"type", "NFKC"}}, "ﬁ²"), "fi2");
  EXPECT_EQ(normalize({{"type", "NFKD"}}, "ﬁé"), "fie\u0301");
  EXPECT_EQ(normalize({{"type", "Prepend"}, {"prepend", "▁"}}, "a"), "▁a");
  EXPECT_EQ(normalize({{"type", "Prepend"}, {"prepend", "▁"}}, ""), "");
  EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}, "a b  "), "a▁b▁▁");
  EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", "$1"}}, "a \n b"), "a$1b");
  EXPECT_EQ(normalize({{"type", "Replace"}, {"pattern", {{"Regex", "x*"}}}, {"content", "-"}}, "axb"), "-a-b-");
  EXPECT_EQ(normalize({{"type", "Lowercase"}}, "ÀİΣς"), "ài\u0307σς");
  EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, "\u3000 a b\n"), "a b");
  EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}, " a "), " a");
  EXPECT_EQ(normalize({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}}, " \t"), "");
  EXPECT_EQ(normalize({{"type", "StripAccents"}}, "e\u0301\u0903"), "e");
  EXPECT_EQ(normalize({{"type", "Nmt"}}, "a\tb\x01\u200b"), "a b ");
  EXPECT_EQ(normalize({{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}, {{"type", "Prepend"}, {"prepend", "X"}}}}}, "A"), "Xa");
}

TEST(Normalizer, ManyMarksAreLinear) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";  // each has to move
  const auto begin = std::chrono::steady_clock::now();
  const std::string result = normalize({{"type", "NFD"}}, text);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(result.substr(0, 5), "a\u0323\u0323");
  EXPECT_EQ(result.size(), text.size());
}

TEST(PreTokenizer, SplitBehaviors) {
  const auto split = [](const std::string& behavior, bool invert = false) {
    return pieces({{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}}, "the-final--countdown");
  };
  EXPECT_EQ(split("Removed"), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(split("Isolated"), (Strings{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split("MergedWithPrevious"), (Strings{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split("MergedWithNext"), (Strings{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split("Contiguous"), (Strings{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(split("Removed", true), (Strings{"-", "-", "-"}));
}

TEST(PreTokenizer, Kinds) {
  EXPECT_EQ(pieces({{"type", "ByteLevel"}, {"add_prefix_space", true}}, "Hi you're é"), (Strings{"ĠHi", "Ġyou", "'re", "ĠÃ©"}));
  EXPECT_EQ(pieces({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}, "a b\n"), (Strings{"aĠbĊ"}));
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", true}}, "a12½"), (Strings{"a", "1", "2", "½"}));
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", false}}, "a12b"), (Strings{"a", "12", "b"}));
  EXPECT_EQ(pieces({{"type", "Punctuation"}}, "a,b…c€"), (Strings{"a", ",", "b", "…", "c€"}));
  EXPECT_EQ(pieces({{"type", "Whitespace"}}, "it's  so_so!?"), (Strings{"it", "'", "s", "so_so", "!?"}));
  EXPECT_EQ(pieces({{"type", "WhitespaceSplit"}}, " a!\u3000b "), (Strings{"a!", "b"}));
  EXPECT_EQ(pieces({{"type", "BertPreTokenizer"}}, "a! b"), (Strings{"a", "!", "b"}));
  EXPECT_EQ(pieces({{"type", "CharDelimiterSplit"}, {"delimiter", "x"}}, "axbx"), (Strings{"a", "b"}));
  EXPECT_EQ(pieces({{"type", "Metaspace"}, {"prepend_scheme", "always"}}, "a b"), (Strings{"▁a", "▁b"}));
  EXPECT_EQ(pieces({{"type", "Metaspace"}, {"prepend_scheme", "never"}, {"split", false}}, "a b"), (Strings{"a▁b"}));
  EXPECT_EQ(pieces({{"type", "Metaspace"}, {"add_prefix_space", false}}, " a"), (Strings{"▁a"}));
  const Json sequence = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "WhitespaceSplit"}}, {{"type", "Digits"}, {"individual_digits", true}}}}};
  EXPECT_EQ(pieces(sequence, "a1 2"), (Strings{"a", "1", "2"}));
}

TEST(PreTokenizer, MetaspaceFirstMarksOnlyTheStartOfTheText) {
  Json file = bpe_file({"▁", "a", "<s>"});
  file["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}};
  file["added_tokens"] = Json::array({added(2, "<s>", {"special"})});
  EXPECT_EQ(encode(file, "a<s>a"), (Ids{0, 1, 2, 1}));
  EXPECT_EQ(encode(file, "<s>a"), (Ids{2, 1}));
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Isolated"}}, file["pre_tokenizer"]}}};
  EXPECT_EQ(encode(file, "aa"), (Ids{0, 1, 1}));
}

TEST(AddedTokens, LeftmostThenLongest) {
  Json file = bpe_file(letters("<a>b"));
  file["added_tokens"] = Json::array({added(4, "<a"), added(5, "<a>"), added(6, "a>b")});
  EXPECT_EQ(encode(file, "<a>b<a<"), (Ids{5, 3, 4, 0}));
  EXPECT_EQ(encode(file, "a>b"), (Ids{6}));
}

TEST(AddedTokens, StripAndSingleWord) {
  Json file = bpe_file(letters("ab _"));
  file["added_tokens"] = Json::array({added(4, "<l>", {"lstrip"}), added(5, "<r>", {"rstrip"}), added(6, "<w>", {"single_word"})});
  EXPECT_EQ(encode(file, "a  <l> b"), (Ids{0, 4, 2, 1}));
  EXPECT_EQ(encode(file, "a <r> \u3000b"), (Ids{0, 2, 5, 1}));
  EXPECT_EQ(encode(file, "<r>  <l>"), (Ids{5, 4}));
  EXPECT_EQ(encode(file, "a<w> <w>b <w>"), (Ids{0, 2, 1, 2, 6}));
  EXPECT_EQ(encode(file, "_<w>"), (Ids{3}));
}

TEST(AddedTokens, NormalizedOnesAreFoundInNormalizedText) {
  Json file = bpe_file(letters("ab"));
  file["normalizer"] = {{"type", "Lowercase"}};
  file["added_tokens"] = Json::array({added(2, "AB", {"normalized"}), added(3, "BA")});
  EXPECT_EQ(encode(file, "ABab"), (Ids{2, 2}));
  EXPECT_EQ(encode(file, "BAba"), (Ids{3, 1, 0}));
}

TEST(AddedTokens, ThoseOfTheConfigAreAddedToo) {
  const Json file = bpe_file(letters("ab"));
  const Json config = {{"added_tokens_decoder", {{"2", {{"content", "<x>"}, {"special", true}, {"normalized", false}}}}}, {"eos_token", {{"content", "<x>"}}}, {"bos_token", "a"}};
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), config, {{"bos_token", "b"}, {"pad_token", "b"}});
  EXPECT_EQ(tokenizer.encode("a<x>"), (Ids{0, 2}));
  EXPECT_EQ(tokenizer.eos_token_id(), 2);
  EXPECT_EQ(tokenizer.bos_token_id(), 0);
  EXPECT_EQ(tokenizer.pad_token_id(), 1);
  EXPECT_EQ(tokenizer.unk_token_id(), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 3U);
  EXPECT_EQ(tokenizer.id_to_token(2), "<x>");
  EXPECT_EQ(tokenizer.id_to_token(-1), "");
  EXPECT_EQ(tokenizer.id_to_token(3), "");
  EXPECT_EQ(tokenizer.token_to_id("<x>"), 2);
  EXPECT_EQ(tokenizer.token_to_id("<y>"), std::nullopt);
}

TEST(PostProcessor, Kinds) {
  const auto with = [](Json processor) {
    Json file = bpe_file({"a", "<s>", "</s>"});
    file["post_processor"] = std::move(processor);
    return parse(file);
  };
  const Json single = {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}, {{"SpecialToken", {{"id", "end"}}}}};
  const Json special = {{"<s>", {{"ids", {1}}}}, {"end", {{"ids", {2, 2}}}}};
  const Json template_processing = {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", special}};
  EXPECT_EQ(with(template_processing).encode("aa"), (Ids{1, 0, 0, 2, 2}));
  EXPECT_EQ(with(template_processing).encode("aa", SpecialTokens::kNone), (Ids{0, 0}));
  EXPECT_EQ(with({{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, template_processing}}}).encode(""), (Ids{1, 2, 2}));
  for (const char* type : {"BertProcessing", "RobertaProcessing"}) {
    EXPECT_EQ(with({{"type", type}, {"cls", {"<s>", 1}}, {"sep", {"</s>", 2}}}).encode("a"), (Ids{1, 0, 2}));
  }
}

TEST(Decoder, Kinds) {
  EXPECT_EQ(decode(nullptr, {"a", "", "b"}), "a  b");
  EXPECT_EQ(decode({{"type", "ByteLevel"}}, {"ĠÃ", "©", "€"}), " é€");  // a token outside the alphabet stands for itself
  EXPECT_EQ(decode({{"type", "ByteLevel"}}, {"Ã", "a", "âĤ"}), "\uFFFDa\uFFFD");
  EXPECT_EQ(decode({{"type", "ByteFallback"}}, {"<0xE5>", "<0x8f>", "<0xAB>", "a"}), "叫a");
  EXPECT_EQ(decode({{"type", "ByteFallback"}}, {"<0x61>", "<0xE5>", "<0x8F>", "a"}), "\uFFFD\uFFFD\uFFFDa");
  EXPECT_EQ(decode({{"type", "ByteFallback"}}, {"<0x61>", "<0xFF>", "<0x62>", "<0x6>", "<0x63>"}), "\uFFFD\uFFFD\uFFFD<0x6>c");
  EXPECT_EQ(decode({{"type", "Strip"}, {"content", "é"}, {"start", 1}, {"stop", 2}}, {"ééxééé", "é", "y"}), "éxéy");
  EXPECT_EQ(decode({{"type", "Metaspace"}, {"prepend_scheme", "always"}}, {"▁a▁", "▁b"}), "a b");
  EXPECT_EQ(decode({{"type", "Metaspace"}, {"prepend_scheme", "never"}}, {"▁a", "▁b"}), " a b");
  EXPECT_EQ(decode({{"type", "BPEDecoder"}, {"suffix", "</w>"}}, {"a", "b</w>", "c</w>"}), "ab c");
  EXPECT_EQ(decode({{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", "-"}}, {"aa", "ab"}), "--b");
  const auto sequence = [](const Json& steps) { return Json{{"type", "Sequence"}, {"decoders", steps}}; };
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", "ab"}}}, {"content", "X"}};
  EXPECT_EQ(decode(sequence({{{"type", "Fuse"}}, replace}), {"a", "b", "aa", "b", "a"}), "XaXa");
  EXPECT_EQ(decode(sequence({replace, {{"type", "Fuse"}}}), {"a", "b", "ab"}), "abX");
  const Json llama = sequence({{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}}, {{"type", "ByteFallback"}}, {{"type", "Fuse"}},
                               {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}});
  EXPECT_EQ(decode(llama, {"▁", "▁a", "<0x0A>", "▁b"}), " a\n b");
  EXPECT_EQ(decode(llama, {}), "");
}

TEST(StreamDecoder, GivesWholeCharactersAsSoonAsTheyAreCertain) {
  Json file = bpe_file({"<0xE2>", "<0x82>", "<0xAC>", "a", "</s>"});
  file["decoder"] = {{"type", "ByteFallback"}};
  file["added_tokens"] = Json::array({added(4, "</s>", {"special"})});
  const Tokenizer tokenizer = parse(file);
  StreamDecoder stream(tokenizer);
  for (const TokenId id : {0, 1, 2}) EXPECT_EQ(stream.push(id), "");  // a later byte may still spoil the row
  EXPECT_EQ(stream.push(3), "€a");
  EXPECT_EQ(stream.push(4), "");  // special
  EXPECT_EQ(stream.push(99), "");  // no token
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(0), "\uFFFD\uFFFD");  // spoilt
  EXPECT_EQ(stream.push(1), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  StreamDecoder all(tokenizer, {.skip_special_tokens = false});
  EXPECT_EQ(all.push(4), "</s>");
}

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  const Json file = bpe_file({"a", "\uFFFD"});
  EXPECT_EQ(encode(file, "a\xFF\xE2\x82" "a"), (Ids{0, 1, 1, 0}));
  EXPECT_EQ(encode(file, std::string_view("a\0a", 3)), (Ids{0, 0}));
}

TEST(Tokenizer, MegabytesAreFine) {
  Json file = bpe_file(letters("ab ▁"), {"a a", "aa b"});
  file["model"]["vocab"]["aa"] = 4;
  file["model"]["vocab"]["aab"] = 5;
  std::string text;
  while (text.size() < 3'000'000) text += "aab ab ";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_GT(encode(file, text).size(), 1'000'000U);  // one piece
  file["pre_tokenizer"] = {{"type", "ByteLevel"}};
  EXPECT_GT(encode(file, text).size(), 500'000U);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));  // quadratic would be hours
}

/// A broken file is one Error of this kind, whose message names what it should.
void expect_error(const Json& file, ErrorKind kind, std::string_view says, const Json& config = Json::object()) {
  try {
    (void)Tokenizer::parse(file.dump(), config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    return;
  }
  ADD_FAILURE() << "loaded, instead of: " << says;
}

TEST(BrokenFiles, AreOneClearError) {
  const auto broken = [](const std::function<void(Json&)>& change) {
    Json file = bpe_file({"a", "b", "ab"}, {"a b"});
    change(file);
    return file;
  };
  using enum ErrorKind;
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = -1; }), kMalformedFile, "id -1");
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = 4'000'000'000; }), kMalformedFile, "id 4000000000");
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = 18446744073709551615U; }), kMalformedFile, "an id between");
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = 1; }), kMalformedFile, "\"x\": got id 1, which \"b\" has");
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = "1"; }), kMalformedFile, "model.vocab.x: got string");
  expect_error(broken([](Json& f) { f["model"]["vocab"]["x"] = Json::object(); }), kMalformedFile, "model.vocab.x: got object");
  expect_error(broken([](Json& f) { f["model"]["vocab"] = 3; }), kMalformedFile, "model.vocab");
  expect_error(broken([](Json& f) { f["model"]["merges"] = 3; }), kMalformedFile, "model.merges");
  expect_error(broken([](Json& f) { f["model"]["merges"] = {"a b", "a c"}; }), kMalformedFile, "model.merges[1]: got \"c\"");
  expect_error(broken([](Json& f) { f["model"]["merges"] = Json::array({"b a"}); }), kMalformedFile, "\"ba\"");
  expect_error(broken([](Json& f) { f["model"]["merges"] = Json::array({"ab"}); }), kMalformedFile, "model.merges[0]");
  expect_error(broken([](Json& f) { f["model"]["merges"] = Json::array({"a b c"}); }), kMalformedFile, "two tokens");
  expect_error(broken([](Json& f) { f["model"]["merges"] = Json::array({Json::array({"a"})}); }), kMalformedFile, "two tokens");
  expect_error(broken([](Json& f) { f["model"]["merges"] = Json::array({Json::array({"a", 1})}); }), kMalformedFile, "model.merges[0]");
  expect_error(broken([](Json& f) { f["model"]["type"] = "WordLevel"; }), kUnsupportedModel, "model.type: got WordLevel, expected BPE, WordPiece or Unigram");
  expect_error(broken([](Json& f) { f["model"]["dropout"] = 0.1; }), kUnsupportedModel, "model.dropout");
  expect_error(broken([](Json& f) { f["model"]["byte_fallback"] = 1; }), kInvalidArgument, "model.byte_fallback");
  expect_error(broken([](Json& f) { f.erase("model"); }), kInvalidArgument, "model");
  expect_error(broken([](Json& f) { f["normalizer"] = {{"type", "Mystery"}}; }), kUnsupportedModel, "normalizer: got \"Mystery\"");
  expect_error(broken([](Json& f) { f["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({3})}}; }), kInvalidArgument, "normalizer.normalizers[0]");
  expect_error(broken([](Json& f) { f["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "a(b"}}}, {"behavior", "Removed"}}; }), kMalformedFile,
               "pre_tokenizer.pattern.Regex: got an error at offset 3");
  expect_error(broken([](Json& f) { f["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", "Removed"}}; }), kMalformedFile, "empty pattern");
  expect_error(broken([](Json& f) { f["pre_tokenizer"] = {{"type", "Punctuation"}, {"behavior", "Burned"}}; }), kMalformedFile, "Burned");
  expect_error(broken([](Json& f) { f["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}}; }), kMalformedFile, "add_prefix_space");
  expect_error(broken([](Json& f) { f["post_processor"] = {{"type", "BertProcessing"}, {"cls", {"x", 77}}, {"sep", {"x", 1}}}; }), kMalformedFile, "id 77");
  expect_error(broken([](Json& f) { f["decoder"] = {{"type", "CTC"}}; }), kUnsupportedModel, "CTC");
  expect_error(broken([](Json& f) { f["decoder"] = {{"type", "Strip"}, {"content", "xy"}, {"start", 0}, {"stop", 0}}; }), kMalformedFile, "one character");
  expect_error(broken([](Json& f) {
    f["decoder"] = {{"type", "Sequence"}, {"decoders", Json::array()}};
    for (int i = 0; i < 65; ++i) f["decoder"]["decoders"].push_back({{"type", "Fuse"}});
  }), kMalformedFile, "65 steps");
  expect_error(broken([](Json& f) { f["added_tokens"] = Json::array({added(9, "<x>")}); }), kMalformedFile, "id 9 for \"<x>\", expected 3, the next free id");
  expect_error(broken([](Json& f) { f["added_tokens"] = Json::array({added(3, "b")}); }), kMalformedFile, "expected 1, as in the model's vocabulary");
  expect_error(broken([](Json& f) { f["added_tokens"] = Json::array({added(3, "x"), added(4, "x")}); }), kMalformedFile, "added_tokens[1]: got \"x\" again");
  expect_error(broken([](Json& f) { f["added_tokens"] = Json::array({added(3, "")}); }), kMalformedFile, "0 bytes");
  expect_error(broken([](Json&) {}), kMalformedFile, "added_tokens_decoder.x", {{"added_tokens_decoder", {{"x", Json::object()}}}});
}

TEST(BrokenFiles, WhateverTheOrderOfTheirParts) {
  const auto message_of = [](const std::string& model) -> std::string {
    try {
      (void)Tokenizer::parse(R"({"model": )" + model + "}");
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  using ::testing::HasSubstr;
  EXPECT_EQ(message_of(R"({"vocab": {"a": 0, "\u0062": 1, "ab": 2}, "merges": [["a", "\u0062"]], "type": "BPE"})"), "nothing was thrown");
  EXPECT_EQ(message_of(R"({"merges": ["a b"], "vocab": {"a": 0, "b": 1, "ab": 2}})"), "nothing was thrown");
  EXPECT_THAT(message_of(R"({"merges": ["a b", "b b"], "vocab": {"a": 0, "b": 1, "ab": 2}})"), HasSubstr("model.merges[1]: got \"bb\""));
  EXPECT_THAT(message_of(R"({"merges": [["a", "b", "c"]]})"), HasSubstr("model.merges[0]: got a list of 3, expected two tokens"));
  EXPECT_THAT(message_of(R"({"merges": [["a", ["b"]]]})"), HasSubstr("model.merges[0]: got array"));
  EXPECT_THAT(message_of(R"({"merges": [null]})"), HasSubstr("model.merges[0]: got null"));
  EXPECT_THAT(message_of(R"({"vocab": {"a": 1e3}})"), HasSubstr("model.vocab.a: got number, expected an id"));
  EXPECT_THAT(message_of(R"({"vocab": {"a": 0, "a": 1}})"), HasSubstr("the token twice"));
  EXPECT_THAT(message_of(R"({"vocab": {"a": 0}, "vocab": {"a": 0}})"), HasSubstr("id 0, which \"a\" has"));
  EXPECT_THAT(message_of(R"({"vocab": {"a": -99999999999999999999}})"), HasSubstr("got number"));
  EXPECT_THAT(message_of(R"({"type": "BPE", "vocab": [["a", 0]]})"), HasSubstr("model.vocab: got array, expected an object"));
  EXPECT_THAT(message_of(R"({"type": "Unigram", "vocab": {"a": 0}})"), HasSubstr("model.vocab: got object, expected a list"));
  EXPECT_THAT(message_of(R"({"type": "Unigram", "vocab": 3})"), HasSubstr("model.vocab: got number, expected a list"));
  EXPECT_THAT(message_of(R"({"type": "Unigram"})"), HasSubstr("model.vocab: got nothing"));
  EXPECT_THAT(message_of(R"({"type": "Unigram", "vocab": [["a", 0]], "vocab": {"b": 1}})"), HasSubstr("model.vocab: got object"));
  EXPECT_THAT(message_of(R"({"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": 18446744073709551615, "content": "x"})" "]"),
              HasSubstr("added_tokens[0].id: got 18446744073709551615, expected an integer"));
  for (const char* entry : {"3", "[]", "[\"a\"]", "[3, \"a\"]", "[\"a\", \"b\"]", "[\"a\", 1, 2]", "[\"a\", null]", "{\"a\": 1}", "[[\"a\", 1]]"}) {
    const std::string list = R"({"type": "Unigram", "vocab": [["x", -1], )";
    EXPECT_THAT(message_of(list + entry + "]}"), HasSubstr("model.vocab[1]")) << entry;
  }
}

TEST(BrokenFiles, OutsideOfJson) {
  for (const std::string text : {"", "[", "[]", "3", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"a\": 1}}}", "{\"model\": [{\"vocab\": {}}]}",
                                 "version https://git-lfs.github.com/spec/v1"}) {
    EXPECT_THROW((void)Tokenizer::parse(text), Error) << text;
  }
  EXPECT_THROW((void)Tokenizer::parse(std::string(1'000'000, '[')), Error);
  EXPECT_THROW((void)Tokenizer::load("/no/such/folder"), Error);
  const std::filesystem::path older = std::filesystem::path(testing::TempDir()) / "duet_tokenizer_older";
  std::filesystem::create_directories(older);
  std::ofstream(older / "tokenizer.model") << 'x';
  try {
    (void)Tokenizer::load(older);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(error.hint().find("save_pretrained"), std::string::npos) << error.what();
  }
  std::filesystem::remove_all(older);
}

TEST(Tokenizer, IsSafeToShare) {
  Json file = bpe_file(letters("abcdefgh Ġ"), {});
  file["pre_tokenizer"] = {{"type", "ByteLevel"}};
  const Tokenizer tokenizer = parse(file);
  std::string text;
  for (int i = 0; i < 500; ++i) text += "abc def gh ";
  const Ids expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (std::size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) equal[t] += tokenizer.encode(text) == expected && tokenizer.decode(expected) == tokenizer.decode(tokenizer.encode(text));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 5));
}

std::filesystem::path shared_folder() {
  if (const char* folder = std::getenv("DUET_SHARED_DIR")) return folder;
#ifdef DUET_SHARED_DIR
  return DUET_SHARED_DIR;
#else
  return {};
#endif
}

/// Real tokenizers against what the reference made of 500 texts each (shared/tokenizers/NAME/expected.jsonl).
class RealTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(RealTokenizer, EqualsTheReference) {
  const std::filesystem::path folder = shared_folder() / "tokenizers" / GetParam();
  if (shared_folder().empty() || !std::filesystem::exists(folder)) GTEST_SKIP() << "no DUET_SHARED_DIR with tokenizers/" << GetParam();
  const Tokenizer tokenizer = Tokenizer::load(folder);
  std::ifstream lines(folder / "expected.jsonl");
  std::string line;
  int count = 0;
  for (; std::getline(lines, line); ++count) {
    const Json expected = Json::parse(line);
    const auto text = expected["text"].get<std::string>();
    const Ids ids = tokenizer.encode(text);
    ASSERT_EQ(ids, expected["ids"].get<Ids>()) << expected["text"];
    ASSERT_EQ(tokenizer.encode(text, SpecialTokens::kNone), expected["ids_without_special"].get<Ids>()) << expected["text"];
    for (const bool skip : {true, false}) {
      const auto decoded = expected[skip ? "decoded_skip_special" : "decoded"].get<std::string>();
      ASSERT_EQ(tokenizer.decode(ids, {.skip_special_tokens = skip}), decoded) << expected["text"];
      StreamDecoder stream(tokenizer, {.skip_special_tokens = skip});
      std::string streamed;
      for (const TokenId id : ids) {
        const std::string piece = stream.push(id);
        ASSERT_TRUE(is_valid_utf8(piece)) << expected["text"];
        streamed += piece;
      }
      streamed += stream.flush();
      ASSERT_EQ(streamed, decoded);
    }
  }
  EXPECT_EQ(count, 500);
}

INSTANTIATE_TEST_SUITE_P(Shared, RealTokenizer, testing::Values("gpt2", "llama3_2", "gemma", "qwen2_5", "smolvlm", "llava-1.5"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
                           return name;
                         });

TEST(RealFolders, StoriesTokenizersRoundTrip) {
  for (const char* name : {"stories260K", "stories15M"}) {
    const std::filesystem::path folder = shared_folder() / "weights" / name;
    if (shared_folder().empty() || !std::filesystem::exists(folder)) GTEST_SKIP() << "no DUET_SHARED_DIR with weights/" << name;
    const Tokenizer tokenizer = Tokenizer::load(folder);
    EXPECT_EQ(tokenizer.bos_token_id(), 1) << name;
    EXPECT_EQ(tokenizer.eos_token_id(), 2) << name;
    const std::string text = "Once upon a time, there was a 小 girl.\n \"Hi!\"";
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << name;
  }
}

}  // namespace io_tokenizer
}  // namespace duet
