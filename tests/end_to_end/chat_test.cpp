// Conversations: at a terminal, and through a pipe.

#include <gmock/gmock.h>

#include "end_to_end/program.hpp"
#include "end_to_end/terminal.hpp"
#include "support/temp_folder.hpp"

namespace duet::testing {
namespace end_to_end_chat {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kScene = example("scenes/bundled/00001.png");
const std::string kMethodA = example("models/scenes-a"), kMethodB = example("models/scenes-b");
constexpr const char* kQuestion = "What colour is the triangle?\n";

TEST(Chat, TalksAtATerminal) {
  Terminal terminal({"chat", kMethodB});
  EXPECT_THAT(terminal.until("> "), AllOf(HasSubstr("loading"), HasSubstr("fusion: cross-attention"), HasSubstr("/image FILE, /save FILE, /load FILE, /clear, /quit")));
  terminal.type("/image " + kScene + "\n");
  EXPECT_EQ(terminal.until("> "), "> ") << "a picture is taken in silence";
  terminal.type(kQuestion);
  EXPECT_EQ(terminal.until("> "), "green\n> ");
  terminal.type("/nonsense\n");
  EXPECT_EQ(terminal.until("> "), "commands: /image FILE, /save FILE, /load FILE, /clear, /quit\n> ");
  terminal.type("/image /no/such.png\n");
  EXPECT_THAT(terminal.until("> "), HasSubstr("/no/such.png"));
  terminal.type(kQuestion);
  EXPECT_EQ(terminal.until("> "), "green\n> ") << "the conversation is as it was";
  terminal.type("/clear\n");
  EXPECT_EQ(terminal.until("> "), "> ");
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST(Chat, EndsWithItsInput) {
  Terminal terminal({"chat", kMethodB});
  terminal.until("> ");
  terminal.type(Terminal::kCtrlD);
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST(Chat, CtrlCStopsTheReplyAlone) {
  Terminal terminal({"chat", golden("stories260K"), "--max-new-tokens", "400"});
  terminal.until("> ");
  terminal.type(Terminal::kCtrlS);  // nothing more is shown: the reply waits at its first piece
  terminal.type("Once upon a time\n");
  terminal.wait_until_it_catches_interrupts();
  terminal.type(Terminal::kCtrlC);  // and lets the terminal go on
  const std::string stopped = terminal.until("> ");
  EXPECT_LT(stopped.size(), 20u) << "a piece of a reply of 400 tokens: " << stopped;
  terminal.type("/clear\nOnce upon a time\n");
  EXPECT_EQ(terminal.until("> "), "> ");
  EXPECT_THAT(terminal.until("> "), HasSubstr("there was a little girl named Lily"));
  terminal.type("/quit\n");
  EXPECT_EQ(terminal.exit_code(), 0);
}

TEST(Chat, APipeGetsRepliesAlone) {
  for (const std::string& model : {kMethodA, kMethodB}) {
    const Outcome outcome = duet_program("chat '" + model + "'", "/image " + kScene + "\n" + kQuestion + "/clear\n\n/image " + kScene + "\n" + kQuestion + "/quit\nnot read\n");
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, "green\ngreen\n") << "a cleared conversation begins anew";
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(Chat, GoesOnFromAFile) {
  const test::TempFolder folder;
  const std::string file = (folder.path() / "talk.safetensors").string(), options = "' --max-new-tokens 12 --kv bf16";
  for (const std::string& model : {golden("stories260K"), kMethodB}) {
    const std::string first = model == kMethodB ? "/image " + kScene + "\n\n" : "Once upon a time\n", second = model == kMethodB ? kQuestion : " One day\n";
    const Outcome whole = duet_program("chat '" + model + options, first + second);
    const Outcome saved = duet_program("chat '" + model + options, first + "/save " + file + "\n");
    EXPECT_EQ(saved.err, "");
    const Outcome loaded = duet_program("chat '" + model + options, "/load " + file + "\n" + second);
    EXPECT_EQ(loaded.err, "");
    EXPECT_EQ(saved.out + loaded.out, whole.out);
  }
  const Outcome other = duet_program("chat '" + golden("stories260K") + options, "/load " + file + "\n/load\n/load /no/such\nOnce upon a time\n");
  EXPECT_EQ(other.code, 0);
  EXPECT_THAT(other.err, AllOf(HasSubstr("talk.safetensors"), HasSubstr("saved with this model"), HasSubstr("/no/such")));
  EXPECT_THAT(other.out, HasSubstr("little girl")) << "the conversation is as it was";
}

TEST(Chat, CaptionsAPictureWithoutAQuestion) {
  const Outcome outcome = duet_program("chat '" + kMethodB + "'", "/image " + kScene + "\n\n");
  EXPECT_EQ(outcome.code, 0) << "the end of the input ends the conversation";
  EXPECT_THAT(outcome.out, HasSubstr("green triangle"));
}

TEST(Chat, GoesOnAfterAMistake) {
  const Outcome outcome = duet_program("chat '" + kMethodB + "'", "/image /no/such.png\n/mystery\n/image\n/image " + kScene + "\n" + kQuestion);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("/no/such.png"), HasSubstr("commands: /image FILE, /save FILE, /load FILE, /clear, /quit")));
  EXPECT_EQ(outcome.out, "green\n");
}

TEST(Chat, AFullContextEndsNeitherTheProgramNorTheConversation) {
  const Outcome outcome = duet_program("chat '" + golden("stories260K") + "' --context 12 --max-new-tokens 4", "Once upon a time there was a little girl and a dog\nOnce\n");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("at most 12"));
  EXPECT_THAT(outcome.out, Not(::testing::IsEmpty()));
}

}  // namespace end_to_end_chat
}  // namespace duet::testing
