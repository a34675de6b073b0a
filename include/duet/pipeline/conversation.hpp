#pragma once

#include <algorithm>
#include <chrono>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/image_cache.hpp"
#include "duet/pipeline/pipeline.hpp"

namespace duet {

/// What a reply cost.
struct ReplyStatistics {
  Index prompt_tokens = 0;  ///< rows read before the reply, image tokens included
  Index image_tokens = 0;   ///< rows that the images became
  double image_ms = 0, prefill_ms = 0, decode_ms = 0;
};

/// A conversation about pictures: turns of text and images in, replies out. Everything that changes lives here. A picture that
/// comes again is not encoded again, nor, in method B, are its keys and values.
///
///     auto chat = pipeline.start({.max_length = 2048});
///     chat.user("What is in this picture?", Image::open("cat.jpg"));
///     chat.reply({.max_new_tokens = 64}, [](std::string_view piece) { std::cout << piece; return true; });
///
/// After an error the conversation is as it was before the call. Only an exception of a reply's callback is no such error: it
/// ends the reply as returning false does, and is passed on.
class Conversation {
 public:
  Conversation(const Pipeline& pipeline, SessionOptions options)
      : pipeline_(&pipeline),
        session_(pipeline.model().start(options)),
        workspace_(pipeline.model().compute()) {}
  Conversation(const Pipeline&&, SessionOptions) = delete;  // it must not outlive its pipeline

  [[nodiscard]] const ReplyStatistics& statistics() const noexcept { return statistics_; }
  [[nodiscard]] const AnySession& session() const noexcept { return *session_; }

  /// The user's turn, in the words of the checkpoint's chat template if there is one. Without text the images are captioned.
  /// Errors  those of Pipeline::preprocess, Pipeline::encode_chat and Pipeline::encode_turn
  void user(std::optional<std::string> text, std::vector<Image> images = {}) {
    const auto num_images = static_cast<Index>(images.size());
    if (pipeline_->has_chat_template() && !(text && pipeline_->spells_images_out(*text))) return user_in_chat(text, std::move(images));
    const bool fresh = pipeline_->model().rules().decoder_start_token_id.has_value();
    const auto turn = fresh || session_->length() == 0 ? Pipeline::Turn::kFirst : Pipeline::Turn::kLater;
    user_ids(pipeline_->encode_turn(text ? std::optional<std::string_view>(*text) : std::nullopt, num_images, turn), std::move(images));
  }
  void user(std::string text, Image image) {
    std::vector<Image> images;
    images.push_back(std::move(image));
    user(std::optional(std::move(text)), std::move(images));
  }
  /// The user's turn as ids, image placeholders expanded.
  void user_ids(std::vector<TokenId> ids, std::vector<Image> images = {}) {
    VisualInput input;
    if (!images.empty()) input = pipeline_->preprocess(images);
    std::vector<ImageKey> keys = ImageKey::all_of(input);
    turn_ = Turn{std::move(ids), std::move(input), std::move(keys), {}, {}, Begins::kBehind};
  }

  /// Answers the user's turn. `callback` gets the text as it grows, in whole characters; returning false ends the reply.
  /// Errors  kContextFull, before anything runs, when turn and reply do not fit; kShapeMismatch; kInvalidArgument
  Reply reply(const ReplyOptions& options = {}, const PieceCallback& callback = {}) {
    if (!turn_) throw Error(ErrorKind::kInvalidArgument, "reply", "no turn of the user's", "user() first");
    const bool fresh = pipeline_->model().rules().decoder_start_token_id.has_value();
    const bool anew = turn_->begins == Begins::kAnew;
    const Index length = fresh || anew ? 0 : session_->length();
    std::vector<TokenId> ids = length == 0 ? std::vector<TokenId>{} : unread_;
    ids.insert(ids.end(), turn_->ids.begin(), turn_->ids.end());
    Sampler sampler = pipeline_->make_sampler(options);
    const Index room = session_->max_length() - length - static_cast<Index>(ids.size()) + 1;
    const std::optional<Index> wanted = options.max_new_tokens ? options.max_new_tokens : pipeline_->defaults().max_new_tokens;
    const Index max_new_tokens = options.max_new_tokens ? *options.max_new_tokens : std::min(room, wanted.value_or(room));
    if (room < std::max<Index>(1, max_new_tokens)) {
      throw Error(ErrorKind::kContextFull, "context",
                  concat(length, " positions read, ", ids.size(), " of the prompt and ", std::max<Index>(1, max_new_tokens), " of the reply"),
                  concat("at most ", session_->max_length(), " in all"), "ask for a shorter reply, or start anew");
    }

    using Clock = std::chrono::steady_clock;
    const auto milliseconds = [](Clock::time_point from, Clock::time_point to) {
      return std::chrono::duration<double, std::milli>(to - from).count();
    };
    const auto start = Clock::now();
    const std::vector<ImageKey>& keys = turn_->keys;
    const bool remembered = fresh && keys == in_memory_;
    ImageRows rows;
    if (!keys.empty() && !remembered) {
      rows = images_.rows(turn_->input, keys, [&](const VisualInput& image) { return pipeline_->model().encode(image, workspace_); });
    }
    const auto encoded = Clock::now();
    const Index memory_rows = rows.empty() ? session_->num_image_rows() : rows.rows.rows();
    const Index image_tokens = keys.empty() ? 0 : memory_rows;
    const Prompt prompt = pipeline_->make_prompt(ids, length, memory_rows);
    if (fresh) session_->restart();
    if (anew) session_->clear();
    const std::span<const float> logits = session_->prefill(prompt, rows);
    if (fresh && !rows.empty()) in_memory_ = keys;
    const auto read = Clock::now();
    for (const TokenId id : ids) sampler.see(id);
    if (anew) read_.clear();
    read_.insert(read_.end(), turn_->ids.begin(), turn_->ids.end());
    const bool worded = !turn_->messages.empty();
    if (worded) messages_ = std::move(turn_->messages);
    pictures_.insert(pictures_.end(), std::make_move_iterator(turn_->pictures.begin()), std::make_move_iterator(turn_->pictures.end()));
    turn_.reset();
    unread_.clear();

    std::exception_ptr thrown;
    const PieceCallback guarded = [&](std::string_view piece) {
      if (thrown) return false;
      try {
        return callback(piece);
      } catch (...) {
        thrown = std::current_exception();
        return false;
      }
    };
    Reply reply = generate(*session_, logits, sampler, max_new_tokens, pipeline_->defaults().eos_token_ids, pipeline_->tokenizer(),
                           options.stop, callback ? guarded : callback);
    statistics_ = {prompt.size(), image_tokens, milliseconds(start, encoded), milliseconds(encoded, read),
                   milliseconds(read, Clock::now())};
    // The last token was drawn but not read; the next turn begins with it, and with the end of text that closed the reply.
    if (!reply.ids.empty() && !reply.end_of_text) unread_.push_back(reply.ids.back());
    if (reply.end_of_text) unread_.push_back(*reply.end_of_text);
    read_.insert(read_.end(), reply.ids.begin(), reply.ids.end());
    if (reply.end_of_text) read_.push_back(*reply.end_of_text);
    if (worded) messages_.push_back({"assistant", {{ChatPart::Kind::kText, reply.text}}});
    if (thrown) std::rethrow_exception(thrown);
    return reply;
  }

  /// Forgets everything said and seen.
  void clear() {
    session_->clear();
    in_memory_.clear();
    turn_.reset();
    unread_.clear();
    read_.clear();
    messages_.clear();
    pictures_.clear();
  }

 private:
  enum class Begins : unsigned char { kBehind, kAnew };
  struct Turn {
    std::vector<TokenId> ids;
    VisualInput input;
    std::vector<ImageKey> keys;         // of the input's pictures
    std::vector<ChatMessage> messages;  // the conversation with this turn, where a chat template words it
    std::vector<Image> pictures;        // this turn's
    Begins begins;                      // behind what was read, or with the whole conversation
  };

  /// A template words a conversation as a whole. What was read before stays where the new wording begins with it; where it does
  /// not (the template leaves out what the assistant thought, say), the conversation is read anew.
  void user_in_chat(const std::optional<std::string>& text, std::vector<Image> images) {
    std::vector<ChatMessage> messages = messages_;
    messages.push_back(pipeline_->user_message(text ? std::optional<std::string_view>(*text) : std::nullopt, static_cast<Index>(images.size())));
    std::vector<TokenId> ids = pipeline_->encode_chat(messages);
    const bool behind = !read_.empty() && ids.size() > read_.size() && std::equal(read_.begin(), read_.end(), ids.begin());
    std::vector<Image> shown;
    if (behind) {
      ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(read_.size()));
    } else {
      shown = pictures_;
    }
    shown.insert(shown.end(), images.begin(), images.end());
    user_ids(std::move(ids), std::move(shown));
    turn_->messages = std::move(messages);
    turn_->pictures = std::move(images);
    turn_->begins = behind ? Begins::kBehind : Begins::kAnew;
  }

  const Pipeline* pipeline_;
  std::unique_ptr<AnySession> session_;
  Workspace workspace_;
  std::optional<Turn> turn_;
  std::vector<TokenId> unread_;
  std::vector<TokenId> read_;            // all ids so far, those of replies included
  std::vector<ChatMessage> messages_;    // what they say, where a chat template words it
  std::vector<Image> pictures_;          // in those messages
  ImageCache images_;
  std::vector<ImageKey> in_memory_;  // the pictures that the session's visual memory holds (method B)
  ReplyStatistics statistics_;
};

}  // namespace duet
