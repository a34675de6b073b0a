#include "duet/pipeline/conversation.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "load_model.hpp"
#include "support/temp_folder.hpp"

namespace duet {
namespace pipeline_conversation {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Turn = PromptEncoder::Turn;

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

const std::filesystem::path& folder_of_session() {
  static const test::TempFolder folder;
  return folder.path();
}
std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
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
  const auto first = stories().prompts().encode_turn("Once upon a time", {}, Turn::kFirst);
  const auto second = stories().prompts().encode_turn(" One day", {}, Turn::kLater);
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
    const std::vector<TokenId> first = p->prompts().encode_turn(kQuestion, std::vector{p->prompts().processor().plan({64, 64})}, Turn::kFirst), end = {424};
    const auto second = p->prompts().encode_turn(kQuestion, {}, Turn::kLater);
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

/// What a spied model did, and what its sessions shall do.
struct Spy {
  int encoded = 0;      ///< pictures
  Index prefilled = 0;  ///< rows
  int good_logits = -1; ///< then none of the logits is a number; negative: never
};

class SpiedSession final : public AnySession {
 public:
  SpiedSession(std::unique_ptr<AnySession> session, Spy& spy) : session_(std::move(session)), spy_(&spy) {}
  std::span<const float> prefill(const Prompt& prompt, const ImageRows& rows) override {
    spy_->prefilled += prompt.size();
    return spoilt(session_->prefill(prompt, rows));
  }
  std::span<const float> decode(TokenId id) override { return spoilt(session_->decode(id)); }
  [[nodiscard]] std::function<void()> mark() override { return session_->mark(); }
  void truncate(Index length) override { session_->truncate(length); }
  [[nodiscard]] ConstSessionParts parts() const override { return std::as_const(*session_).parts(); }
  [[nodiscard]] SessionParts parts() override { return session_->parts(); }
  void restart() override { session_->restart(); }
  void clear() override { session_->clear(); }
  [[nodiscard]] Index length() const override { return session_->length(); }
  [[nodiscard]] Index max_length() const override { return session_->max_length(); }
  [[nodiscard]] Index next_position() const override { return session_->next_position(); }
  [[nodiscard]] Index num_image_rows() const override { return session_->num_image_rows(); }
  [[nodiscard]] std::size_t memory_bytes() const override { return session_->memory_bytes(); }

 private:
  std::span<const float> spoilt(std::span<const float> logits) {
    if (spy_->good_logits < 0 || spy_->good_logits-- > 0) return logits;
    nothing_.assign(logits.size(), std::numeric_limits<float>::quiet_NaN());
    return nothing_;
  }
  std::unique_ptr<AnySession> session_;
  Spy* spy_;
  std::vector<float> nothing_;
};

class SpiedModel final : public AnyModel {
 public:
  explicit SpiedModel(std::shared_ptr<const AnyModel> model, Spy& spy) : model_(std::move(model)), spy_(&spy) {}
  [[nodiscard]] const ModelInfo& info() const override { return model_->info(); }
  [[nodiscard]] const std::shared_ptr<const Processor>& processor() const override { return model_->processor(); }
  [[nodiscard]] const CheckpointFolder& folder() const override { return model_->folder(); }
  [[nodiscard]] const Compute& compute() const override { return model_->compute(); }
  [[nodiscard]] const std::optional<ChatWording>& chat_wording() const override { return model_->chat_wording(); }
  [[nodiscard]] std::unique_ptr<AnySession> start(SessionOptions options) const override {
    return std::make_unique<SpiedSession>(model_->start(options), *spy_);
  }
  [[nodiscard]] ImageRows encode(const VisualInput& input, Workspace& workspace) const override {
    spy_->encoded += static_cast<int>(input.num_pictures());
    return model_->encode(input, workspace);
  }

 private:
  std::shared_ptr<const AnyModel> model_;
  Spy* spy_;
};

TEST(Conversation, APictureThatComesAgainIsNotEncodedAgain) {
  for (const Pipeline* p : {&method_a(), &method_b()}) {
    Spy spy;
    const int& encoded = spy.encoded;
    const Pipeline spied(std::make_shared<const SpiedModel>(p->shared_model(), spy));
    Conversation chat(spied, {.max_length = 0}), plain(*p, {});
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
  const auto ids = stories().prompts().encode_turn("Once upon a time", {}, Turn::kFirst);
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

TEST(Conversation, AfterLogitsThatAreNoNumbersItIsAsItWas) {
  for (const Pipeline* p : {&method_a(), &method_b(), &stories()}) {
    Spy spy;
    const Pipeline spied(std::make_shared<const SpiedModel>(p->shared_model(), spy));
    Conversation chat(spied, {}), untouched(*p, {});
    const bool looks = p != &stories();
    for (Conversation* c : {&chat, &untouched}) {
      looks ? c->user(kQuestion, scene()) : c->user("Once upon a time");
      c->reply({.max_new_tokens = 4});
      looks && p == &method_b() ? c->user(kQuestion, scene(2)) : c->user(kQuestion);
    }
    const Index length = chat.session().length(), image_rows = chat.session().num_image_rows();
    for (const int good : {0, 1}) {  // at once, and in the middle of the reply
      spy.good_logits = good;
      EXPECT_EQ(error_of([&] { chat.reply({.max_new_tokens = 4}); }).where(), "logits");
      // A turn of method B begins by forgetting the text before; no reply depends on it.
      EXPECT_EQ(chat.session().length(), p == &method_b() ? chat.session().length() : length);
      EXPECT_EQ(chat.session().num_image_rows(), image_rows);
    }
    spy.good_logits = -1;
    const Reply expected = untouched.reply({.max_new_tokens = 4});
    EXPECT_EQ(chat.reply({.max_new_tokens = 4}).ids, expected.ids) << "the turn is still there";
    EXPECT_EQ(chat.session().length(), untouched.session().length());
  }
}

TEST(Conversation, WhatAPromptHasInCommonWithTheOneBeforeIsNotReadAgain) {
  Spy spy;
  const Pipeline spied(std::make_shared<const SpiedModel>(stories().shared_model(), spy));
  Conversation chat(spied, {.max_length = 200});
  const auto ask = [&](std::vector<TokenId> ids, Index read) {
    const Index before = spy.prefilled, all = static_cast<Index>(ids.size());
    chat.restart();
    chat.user_ids(ids);
    const Reply reply = chat.reply({.max_new_tokens = 8});
    EXPECT_EQ(spy.prefilled - before, read);
    EXPECT_EQ(chat.statistics().prompt_tokens, read);
    EXPECT_EQ(chat.statistics().reused_tokens, all - read);
    Conversation fresh(stories(), {.max_length = 200});
    fresh.user_ids(std::move(ids));
    EXPECT_EQ(fresh.reply({.max_new_tokens = 8}).ids, reply.ids);
    // Not only the words: the bits of everything that is kept.
    chat.save(folder_of_session() / "reused.safetensors");
    fresh.save(folder_of_session() / "fresh.safetensors");
    EXPECT_EQ(file_text(folder_of_session() / "reused.safetensors"), file_text(folder_of_session() / "fresh.safetensors"));
    return reply.ids;
  };
  const auto beginning = stories().prompts().encode_turn("Once upon a time there was a little girl", {}, Turn::kFirst);
  const auto end = stories().prompts().encode_turn(" named Lily", {}, Turn::kLater), other_end = stories().prompts().encode_turn(" who", {}, Turn::kLater);
  const auto n = static_cast<Index>(beginning.size()), more = static_cast<Index>(end.size());
  const auto said = ask(beginning, n);
  ask(beginning, 1);  // for its logits
  ask(joined(beginning, end), more);
  const auto differ = std::ranges::mismatch(other_end, end).in1;
  ask(joined(beginning, other_end), other_end.end() - differ);
  ask(joined(end, beginning), n + more);
  ask(beginning, n);
  const auto whole = joined(beginning, said, end);  // rows of the reply were decoded: read as a prompt they have other bits
  ask(whole, static_cast<Index>(whole.size()) - n);
  ask(whole, 1);
}

TEST(Conversation, PicturesOfACommonBeginningAreNotReadAgain) {
  Spy spy;
  const Pipeline spied(std::make_shared<const SpiedModel>(method_a().shared_model(), spy));
  Conversation chat(spied, {});
  const auto ask = [&](Conversation& c, const char* question, int picture) {
    c.restart();
    c.user(question, scene(picture));
    return c.reply({.max_new_tokens = 6}).ids;
  };
  const auto expect_fresh = [&](const char* question, int picture) {
    const auto got = ask(chat, question, picture);
    Conversation fresh(method_a(), {});
    EXPECT_EQ(ask(fresh, question, picture), got);
  };
  expect_fresh(kQuestion, 1);
  EXPECT_EQ(chat.statistics().reused_tokens, 0);
  expect_fresh("What colour is the circle?", 1);
  EXPECT_GE(chat.statistics().reused_tokens, 65) << "the picture's rows and what comes before them";
  EXPECT_EQ(chat.statistics().image_tokens, 65);
  EXPECT_EQ(spy.encoded, 1);
  expect_fresh("What colour is the circle?", 2);
  EXPECT_LT(chat.statistics().reused_tokens, 65) << "another picture behind the same placeholders";
  EXPECT_EQ(spy.encoded, 2);
}

TEST(Conversation, MethodBReadsAQuestionAboutTheSamePictureFromWhereItDiffers) {
  Conversation chat(method_b(), {}), fresh(method_b(), {});
  const auto ask = [](Conversation& c, const char* question, int picture) {
    c.user(question, scene(picture));
    return c.reply({.max_new_tokens = 6}).ids;
  };
  ask(chat, kQuestion, 1);
  EXPECT_EQ(ask(chat, "What colour is the circle?", 1), ask(fresh, "What colour is the circle?", 1));
  EXPECT_GT(chat.statistics().reused_tokens, 0);
  EXPECT_EQ(ask(chat, "What colour is the circle?", 2), ask(fresh, "What colour is the circle?", 2));
  EXPECT_EQ(chat.statistics().reused_tokens, 0) << "the same words about another picture";
}

TEST(Conversation, GoesOnFromAFile) {
  for (const Pipeline* p : {&method_a(), &method_b(), &stories()}) {
    const auto path = folder_of_session() / "chat.safetensors";
    Conversation chat(*p, {}), loaded(*p, {});
    p == &stories() ? chat.user("Once upon a time") : chat.user(kQuestion, scene());
    chat.reply({.max_new_tokens = 5});
    chat.save(path);
    loaded.user("Something else");
    loaded.reply({.max_new_tokens = 3});
    loaded.user("A turn that is forgotten");
    loaded.load(path);
    EXPECT_EQ(error_of([&] { loaded.reply(); }).kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(loaded.session().length(), chat.session().length());
    for (Conversation* c : {&chat, &loaded}) c->user(kQuestion);
    const Reply expected = chat.reply({.max_new_tokens = 6}), got = loaded.reply({.max_new_tokens = 6});
    EXPECT_EQ(got.ids, expected.ids);
    EXPECT_EQ(loaded.statistics().prompt_tokens, chat.statistics().prompt_tokens);
    chat.save(path);
    const std::string first = file_text(path);
    loaded.save(path);
    EXPECT_EQ(file_text(path), first) << "to the bit";
  }
}

TEST(Conversation, AFileThatIsNoneOfItsModelChangesNothing) {
  const auto path = folder_of_session() / "chat.safetensors";
  Conversation story(stories(), {.max_length = 100}), chat(method_b(), {}), untouched(method_b(), {});
  story.user("Once upon a time");
  story.reply({.max_new_tokens = 5});
  story.save(path);
  for (Conversation* c : {&chat, &untouched}) {
    c->user(kQuestion, scene());
    c->reply();
    c->user(kQuestion);
  }
  EXPECT_EQ(error_of([&] { chat.load(path); }).kind(), ErrorKind::kConfigMismatch);
  EXPECT_EQ(error_of([&] { chat.load(path.parent_path() / "nothing"); }).kind(), ErrorKind::kFileNotReadable);
  const Reply expected = untouched.reply();
  EXPECT_EQ(chat.reply().ids, expected.ids);
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
  at_once.user_ids(joined(stories().prompts().encode_turn("Once upon a time", {}, Turn::kFirst), stopped.ids,
                          stories().prompts().encode_turn(" One day", {}, Turn::kLater)));
  EXPECT_EQ(at_once.reply({.max_new_tokens = 8}).ids, after.ids);
}

TEST(Conversation, TheRepetitionPenaltyCountsThePrompt) {
  const std::string text = "Once upon a time, there was a little girl named Lily. She";
  const auto prompt = stories().prompts().encode_turn(text, {}, Turn::kFirst);
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
  const auto whole = p.prompts().encode_chat(messages, {});
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

TEST_F(Worded, AfterAnErrorOfATurnReadAnewNothingIsForgotten) {
  Spy spy;
  const Pipeline& p = with("<s>{% if messages[-1].content == 'odd' %}odd {% endif %}"
                           "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% else %}<s>{% endif %}{% endfor %}");
  const Pipeline spied(std::make_shared<const SpiedModel>(p.shared_model(), spy));
  Conversation chat(spied, {.max_length = 300}), calm(p, {.max_length = 300});
  for (Conversation* c : {&chat, &calm}) {
    c->user("Once upon a time");
    static_cast<void>(c->reply({.max_new_tokens = 5}));
  }
  chat.user("odd");
  spy.good_logits = 0;
  EXPECT_EQ(error_of([&] { chat.reply({.max_new_tokens = 5}); }).where(), "logits");
  spy.good_logits = -1;
  for (Conversation* c : {&chat, &calm}) c->user("One day");
  EXPECT_EQ(chat.reply({.max_new_tokens = 12}).ids, calm.reply({.max_new_tokens = 12}).ids);
  EXPECT_EQ(chat.session().length(), calm.session().length());
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

}  // namespace pipeline_conversation
}  // namespace duet
