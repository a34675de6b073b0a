#include <chrono>
#include <cstdio>
#include <iostream>
#include <span>

#include "commands.hpp"
#include "duet/pipeline/conversation.hpp"
#include "load_model.hpp"
#include "progress.hpp"

namespace {

/// Ids of the prompt with its pictures.
std::vector<duet::TokenId> encode(const RunOptions& options, const duet::PromptEncoder& prompts, std::span<const duet::PicturePlan> plans) {
  if (!options.prompt_ids.empty()) return options.prompt_ids;
  const auto prompt = options.prompt ? std::optional<std::string_view>(*options.prompt) : std::nullopt;
  return options.raw ? prompts.encode_exactly(*prompt, plans) : prompts.encode_turn(prompt, plans, duet::PromptEncoder::Turn::kFirst);
}

/// What the model would read; needs no weights.
int show_prompt(const RunOptions& options) {
  const duet::PromptEncoder prompts = load_prompts(options.model);
  std::vector<duet::Image> images;
  for (const std::string& path : options.images) images.push_back(prompts.open(path));
  const std::vector<duet::PicturePlan> plans = prompts.plans(images);
  const std::vector<duet::TokenId> ids = encode(options, prompts, plans);
  duet::Index image_tokens = 0;
  for (const duet::PicturePlan& plan : plans) {
    image_tokens += prompts.rules().image_token_id ? prompts.processor().prompt_tokens(plan) : plan.num_tokens;
  }
  if (options.json) {
    nlohmann::ordered_json result;
    result["prompt_ids"] = ids;
    result["image_tokens"] = image_tokens;
    std::cout << result.dump() << '\n';
    return 0;
  }
  for (const duet::TokenId id : ids) std::cout << id << ' ';
  std::cout << '\n' << ids.size() << " tokens, " << image_tokens << " of images\n";
  return 0;
}

}  // namespace

int run(const RunOptions& options) {
  if (options.dry_run) return show_prompt(options);
  using duet::Index;
  constexpr Index kDefaultReply = 256;  // where neither the user nor the checkpoint says how long
  const Progress progress("loading");
  const auto start = std::chrono::steady_clock::now();
  const duet::Pipeline pipeline(load_model(options.model, load_options(options.weights, options.threads)));
  const std::chrono::duration<double, std::milli> load_time = std::chrono::steady_clock::now() - start;

  pipeline.require_text_model();
  progress.say("reading pictures");
  std::vector<duet::Image> images;
  for (const std::string& path : options.images) images.push_back(pipeline.prompts().open(path));
  const auto num_images = static_cast<Index>(images.size());
  const std::vector<duet::TokenId> ids = encode(options, pipeline.prompts(), pipeline.prompts().plans(images));

  duet::ReplyOptions reply_options;
  reply_options.temperature = options.temperature;
  reply_options.top_k = options.top_k;
  reply_options.top_p = options.top_p;
  reply_options.min_p = options.min_p;
  reply_options.repetition_penalty = options.repetition_penalty;
  reply_options.seed = options.seed;
  reply_options.stop = options.stop;
  const Index context = pipeline.model().info().context, length = static_cast<Index>(ids.size());
  const Index wanted = options.max_new_tokens.value_or(pipeline.defaults().max_new_tokens.value_or(kDefaultReply));
  // What was asked for must fit; a default may shrink to the room there is.
  reply_options.max_new_tokens = options.max_new_tokens ? wanted : std::max<Index>(1, std::min(wanted, context - length + 1));
  const Index positions = length + *reply_options.max_new_tokens - 1;
  if (positions > context && context > 0) {
    throw duet::Error(duet::ErrorKind::kContextFull, "context",
                      duet::concat(length, " tokens of the prompt and ", *reply_options.max_new_tokens, " of the reply"),
                      duet::concat("at most ", context, " in all, as config.json says"), "ask for fewer with --max-new-tokens");
  }
  duet::Conversation conversation(pipeline, {.max_length = positions, .kv_format = options.kv_format});
  conversation.user_ids(ids, std::move(images));

  progress.say(num_images > 0 ? "looking and reading" : "reading");
  bool first = true;
  const duet::Reply reply = conversation.reply(reply_options, [&](std::string_view piece) {
    if (options.json) return true;
    if (first) {
      progress.clear();
      piece.remove_prefix(std::min(piece.find_first_not_of(' '), piece.size()));  // a space before the first word belongs to the prompt
      first = piece.empty();
    }
    std::cout << piece << std::flush;
    return true;
  });
  progress.clear();
  if (!options.json) {
    if (pipeline.tokenizer() == nullptr) {
      for (const duet::TokenId id : reply.ids) std::cout << id << ' ';
    }
    std::cout << '\n';
    return 0;
  }
  const duet::ReplyStatistics& cost = conversation.statistics();
  static constexpr const char* kReasons[] = {"eos", "length", "stop", "callback"};
  nlohmann::ordered_json result;
  const std::size_t text_begin = std::min(reply.text.find_first_not_of(' '), reply.text.size());
  result["text"] = reply.text.substr(text_begin);
  result["ids"] = reply.ids;
  result["finish_reason"] = kReasons[static_cast<int>(reply.reason)];
  result["counts"] = {{"prompt_tokens", cost.prompt_tokens}, {"image_tokens", cost.image_tokens}, {"new_tokens", reply.ids.size()}};
  result["milliseconds"] = {{"load", load_time.count()}, {"image", cost.image_ms}, {"prefill", cost.prefill_ms}, {"decode", cost.decode_ms}};
  std::cout << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  return 0;
}
