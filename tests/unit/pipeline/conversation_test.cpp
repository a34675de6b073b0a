#include "duet/pipeline/conversation.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <stdexcept>

#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

const Pipeline& pipeline(const std::string& folder) {
  static std::map<std::string, std::unique_ptr<const Pipeline>> loaded;
  auto& slot = loaded[folder];
  if (!slot) slot = std::make_unique<const Pipeline>(load_model(folder, {.threads = 1}));
  return *slot;
}
const Pipeline& method_a() { return pipeline(std::string(DUET_EXAMPLES_DIR) + "/models/scenes-a"); }
const Pipeline& method_b() { return pipeline(std::string(DUET_EXAMPLES_DIR) + "/models/scenes-b"); }
const Pipeline& stories() { return pipeline(std::string(DUET_TEST_GOLDEN_DIR) + "/stories260K"); }
Image scene(int number = 1) { return Image::open(std::string(DUET_EXAMPLES_DIR) + "/scenes/bundled/0000" + std::to_string(number) + ".png"); }

constexpr const char* kQuestion = "What colour is the triangle?";

template <class... Parts>
std::vector<TokenId> joined(const Parts&... parts) {
  std::vector<TokenId> result;
  (result.insert(result.end(), parts.begin(), parts.end()), ...);
  return result;
}

template <class Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e;
  }
  return {ErrorKind::kMalformedFile, "nothing was thrown", "", ""};
}

TEST(Conversation, ALaterTurnGoesOnBehindTheReply) {
  const auto first = stories().encode_turn("Once upon a time", 0, Pipeline::Turn::kFirst);
  const auto second = stories().encode_turn(" One day", 0, Pipeline::Turn::kLater);
  Conversation chat(stories(), {.max_length = 200});
  chat.user("Once upon a time");
  const Reply before = chat.reply({.max_new_tokens = 12});
  EXPECT_EQ(chat.session().length(), static_cast<Index>(first.size()) + 11) << "the last token is not read yet";
  chat.user(" One day");
  const Reply after = chat.reply({.max_new_tokens = 12});
  EXPECT_EQ(chat.statistics().prompt_tokens, static_cast<Index>(second.size()) + 1) << "it comes with the next turn";

  Conversation at_once(stories(), {.max_length = 200});
  at_once.user_ids(joined(first, before.ids, second));
  EXPECT_EQ(at_once.reply({.max_new_tokens = 12}).ids, after.ids);
}

TEST(Conversation, ALaterTurnBeginsWithTheEndThatClosedTheReply) {
  for (const Pipeline* p : {&method_a()}) {
    const std::vector<TokenId> first = p->encode_turn(kQuestion, 1, Pipeline::Turn::kFirst), end = {424};
    const auto second = p->encode_turn(kQuestion, 0, Pipeline::Turn::kLater);
    Conversation chat(*p, {});
    chat.user(kQuestion, scene());
    const Reply before = chat.reply();
    ASSERT_EQ(before.reason, StopReason::kEndOfText);
    chat.user(kQuestion);
    const Reply after = chat.reply({.max_new_tokens = 5});
    EXPECT_EQ(chat.statistics().prompt_tokens, static_cast<Index>(second.size()) + 1);

    Conversation at_once(*p, {});
    std::vector<Image> images;
    images.push_back(scene());
    at_once.user_ids(joined(first, before.ids, end, second), std::move(images));
    EXPECT_EQ(at_once.reply({.max_new_tokens = 5}).ids, after.ids);
  }
}

TEST(Conversation, MethodBKeepsThePictureAndStartsItsTextAnew) {
  Conversation chat(method_b(), {}), other(method_b(), {});
  chat.user(std::nullopt, [] {
    std::vector<Image> images;
    images.push_back(scene());
    return images;
  }());
  EXPECT_THAT(chat.reply().text, HasSubstr("green triangle"));
  EXPECT_EQ(chat.statistics().image_tokens, 65);
  chat.user(kQuestion);
  const Reply later = chat.reply();
  EXPECT_EQ(chat.statistics().image_tokens, 0) << "the picture is looked at once";
  other.user(kQuestion, scene());
  EXPECT_EQ(other.reply().ids, later.ids);
}

/// A model that counts the pictures it encodes.
class CountingModel final : public AnyModel {
 public:
  explicit CountingModel(std::shared_ptr<const AnyModel> model, int& count) : model_(std::move(model)), count_(&count) {}
  [[nodiscard]] const ModelInfo& info() const override { return model_->info(); }
  [[nodiscard]] const PromptRules& rules() const override { return model_->rules(); }
  [[nodiscard]] const CheckpointFolder& folder() const override { return model_->folder(); }
  [[nodiscard]] const Compute& compute() const override { return model_->compute(); }
  [[nodiscard]] std::unique_ptr<AnySession> start(SessionOptions options) const override { return model_->start(options); }
  [[nodiscard]] ImageRows encode(const VisualInput& input, Workspace& workspace) const override {
    *count_ += static_cast<int>(input.num_images);
    return model_->encode(input, workspace);
  }

 private:
  std::shared_ptr<const AnyModel> model_;
  int* count_;
};

TEST(Conversation, APictureThatComesAgainIsNotEncodedAgain) {
  for (const Pipeline* p : {&method_a(), &method_b()}) {
    int encoded = 0;
    const Pipeline counting(std::make_shared<const CountingModel>(p->shared_model(), encoded));
    Conversation chat(counting, {.max_length = 0}), plain(*p, {});
    const auto ask = [](Conversation& c, int picture) {
      c.user(kQuestion, scene(picture));
      return c.reply({.max_new_tokens = 5}).ids;
    };
    const auto first = ask(chat, 1);
    EXPECT_EQ(encoded, 1);
    EXPECT_EQ(chat.statistics().image_tokens, 65);
    chat.clear();
    EXPECT_EQ(ask(chat, 1), first);
    EXPECT_EQ(encoded, 1) << "nor after clear()";
    if (p != &method_b()) continue;  // scenes-a has room for one picture
    EXPECT_EQ(ask(chat, 1), first) << "with the keys and values that are there";
    EXPECT_EQ(chat.statistics().image_tokens, 65);
    EXPECT_EQ(ask(chat, 2), ask(plain, 2));
    EXPECT_EQ(ask(chat, 1), first) << "the memory is this picture's again";
    EXPECT_EQ(encoded, 2);
  }
}

TEST(Conversation, ClearForgetsEverything) {
  for (const Pipeline* p : {&method_a(), &method_b()}) {
    Conversation chat(*p, {});
    chat.user(kQuestion, scene(2));
    chat.reply();
    chat.user("Hello");  // a turn that is never answered
    chat.clear();
    EXPECT_EQ(chat.session().length(), 0);
    EXPECT_EQ(chat.session().num_image_rows(), 0);
    EXPECT_EQ(error_of([&] { chat.reply(); }).kind(), ErrorKind::kInvalidArgument);
    Conversation fresh(*p, {});
    for (Conversation* c : {&chat, &fresh}) c->user(kQuestion, scene());
    const Reply expected = fresh.reply();
    EXPECT_EQ(chat.reply().ids, expected.ids);
    EXPECT_EQ(chat.session().length(), fresh.session().length());
  }
}

TEST(Conversation, AnExceptionOfTheCallbackEndsTheReplyAsFalseDoes) {
  Conversation thrown(stories(), {.max_length = 200}), stopped(stories(), {.max_length = 200});
  int calls = 0;
  for (Conversation* chat : {&thrown, &stopped}) chat->user("Once upon a time");
  EXPECT_THROW(thrown.reply({.max_new_tokens = 12}, [&](std::string_view) -> bool {
    if (++calls == 3) throw std::runtime_error("the reader left");
    return true;
  }), std::runtime_error);
  EXPECT_EQ(calls, 3) << "it is not called again";
  calls = 0;
  stopped.reply({.max_new_tokens = 12}, [&](std::string_view) { return ++calls < 3; });
  for (Conversation* chat : {&thrown, &stopped}) chat->user(" One day");
  EXPECT_EQ(thrown.reply({.max_new_tokens = 12}).ids, stopped.reply({.max_new_tokens = 12}).ids);
  EXPECT_EQ(thrown.session().length(), stopped.session().length());
}

TEST(Conversation, AFullContextIsToldBeforeAnythingRuns) {
  Conversation chat(stories(), {.max_length = 20});
  const auto ids = stories().encode_turn("Once upon a time", 0, Pipeline::Turn::kFirst);
  chat.user("Once upon a time");
  const Error full = error_of([&] { chat.reply({.max_new_tokens = 30}); });
  EXPECT_EQ(full.kind(), ErrorKind::kContextFull);
  const std::string of_prompt = std::to_string(ids.size()) + " of the prompt";
  for (const std::string_view part : {std::string_view("0 positions read"), std::string_view(of_prompt), std::string_view("30"), std::string_view("20")}) {
    EXPECT_THAT(full.what(), HasSubstr(std::string(part)));
  }
  EXPECT_EQ(chat.session().length(), 0);
  const Index room = 20 - static_cast<Index>(ids.size()) + 1;
  EXPECT_EQ(chat.reply({.max_new_tokens = room}).ids.size(), static_cast<std::size_t>(room)) << "the turn is still there, and the last token needs no place";
  chat.user("x");
  EXPECT_EQ(error_of([&] { chat.reply(); }).kind(), ErrorKind::kContextFull);
}

TEST(Conversation, AfterAnErrorItIsAsItWas) {
  Conversation chat(method_a(), {}), untouched(method_a(), {});
  for (Conversation* c : {&chat, &untouched}) {
    c->user(kQuestion, scene());
    c->reply();
  }
  const auto length = chat.session().length();
  std::vector<Image> images;
  images.push_back(scene());
  chat.user_ids({1, 2, 3}, std::move(images));
  EXPECT_EQ(error_of([&] { chat.reply({.max_new_tokens = 2}); }).kind(), ErrorKind::kShapeMismatch);
  chat.user_ids({1, 99999});
  EXPECT_EQ(error_of([&] { chat.reply({.max_new_tokens = 2}); }).kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(error_of([&] { chat.reply({.temperature = -1.0f}); }).kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(chat.session().length(), length);
  for (Conversation* c : {&chat, &untouched}) c->user(kQuestion);
  const Reply expected = untouched.reply({.max_new_tokens = 6});
  EXPECT_EQ(chat.reply({.max_new_tokens = 6}).ids, expected.ids);
}

TEST(Conversation, AReplyThatWasStoppedIsGoneOnFrom) {
  Conversation chat(stories(), {.max_length = 200});
  chat.user("Once upon a time");
  int pieces = 0;
  const Reply stopped = chat.reply({.max_new_tokens = 50}, [&](std::string_view) { return ++pieces < 5; });
  EXPECT_EQ(stopped.reason, StopReason::kCallback);
  chat.user(" One day");
  const Reply after = chat.reply({.max_new_tokens = 8});
  Conversation at_once(stories(), {.max_length = 200});
  at_once.user_ids(joined(stories().encode_turn("Once upon a time", 0, Pipeline::Turn::kFirst), stopped.ids,
                          stories().encode_turn(" One day", 0, Pipeline::Turn::kLater)));
  EXPECT_EQ(at_once.reply({.max_new_tokens = 8}).ids, after.ids);
}

TEST(Conversation, TheRepetitionPenaltyCountsThePrompt) {
  const std::string text = "Once upon a time, there was a little girl named Lily. She";
  const auto prompt = stories().encode_turn(text, 0, Pipeline::Turn::kFirst);
  Conversation chat(stories(), {.max_length = 100});
  chat.user(text);
  for (const TokenId id : chat.reply({.max_new_tokens = 20, .repetition_penalty = 1e6f}).ids) {
    EXPECT_THAT(prompt, ::testing::Not(::testing::Contains(id)));
  }
}

TEST(Conversation, TheSameSeedTellsTheSameStory) {
  const auto told = [](std::uint64_t seed) {
    Conversation chat(stories(), {.max_length = 100});
    chat.user("Once");
    return chat.reply({.max_new_tokens = 30, .temperature = 1.0f, .top_k = 40, .seed = seed}).ids;
  };
  EXPECT_EQ(told(5), told(5));
  EXPECT_NE(told(5), told(6));
}

/// stories260K with a chat template.
class Worded : public ::testing::Test {
 protected:
  Worded() {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(DUET_TEST_GOLDEN_DIR) + "/stories260K")) {
      std::filesystem::create_symlink(entry.path(), folder_.path() / entry.path().filename());
    }
  }
  const Pipeline& with(const std::string& chat_template) {
    folder_.write("chat_template.jinja", chat_template);
    pipeline_ = std::make_unique<const Pipeline>(load_model(folder_.path(), {.threads = 1}));
    return *pipeline_;
  }

 private:
  test::TempFolder folder_;
  std::unique_ptr<const Pipeline> pipeline_;
};

TEST_F(Worded, AConversationGoesOnBehindWhatWasRead) {
  const Pipeline& p = with("<s>{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% else %}<s>{% endif %}{% endfor %}");
  Conversation chat(p, {.max_length = 300});
  chat.user("Once upon a time");
  const Reply before = chat.reply({.max_new_tokens = 3});
  const Index read = chat.session().length();
  chat.user("One day");
  const Reply after = chat.reply({.max_new_tokens = 12});
  const std::vector<ChatMessage> messages = {{"user", {{ChatPart::Kind::kText, "Once upon a time"}}}, {"assistant", {{ChatPart::Kind::kText, before.text}}},
                                             {"user", {{ChatPart::Kind::kText, "One day"}}}};
  const auto whole = p.encode_chat(messages);
  Conversation at_once(p, {.max_length = 300});
  at_once.user_ids(whole);
  EXPECT_EQ(at_once.reply({.max_new_tokens = 12}).ids, after.ids);
  EXPECT_EQ(chat.session().length(), at_once.session().length());
  EXPECT_EQ(chat.statistics().prompt_tokens, static_cast<Index>(whole.size()) - read) << "only what is new is read";
}

TEST_F(Worded, AConversationThatIsWordedAnewIsReadAnew) {
  const Pipeline& p = with("<s>{{ messages | length }} {% for m in messages %}{{ m.content }}{% endfor %}");
  Conversation chat(p, {.max_length = 300});
  chat.user("Once upon a time");
  const Reply before = chat.reply({.max_new_tokens = 5});
  chat.user("One day");
  const Reply after = chat.reply({.max_new_tokens = 5});
  Conversation at_once(p, {.max_length = 300});
  at_once.user_ids(p.tokenizer()->encode("<s>3 Once upon a time" + before.text + "One day", SpecialTokens::kNone));
  EXPECT_EQ(at_once.reply({.max_new_tokens = 5}).ids, after.ids);
  chat.clear();
  chat.user("Once upon a time");
  EXPECT_EQ(chat.reply({.max_new_tokens = 5}).ids, before.ids);
}

TEST_F(Worded, ATemplateThatRaisesLeavesTheConversationAsItWas) {
  const Pipeline& p = with("<s>{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}");
  Conversation chat(p, {.max_length = 300}), calm(p, {.max_length = 300});
  for (Conversation* c : {&chat, &calm}) {
    c->user("Once upon a time");
    static_cast<void>(c->reply({.max_new_tokens = 5}));
  }
  EXPECT_THAT(error_of([&] { chat.user("bad"); }).what(), HasSubstr("no"));
  for (Conversation* c : {&chat, &calm}) c->user("One day");
  EXPECT_EQ(chat.reply({.max_new_tokens = 5}).ids, calm.reply({.max_new_tokens = 5}).ids);
}

}  // namespace
}  // namespace duet
