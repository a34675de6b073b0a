// WordPiece, Unigram, and tokenizers in the files from before tokenizer.json.

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "duet/io/tokenizer.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace io_tokenizer_models {

using Json = nlohmann::json;
using Ids = std::vector<TokenId>;
using Strings = std::vector<std::string>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using test::TempFolder;

Json wordpiece(const Strings& tokens, Json model = Json::object()) {
  model["type"] = "WordPiece";
  for (std::size_t i = 0; i < tokens.size(); ++i) model["vocab"][tokens[i]] = i;
  return {{"model", model}, {"normalizer", {{"type", "BertNormalizer"}}}, {"pre_tokenizer", {{"type", "BertPreTokenizer"}}}};
}
Json unigram(const std::vector<std::pair<std::string, double>>& tokens, Json model = Json::object()) {
  model["type"] = "Unigram";
  for (const auto& [token, score] : tokens) model["vocab"].push_back({token, score});
  return {{"model", model}};
}
Tokenizer parse(const Json& file) { return Tokenizer::parse(file.dump()); }
Strings tokens(const Json& file, const std::string& text) {
  const Tokenizer tokenizer = parse(file);
  Strings result;
  for (const TokenId id : tokenizer.encode(text)) result.emplace_back(tokenizer.id_to_token(id));
  return result;
}
std::string normalize(const Json& normalizer, const std::string& text) {
  return tokenization::Normalizer::read(JsonView(normalizer, "normalizer")).apply(text);
}
std::string decode(const Json& decoder, const Strings& words) {
  const auto steps = tokenization::DecoderReader::read(JsonView(decoder, "decoder"));
  tokenization::DecodeRun run(steps);
  for (const std::string& word : words) run.push(word);
  run.finish();
  return run.take();
}
template <class Call>
std::string message_of(const Call& call) {
  try {
    static_cast<void>(call());
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(WordPiece, TakesTheLongestTokenEachTime) {  // the examples that came with BERT
  const Json file = wordpiece({"[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","});
  EXPECT_THAT(parse(file).encode("UNwant\u00E9d,running"), ElementsAre(7, 4, 5, 10, 8, 9));
  EXPECT_THAT(tokens(file, "unwantedX running"), ElementsAre("[UNK]", "runn", "##ing")) << "a word that cannot be covered is one token";
  EXPECT_TRUE(parse(file).encode("").empty());
}

TEST(WordPiece, LongWordsAreUnknown) {
  const Json file = wordpiece({"[UNK]", "a", "##a"}, {{"max_input_chars_per_word", 3}});
  EXPECT_THAT(tokens(file, "aaa aaaa"), ElementsAre("a", "##a", "##a", "[UNK]"));
  const Json bare = wordpiece({"a"}, {{"unk_token", "<unk>"}});
  EXPECT_THAT(message_of([&] { return parse(bare).encode("b"); }), HasSubstr("<unk>"));
  EXPECT_THAT(message_of([&] { return parse(wordpiece({"a"}, {{"max_input_chars_per_word", 1'000'000}})); }), HasSubstr("max_input_chars_per_word"));
}

TEST(WordPiece, DecodesWithSpacesBetweenWords) {
  const Json plain = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", false}}, clean = {{"type", "WordPiece"}};
  EXPECT_EQ(decode(plain, {"##uelo", "Ara", "##\u00faj", "##o", "No", "Guera"}), "##uelo Ara\u00fajo No Guera");
  EXPECT_EQ(decode(plain, {"hi", "!", "do", "n't"}), "hi ! do n't");
  EXPECT_EQ(decode(clean, {"hi", "!", "do", "n't", ".", "it", "'s"}), "hi! don't. it's");
}

TEST(BertNormalizer, DoesWhatItsFieldsSay) {
  const Json all = {{"type", "BertNormalizer"}};
  EXPECT_EQ(normalize(all, "H\u00E9llo\u200B \tA\uFFFD\x01z"), "hello  az");
  EXPECT_EQ(normalize(all, "ah\u535A\u63A8zz"), "ah \u535A  \u63A8 zz");
  EXPECT_EQ(normalize({{"type", "BertNormalizer"}, {"lowercase", false}}, "H\u00E9llo"), "H\u00E9llo") << "accents stay where capitals do";
  EXPECT_EQ(normalize({{"type", "BertNormalizer"}, {"lowercase", false}, {"strip_accents", true}}, "H\u00E9llo"), "Hello");
  EXPECT_EQ(normalize({{"type", "BertNormalizer"}, {"strip_accents", false}}, "H\u00E9llo"), "h\u00E9llo");
  EXPECT_EQ(normalize({{"type", "BertNormalizer"}, {"clean_text", false}, {"handle_chinese_chars", false}}, "\tA\u535A\x01"), "\ta\u535A\x01");
}

TEST(Unigram, FindsTheLikeliestCut) {  // the examples of the reference's own tests
  EXPECT_THAT(tokens(unigram({{"<unk>", 0.0}, {"a", 0.0}, {"b", 0.0}, {"c", 0.0}, {"d", 0.0}, {"cd", 1.0}, {"ab", 2.0}, {"abc", 5.0}, {"abcd", 10.0}}, {{"unk_id", 0}}), "abcd"),
              ElementsAre("abcd"));
  const Json file = unigram({{"<unk>", 0.0}, {"ab", 0.0}, {"cd", -0.1}, {"abc", -0.2}, {"a", -0.3}, {"b", -0.4}, {"c", -0.5}, {"ABC", -0.5},
                             {"abcdabcd", 20.0}, {"q", 20.5}, {"r", 20.5}, {"qr", -0.5}}, {{"unk_id", 0}});
  EXPECT_THAT(tokens(file, "abc"), ElementsAre("abc"));
  EXPECT_THAT(tokens(file, "AB"), ElementsAre("<unk>")) << "neighbours without tokens are one";
  EXPECT_THAT(tokens(file, "abcd"), ElementsAre("ab", "cd"));
  EXPECT_THAT(tokens(file, "abcc"), ElementsAre("abc", "c"));
  EXPECT_THAT(tokens(file, "xabcabaabcdd"), ElementsAre("<unk>", "abc", "ab", "a", "ab", "cd", "<unk>"));
  EXPECT_THAT(tokens(file, "xyz\u6771\u4EAC"), ElementsAre("<unk>"));
  EXPECT_THAT(tokens(file, "abABCcd"), ElementsAre("ab", "ABC", "cd"));
  EXPECT_THAT(tokens(file, "ababcdabcdcd"), ElementsAre("ab", "abcdabcd", "cd"));
  EXPECT_THAT(tokens(file, "abqrcd"), ElementsAre("ab", "q", "r", "cd"));
}

TEST(Unigram, FallsBackToBytes) {
  const Json file = unigram({{"<unk>", 0.0}, {"<0xC3>", -0.01}, {"<0xA9>", -0.03}}, {{"unk_id", 0}, {"byte_fallback", true}});
  EXPECT_THAT(parse(file).encode("\u00E9"), ElementsAre(1, 2));
  EXPECT_THAT(parse(file).encode("?\u00E9"), ElementsAre(0)) << "all bytes must be there";
}

TEST(Unigram, AgreesWithTryingAllCuts) {
  std::mt19937 random(5);
  const auto below = [&](unsigned n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, double> scores = {{"a", 0.0}, {"b", 0.0}, {"c", 0.0}};
    for (int i = 0; i < 8; ++i) {
      std::string token;
      for (std::size_t j = 0; j < 1 + below(4); ++j) token += "abc"[below(3)];
      scores[token] = 0.0;
    }
    std::vector<std::pair<std::string, double>> vocabulary = {{"<unk>", 0.0}};
    for (auto& [token, score] : scores) {
      score = -static_cast<double>(random() % 100000) / 1000.0;
      vocabulary.emplace_back(token, score);
    }
    std::string text;
    for (std::size_t j = 0; j < 10; ++j) text += "abc"[below(3)];
    std::vector<double> best(text.size() + 1, -std::numeric_limits<double>::infinity());  // of each prefix
    best[0] = 0;
    for (std::size_t end = 1; end <= text.size(); ++end) {
      for (std::size_t begin = 0; begin < end; ++begin) {
        const auto it = scores.find(text.substr(begin, end - begin));
        if (it != scores.end()) best[end] = std::max(best[end], best[begin] + it->second);
      }
    }
    double total = 0;
    std::string joined;
    for (const std::string& token : tokens(unigram(vocabulary, {{"unk_id", 0}}), text)) {
      total += scores.at(token);
      joined += token;
    }
    EXPECT_EQ(joined, text);
    EXPECT_NEAR(total, best.back(), 1e-9) << text;  // at most 10 scores below 100, summed in another order
  }
}

TEST(Unigram, BrokenFilesAreClearErrors) {
  EXPECT_THAT(message_of([] { return parse(unigram({{"a", 0.0}}, {{"unk_id", 7}})); }), HasSubstr("unk_id"));
  EXPECT_THAT(message_of([] { return parse(unigram({{"a", 0.0}})).encode("b"); }), HasSubstr("unk_id"));
  EXPECT_THAT(message_of([] { return parse(unigram({{"a", 0.0}, {"a", 1.0}})); }), HasSubstr("twice"));
  EXPECT_THAT(message_of([] { return parse({{"model", {{"type", "Unigram"}, {"vocab", Json::array({Json::array({"a", "b"})})}}}}); }), HasSubstr("vocab[0]"));
  EXPECT_THAT(message_of([] { return parse({{"model", {{"type", "Unigram"}, {"vocab", {{"a", 0}}}}}}); }), HasSubstr("a list of tokens"));
}

/// A precompiled charsmap of `entries`, its nodes 256 units apart.
std::string charsmap(const std::map<std::string, std::string>& entries) {
  std::vector<std::uint32_t> trie;
  std::string texts;
  std::size_t nodes = 0;
  const auto unit = [&](std::size_t at) -> std::uint32_t& {
    if (at >= trie.size()) trie.resize(at + 1);
    return trie[at];
  };
  std::map<std::string, std::size_t> base;  // of a node's children, by the prefix that leads to it
  const auto base_of = [&](const std::string& prefix, std::size_t at, std::uint32_t label) {
    const auto [it, fresh] = base.emplace(prefix, 0);
    if (fresh) {
      it->second = ++nodes * 0x100;
      unit(at) = label | static_cast<std::uint32_t>(at ^ it->second) << 10;
    }
    return it->second;
  };
  for (const auto& [key, text] : entries) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < key.size(); ++i) {
      at = base_of(key.substr(0, i), at, i == 0 ? 0 : static_cast<std::uint8_t>(key[i - 1])) ^ static_cast<std::uint8_t>(key[i]);
    }
    const std::size_t leaf = base_of(key, at, static_cast<std::uint8_t>(key.back()));
    unit(at) |= 1U << 8;
    unit(leaf) = 1U << 31 | static_cast<std::uint32_t>(texts.size());
    texts += text + '\0';
  }
  std::string bytes;
  const auto append = [&](std::uint32_t x) {
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(x >> (8 * i));
  };
  append(static_cast<std::uint32_t>(trie.size() * 4));
  for (const std::uint32_t x : trie) append(x);
  bytes += texts;
  std::string result;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j) bits = bits << 8 | (i + j < bytes.size() ? static_cast<std::uint8_t>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j) {
      result += i + j > bytes.size() ? '=' : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[bits >> (18 - 6 * j) & 63];
    }
  }
  return result;
}

TEST(Precompiled, ReplacesCharactersAndClusters) {
  const Json normalizer = {{"type", "Precompiled"}, {"precompiled_charsmap", charsmap({{"A", "xyz"}, {"\uFB01", "fi"}, {"e\u0301", "\u00E9"}, {"\u3000", " "}, {"\u200B", ""}})}};
  EXPECT_EQ(normalize(normalizer, "A\uFB01B\u3000e\u0301e\u200B"), "xyzfiB \u00E9e");
  EXPECT_EQ(normalize({{"type", "Precompiled"}, {"precompiled_charsmap", nullptr}}, "A"), "A");
  EXPECT_THAT(message_of([] { return normalize({{"type", "Precompiled"}, {"precompiled_charsmap", "AAAB"}}, ""); }), HasSubstr("trie"));
  EXPECT_THAT(message_of([] { return normalize({{"type", "Precompiled"}, {"precompiled_charsmap", "!"}}, ""); }), HasSubstr("base64"));
  const Json wild = {{"type", "Precompiled"}, {"precompiled_charsmap", "BAAAAP////8="}};  // a trie that leads out of itself
  EXPECT_EQ(normalize(wild, "a"), "a");
}

TEST(OlderFiles, VocabTxtIsBerts) {
  const TempFolder folder;
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\nh\u00E9llo\n,\n");
  EXPECT_THAT(Tokenizer::load(folder.path()).encode("H\u00E9llos, [MASK]x"), ElementsAre(2, 5, 6, 8, 4, 1, 3));
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "BertTokenizer", "do_lower_case": false})");
  const Tokenizer cased = Tokenizer::load(folder.path());
  EXPECT_THAT(cased.encode("h\u00E9llo hello"), ElementsAre(2, 7, 5, 3));
  EXPECT_EQ(cased.decode(Ids{2, 5, 6, 8, 5, 3}), "hellos, hello");
}

TEST(OlderFiles, VocabJsonAndMergesAreGpt2sOrRobertas) {
  const TempFolder folder;
  folder.write("vocab.json", R"({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "Ġ": 6, "ab": 7, "Ġab": 8, "<mask>": 9})");
  folder.write("merges.txt", "#version: 0.2\na b\nĠ ab\n");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer", "cls_token": {"content": "<s>"}, "mask_token": {"content": "<mask>", "lstrip": true}})");
  EXPECT_THAT(Tokenizer::load(folder.path()).encode("ab ab <mask>"), ElementsAre(0, 7, 8, 9, 2));
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": true})");
  EXPECT_THAT(Tokenizer::load(folder.path()).encode("ab"), ElementsAre(0, 8, 2));
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": true})");
  folder.write("added_tokens.json", R"({"<new>": 10})");
  const Tokenizer gpt2 = Tokenizer::load(folder.path());
  EXPECT_THAT(gpt2.encode("ab<new>ab"), ElementsAre(0, 7, 10, 7));
  EXPECT_EQ(gpt2.decode(gpt2.encode("ab ab")), "ab ab");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "CLIPTokenizer"})");
  EXPECT_THAT(message_of([&] { return Tokenizer::load(folder.path()); }), HasSubstr("CLIPTokenizer"));
  folder.write("tokenizer_config.json", "{}");
  folder.write("merges.txt", "a b c\n");
  EXPECT_THAT(message_of([&] { return Tokenizer::load(folder.path()); }), HasSubstr("merges.txt, line 1"));
}

TEST(OlderFiles, AreWhatTokenizerJsonIs) {
  const std::filesystem::path real = std::string(DUET_SHARED_DIR) + "/tokenizers/gpt2";
  if (!std::filesystem::exists(real)) GTEST_SKIP() << real << " is not there";
  const Json file = Json::parse(TempFolder::read(real / "tokenizer.json"));
  const TempFolder folder;
  folder.write("vocab.json", file["model"]["vocab"].dump());
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : file["model"]["merges"]) merges += (merge.is_string() ? merge.get<std::string>() : merge[0].get<std::string>() + ' ' + merge[1].get<std::string>()) + '\n';
  folder.write("merges.txt", merges);
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  std::ifstream expected(real / "expected.jsonl");
  int lines = 0;
  for (std::string line; std::getline(expected, line); ++lines) {
    const Json c = Json::parse(line);
    EXPECT_EQ(tokenizer.encode(c["text"].get<std::string>()), c["ids"].get<Ids>()) << c["text"];
  }
  EXPECT_GT(lines, 100);
}

}  // namespace io_tokenizer_models
}  // namespace duet
