// Conversations in whose turns pictures come, stay away and come again, against the whole of each as one prompt.

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>

#include "duet/pipeline/conversation.hpp"
#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace pipeline_pictured_conversation {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// A turn: what is said, and which of the folder's pictures are shown.
struct Turn {
  std::string text;
  std::vector<int> pictures;
};

/// A golden checkpoint of another family, with the token that stands for a picture.
struct Model {
  std::string golden, image_token;
  TokenId image_token_id;
  TokenId vocab_size;
  std::vector<std::pair<TokenId, std::string>> tags = {};  // further tokens that the family's prompts have
};
std::ostream& operator<<(std::ostream& out, const Model& model) { return out << model.golden; }
const std::vector<std::pair<TokenId, std::string>> kNvlmTags = {{140, "<|vision_pad|>"}, {141, "<tile_1>"}, {142, "<tile_2>"}, {143, "<tile_3>"}, {144, "<tile_4>"},
                                                                {145, "<tile_5>"}, {146, "<tile_6>"}, {147, "<tile_global_thumbnail>"}};
const Model kModels[] = {{"mllama-0", "<|image|>", 256, 257},
                         {"qwen2-vl-0", "<|image_pad|>", 259, 272},
                         {"idefics3-0", "<image>", 301, 352},
                         {"nvlm-d-0", "<image>", -1, 160, kNvlmTags},
                         {"nvlm-x-0", "<image>", -1, 160, kNvlmTags},
                         {"nvlm-h-0", "<image>", -1, 160, kNvlmTags}};

/// Every id has a spelling of its own, so that a reply is the same ids when it is read again.
Json tokenizer_of(const Model& model) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}}, added = Json::array();
  TokenId next = 3;
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = next++;
  vocab["Ġ"] = next++;
  vocab["Ċ"] = next++;
  std::vector<std::string> names = {"<fake_token_around_image>", "<global-img>"};
  for (int row = 1; row <= 4; ++row) {
    for (int col = 1; col <= 4; ++col) names.push_back(concat("<row_", row, "_col_", col, ">"));
  }
  const auto add = [&](TokenId id, const std::string& text) {
    vocab[text] = id;
    added.push_back({{"id", id}, {"content", text}, {"special", id <= 2 || id == model.image_token_id}, {"normalized", false}, {"lstrip", false},
                     {"rstrip", false}, {"single_word", false}});
  };
  for (const auto& [id, text] : {std::pair<TokenId, std::string>(0, "<unk>"), {1, "<s>"}, {2, "</s>"}}) add(id, text);
  for (; next < model.vocab_size; ++next) {
    const auto tag = std::ranges::find(model.tags, next, &std::pair<TokenId, std::string>::first);
    if (tag != model.tags.end()) {
      add(next, tag->second);
    } else if (next == model.image_token_id) {
      add(next, model.image_token);
    } else if (!names.empty() && model.tags.empty()) {
      add(next, names.back());
      names.pop_back();
    } else {
      add(next, concat("<", next, ">"));
    }
  }
  return {{"added_tokens", added},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

class PicturedConversation : public ::testing::TestWithParam<Model> {
 protected:
  void SetUp() override {
    if (!fs::exists(golden() / "config.json")) GTEST_SKIP() << "no " << golden();
    for (const auto& entry : fs::directory_iterator(golden())) fs::create_symlink(entry.path(), folder_.path() / entry.path().filename());
    folder_.write("tokenizer.json", tokenizer_of(GetParam()).dump());
    folder_.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
    folder_.write("chat_template.jinja", concat("<s>{% for m in messages %}{{ m.role }}:{% for p in m.content %}{% if p.type == 'image' %}", GetParam().image_token,
                                                "{% else %}{{ p.text }}{% endif %}{% endfor %}{% if m.role == 'assistant' %}</s>{% else %}|{% endif %}{% endfor %}"));
    pipeline_ = std::make_unique<const Pipeline>(load_model(folder_.path(), {.threads = 1}));
  }
  static fs::path golden() {
    const fs::path own = fs::path(DUET_TEST_GOLDEN_DIR) / GetParam().golden;
    return fs::exists(own) ? own : fs::path(DUET_GOLDEN_DIR) / GetParam().golden;
  }
  [[nodiscard]] const Pipeline& pipeline() const { return *pipeline_; }
  [[nodiscard]] fs::path file() const { return folder_.path() / "chat.safetensors"; }
  [[nodiscard]] std::vector<Image> open(const std::vector<int>& numbers) const {
    std::vector<Image> images;
    for (const int number : numbers) images.push_back(pipeline().prompts().open(golden() / concat("image_", number, ".png")));
    return images;
  }
  static ReplyOptions six() { return {.max_new_tokens = 6}; }

  /// What is answered to the last turn when all of the conversation is one prompt.
  [[nodiscard]] std::vector<TokenId> at_once(const std::vector<Turn>& turns, const std::vector<std::string>& replies) const {
    std::vector<ChatMessage> messages;
    std::vector<int> pictures;
    for (std::size_t i = 0; i < turns.size(); ++i) {
      messages.push_back(pipeline().prompts().user_message(turns[i].text, static_cast<Index>(turns[i].pictures.size())));
      if (i < replies.size()) messages.push_back({"assistant", {{ChatPart::Kind::kText, replies[i]}}});
      pictures.insert(pictures.end(), turns[i].pictures.begin(), turns[i].pictures.end());
    }
    std::vector<Image> images = open(pictures);
    std::vector<TokenId> ids = pipeline().prompts().encode_chat(messages, pipeline().prompts().plans(images));
    Conversation fresh(pipeline(), {});
    fresh.user_ids(std::move(ids), std::move(images));
    return fresh.reply(six()).ids;
  }
  void expect_as_at_once(const std::vector<Turn>& turns) const {
    Conversation chat(pipeline(), {});
    std::vector<Turn> said;
    std::vector<std::string> replies;
    for (const Turn& turn : turns) {
      said.push_back(turn);
      chat.user(turn.text, open(turn.pictures));
      const Reply reply = chat.reply(six());
      EXPECT_EQ(reply.ids, at_once(said, replies)) << "turn " << said.size();
      replies.push_back(reply.text);
    }
  }

 private:
  test::TempFolder folder_;
  std::unique_ptr<const Pipeline> pipeline_;
};

TEST_P(PicturedConversation, EveryTurnMayShowAnotherPicture) { expect_as_at_once({{"what?", {0}}, {"and here?", {1}}, {"which is larger?", {}}}); }
TEST_P(PicturedConversation, TheFirstTurnMayBeTextAlone) { expect_as_at_once({{"hi", {}}, {"what?", {1}}, {"why?", {}}}); }
TEST_P(PicturedConversation, APictureMayComeAgain) { expect_as_at_once({{"what?", {0}}, {"again?", {0}}, {"no?", {}}}); }
TEST_P(PicturedConversation, ATurnMayShowSeveral) { expect_as_at_once({{"what?", {0, 1}}, {"why?", {}}}); }

TEST_P(PicturedConversation, PicturesMatter) {
  const std::vector<std::string> reply = {"x"};
  EXPECT_NE(at_once({{"what?", {0}}, {"why?", {}}}, reply), at_once({{"what?", {1}}, {"why?", {}}}, reply));
}

/// Rows of a picture that are in the prompt are read again with it, whatever the memory holds.
TEST_P(PicturedConversation, TheSamePicturesMayComeBehindOtherWords) {
  struct Text {
    const char *first, *second, *question;
    bool begins_alike;
  };
  Conversation chat(pipeline(), {});
  for (const Text& text : {Text{"see ", " and ", " what?", false}, Text{"no, ", " and ", " what?", false}, Text{"no, ", " and ", " why?", true},
                           Text{"no, ", " but ", " why?", true}, Text{"no, ", " but ", " why?", true}}) {
    const std::string words = concat(text.first, GetParam().image_token, text.second, GetParam().image_token, text.question);
    const std::vector<TokenId> ids = pipeline().prompts().encode_exactly(words, pipeline().prompts().plans(open({0, 1})));
    if (pipeline().model().rules().picture_rows == PictureRows::kInPrompt) chat.restart();
    chat.user_ids(ids, open({0, 1}));
    Conversation fresh(pipeline(), {});
    fresh.user_ids(ids, open({0, 1}));
    EXPECT_EQ(chat.reply(six()).ids, fresh.reply(six()).ids) << words;
    if (text.begins_alike) {
      EXPECT_GT(chat.statistics().reused_tokens, 0) << words;
    }
  }
}

/// A file keeps no pictures: what the session holds of them must do.
TEST_P(PicturedConversation, GoesOnFromAFile) {
  Conversation chat(pipeline(), {}), loaded(pipeline(), {});
  chat.user("what?", open({0, 1}));
  chat.reply(six());
  chat.save(file());
  loaded.load(file());
  for (const char* question : {"why?", "oh?"}) {
    for (Conversation* c : {&chat, &loaded}) c->user(question);
    EXPECT_EQ(loaded.reply(six()).ids, chat.reply(six()).ids) << question;
    EXPECT_EQ(loaded.statistics().prompt_tokens, chat.statistics().prompt_tokens) << question;
  }
}

TEST_P(PicturedConversation, PicturesThatMustBeSeenAgainAfterAFileAreAnError) {
  if (pipeline().model().rules().picture_rows == PictureRows::kInPrompt) GTEST_SKIP() << "rows in the prompt stay";
  Conversation chat(pipeline(), {}), loaded(pipeline(), {});
  chat.user("what?", open({0}));
  chat.reply(six());
  chat.save(file());
  loaded.load(file());
  loaded.user("and here?", open({1}));
  try {
    loaded.reply(six());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("pictures that a file does not keep"));
  }
  for (Conversation* c : {&chat, &loaded}) c->user("why?");
  EXPECT_EQ(loaded.reply(six()).ids, chat.reply(six()).ids) << "it is as it was";
}

INSTANTIATE_TEST_SUITE_P(All, PicturedConversation, ::testing::ValuesIn(kModels), [](const auto& param) {
  std::string name = param.param.golden;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace pipeline_pictured_conversation
}  // namespace duet
