#include <unistd.h>

#include <csignal>
#include <iostream>

#include "commands.hpp"
#include "duet/pipeline/conversation.hpp"
#include "load_model.hpp"
#include "progress.hpp"

namespace {

volatile std::sig_atomic_t interrupted = 0;  // all that a signal handler may touch

/// While it lives, Ctrl-C only sets a flag.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = SA_RESTART;  // a write under way goes on: std::cout would give up for good
    sigaction(SIGINT, &action, &previous_);
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard() { sigaction(SIGINT, &previous_, nullptr); }

 private:
  struct sigaction previous_ {};
};

/// What follows a command's name.
std::string file_of(const std::string& line) {
  const auto name = line.find_first_not_of(' ', line.find(' '));
  return name == std::string::npos ? "" : line.substr(name);
}

/// The reply as it comes, without the space that belongs before its first word.
void answer(duet::Conversation& conversation, const duet::ReplyOptions& options) {
  const InterruptGuard guard;
  bool first = true;
  conversation.reply(options, [&](std::string_view piece) {
    if (first) piece.remove_prefix(std::min(piece.find_first_not_of(' '), piece.size()));
    if (!piece.empty()) first = false;
    std::cout << piece << std::flush;
    return interrupted == 0;
  });
  std::cout << '\n';
}

}  // namespace

int chat(const ChatOptions& options) {
  const duet::Pipeline pipeline = [&] {
    const Progress progress("loading");
    return duet::Pipeline(load_model(options.model, load_options(options.weights, options.threads)));
  }();
  const duet::ModelInfo& info = pipeline.model().info();
  const duet::Index context = info.context > 0 ? std::min(options.context, info.context) : options.context;
  duet::Conversation conversation(pipeline, {.max_length = context, .kv_format = options.kv_format});
  duet::ReplyOptions reply_options;
  reply_options.max_new_tokens = options.max_new_tokens;
  reply_options.temperature = options.temperature;
  reply_options.seed = options.seed;

  const bool person = ::isatty(STDIN_FILENO) != 0;
  if (person) std::cout << info.family << ", fusion: " << info.fusion << ". /image FILE, /save FILE, /load FILE, /clear, /quit; Ctrl-C stops a reply.\n";
  std::vector<duet::Image> images;
  std::string line;
  while ((person && std::cout << "> " << std::flush), std::getline(std::cin, line)) {
    try {
      if (line == "/quit") break;
      if (line == "/clear") {
        conversation.clear();
        images.clear();
      } else if (line.starts_with("/image ")) {
        images.push_back(pipeline.prompts().open(file_of(line)));
      } else if (line.starts_with("/save ")) {
        conversation.save(file_of(line));
      } else if (line.starts_with("/load ")) {
        conversation.load(file_of(line));
        images.clear();
      } else if (line.starts_with('/')) {
        std::cerr << "commands: /image FILE, /save FILE, /load FILE, /clear, /quit\n";
      } else if (!line.empty() || !images.empty()) {
        conversation.user(line.empty() ? std::nullopt : std::optional(line), std::exchange(images, {}));
        answer(conversation, reply_options);
      }
    } catch (const duet::Error& e) {  // the conversation is as it was
      std::cerr << e.what() << '\n';
    }
  }
  return 0;
}
