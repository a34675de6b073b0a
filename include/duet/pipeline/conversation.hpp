#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/pipeline/chat_history.hpp"
#include "duet/pipeline/image_cache.hpp"
#include "duet/pipeline/pipeline.hpp"

namespace duet {

/// What a reply cost.
struct ReplyStatistics {
  Index prompt_tokens = 0;  ///< rows read before the reply, image tokens included
  Index image_tokens = 0;   ///< rows that the images became
  Index reused_tokens = 0;  ///< rows of the prompt that had been read before and were not read again
  double image_ms = 0, prefill_ms = 0, decode_ms = 0;
};

/// A conversation about pictures: turns of text and images in, replies out. Everything that changes lives here. A picture that
/// comes again is not encoded again, nor, in method B, are its keys and values; and a prompt is read from where it differs from
/// the one before: after restart(), and, in method B, whose turns each begin anew, always.
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
  /// Errors  kUnsupportedModel for a model that writes no text; those of PromptEncoder
  void user(std::optional<std::string> text, std::vector<Image> images = {}) {
    pipeline_->require_text_model();
    const PromptEncoder& prompts = pipeline_->prompts();
    if (prompts.has_chat_template() && !(text && prompts.spells_images_out(*text))) return user_in_chat(text, std::move(images));
    const auto turn = begins_anew() ? PromptEncoder::Turn::kFirst : PromptEncoder::Turn::kLater;
    const auto words = text ? std::optional<std::string_view>(*text) : std::nullopt;
    std::vector<TokenId> ids = prompts.encode_turn(words, prompts.plans(images), turn);  // before the images are moved
    user_ids(std::move(ids), std::move(images));
  }
  void user(std::string text, Image image) {
    std::vector<Image> images;
    images.push_back(std::move(image));
    user(std::optional(std::move(text)), std::move(images));
  }
  /// The user's turn as ids, image placeholders expanded.
  void user_ids(std::vector<TokenId> ids, std::vector<Image> images = {}) {
    VisualInput input;
    if (!images.empty()) input = pipeline_->prompts().preprocess(images);
    std::vector<ImageKey> keys = ImageKey::all_of(input);
    turn_ = Turn{std::move(ids), std::move(input), std::move(keys), {}, {}, {}, begins_anew() ? Begins::kAnew : Begins::kBehind};
  }

  /// Answers the user's turn. `callback` gets the text as it grows, in whole characters; returning false ends the reply.
  /// Errors  kContextFull, before anything runs, when turn and reply do not fit; kShapeMismatch; kInvalidArgument; those of
  ///         Pipeline::tokenizer
  Reply reply(const ReplyOptions& options = {}, const PieceCallback& callback = {}) {
    if (!turn_) throw Error(ErrorKind::kInvalidArgument, "reply", "no turn of the user's", "user() first");
    const std::vector<ImageKey>& keys = turn_->keys;
    const bool anew = turn_->begins == Begins::kAnew;
    const Index length = anew ? common_rows() : session_->length();  // already read
    std::vector<TokenId> ids = anew ? std::vector<TokenId>{} : unread_;
    ids.insert(ids.end(), turn_->ids.begin(), turn_->ids.end());
    if (anew) ids.erase(ids.begin(), ids.begin() + length);
    static_cast<void>(pipeline_->defaults().with(options));  // what is wrong with the options is told before anything runs
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
    const ImageRows rows = rows_to_read(anew ? placeholders(std::span(turn_->ids).first(static_cast<std::size_t>(length))) : 0);
    const auto encoded = Clock::now();
    const Index memory_rows = rows.empty() ? session_->num_image_rows() : rows.rows.rows() - rows.num_thumbnail_rows();
    const Index image_tokens = keys.empty() ? 0 : placeholders(turn_->ids) + (keeps_memory() ? memory_rows : 0);
    const Prompt prompt = anew ? pipeline_->make_prompt(turn_->ids, turn_->input.pictures, {}, memory_rows).tail(length)
                               : pipeline_->make_prompt(ids, turn_->input.pictures, {length, session_->next_position()}, memory_rows);
    if (anew) {
      session_->truncate(length);
      read_.resize(static_cast<std::size_t>(length));
      said_.ids.clear();  // no longer all read: after an error the next turn begins anew, too
    }
    const std::function<void()> back = session_->mark();
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
    Clock::time_point read;
    Reply reply;
    try {
      const std::span<const float> logits = session_->prefill(prompt, rows);
      read = Clock::now();
      Sampler sampler = pipeline_->make_sampler(options);  // wants the tokenizer, which until here may still be being read
      for (const TokenId id : anew ? turn_->ids : ids) sampler.see(id);
      reply = generate(*session_, logits, sampler, max_new_tokens, pipeline_->defaults().eos_token_ids, pipeline_->tokenizer(),
                       options.stop, callback ? guarded : callback);
    } catch (...) {
      back();
      throw;
    }
    statistics_ = {prompt.size(), image_tokens, anew ? length : 0, milliseconds(start, encoded), milliseconds(encoded, read),
                   milliseconds(read, Clock::now())};
    // Rows of a reply, and those behind them, have other bits than a prompt would have in their place.
    if (static_cast<Index>(read_.size()) == length) {
      read_.insert(read_.end(), ids.begin(), ids.end());
      if (anew) read_pictures_.clear();
      read_pictures_.insert(read_pictures_.end(), keys.begin(), keys.end());
    }
    if (!rows.empty() && keeps_memory()) in_memory_ = keys;
    remember(reply);
    turn_.reset();
    restarted_ = false;
    // The last token was drawn but not read; the next turn begins with it, and with the end of text that closed the reply.
    unread_.clear();
    if (!reply.ids.empty() && !reply.end_of_text) unread_.push_back(reply.ids.back());
    if (reply.end_of_text) unread_.push_back(*reply.end_of_text);
    if (thrown) std::rethrow_exception(thrown);
    return reply;
  }

  /// Begins a conversation that may begin as the one before did, whose beginning is then not read again: as much of the next
  /// prompt as has the same ids and pictures.
  void restart() {
    if (keeps_memory()) return clear();  // turns begin anew in any case: only pictures would be left
    turn_.reset();
    unread_.clear();
    said_ = {};
    restarted_ = true;
  }
  /// What was said and seen, in a file that appears whole or not at all. A turn that waits for its reply is not kept.
  /// Errors  kFileNotReadable when it cannot be written
  void save(const std::filesystem::path& path) const {
    SessionState state = state_of(std::as_const(*session_).parts());
    state.add_ids("conversation.unread", unread_);
    state.add_ids("conversation.read", read_);
    state.add("conversation.read_pictures", numbers_of(read_pictures_));
    state.add("conversation.in_memory", numbers_of(in_memory_));
    state.add("conversation.restarted", std::vector<std::int64_t>{restarted_ ? 1 : 0});
    said_.save(state);
    state.save(path);
  }
  /// Goes on where save() was called, with the same bits; what was here before is forgotten.
  /// Errors  kFileNotReadable; those of Session::restore; the conversation is then as it was
  void load(const std::filesystem::path& path) {
    const SessionFile file(path);
    std::vector<TokenId> unread = file.ids("conversation.unread"), read = file.ids("conversation.read");
    std::vector<ImageKey> read_pictures = keys_of(file, "conversation.read_pictures"), in_memory = keys_of(file, "conversation.in_memory");
    const bool restarted = file.numbers("conversation.restarted") == std::vector<std::int64_t>{1};
    ChatHistory said = ChatHistory::load(file);
    if (read.size() > file.numbers("positions").size()) {
      throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor conversation.read"), concat(read.size(), " ids"),
                  "at most as many as there are positions");
    }
    restore_session(file, session_->parts());
    unread_ = std::move(unread);
    read_ = std::move(read);
    read_pictures_ = std::move(read_pictures);
    in_memory_ = std::move(in_memory);
    restarted_ = restarted;
    said_ = std::move(said);
    turn_.reset();
  }
  /// Forgets everything said and seen.
  void clear() {
    session_->clear();
    in_memory_.clear();
    read_.clear();
    read_pictures_.clear();
    turn_.reset();
    unread_.clear();
    said_ = {};
    restarted_ = false;
  }

 private:
  enum class Begins : unsigned char { kBehind, kAnew };
  struct Turn {
    std::vector<TokenId> ids;
    VisualInput input;
    std::vector<ImageKey> keys;         // of the input's pictures
    std::vector<ChatMessage> messages;  // the conversation with this turn, where a chat template words it
    std::vector<PicturePlan> plans;     // of all pictures in the messages
    std::vector<Image> pictures;        // this turn's
    Begins begins;                      // behind what was read, or with the whole prompt
  };

  /// A template words a conversation as a whole. What was read before stays where the new wording begins with it; where it does
  /// not (the template leaves out what the assistant thought, say), the conversation is read anew, from where it differs: without its
  /// pictures only if the session still holds what they became.
  void user_in_chat(const std::optional<std::string>& text, std::vector<Image> images) {
    const PromptEncoder& prompts = pipeline_->prompts();
    std::vector<ChatMessage> messages = said_.messages;
    messages.push_back(prompts.user_message(text ? std::optional<std::string_view>(*text) : std::nullopt, static_cast<Index>(images.size())));
    std::vector<PicturePlan> plans = said_.plans;
    for (const PicturePlan& plan : prompts.plans(images)) plans.push_back(plan);
    std::vector<TokenId> ids = prompts.encode_chat(messages, plans);
    const bool behind = !keeps_memory() && !said_.ids.empty() && ids.size() > said_.ids.size() && std::ranges::equal(said_.ids, std::span(ids).first(said_.ids.size()));
    const bool lost = !behind && said_.plans.size() > said_.pictures.size();  // a file keeps no pictures, but what they are known by
    const std::vector<ImageKey>& known = keeps_memory() ? in_memory_ : read_pictures_;
    if (lost && known.size() != said_.plans.size()) throw lost_pictures();
    if (behind) ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(said_.ids.size()));
    std::vector<Image> shown;
    if (!behind && !lost) shown = said_.pictures;
    shown.insert(shown.end(), images.begin(), images.end());
    user_ids(std::move(ids), std::move(shown));
    if (lost) {
      turn_->keys.insert(turn_->keys.begin(), known.begin(), known.end());
      turn_->input.put_before(said_.plans);
    }
    turn_->messages = std::move(messages);
    turn_->plans = std::move(plans);
    turn_->pictures = std::move(images);
    turn_->begins = behind ? Begins::kBehind : Begins::kAnew;
  }
  static Error lost_pictures() {
    return {ErrorKind::kInvalidArgument, "conversation", "a turn before which all must be read anew, and pictures that a file does not keep",
            "a conversation that was not loaded from a file", "begin anew"};
  }
  /// Adds the turn and its reply to what was said, where a chat template words it.
  void remember(const Reply& reply) {
    if (turn_->messages.empty()) return;
    said_.ids.insert(said_.ids.end(), turn_->ids.begin(), turn_->ids.end());
    said_.ids.insert(said_.ids.end(), reply.ids.begin(), reply.ids.end());
    if (reply.end_of_text) said_.ids.push_back(*reply.end_of_text);
    said_.messages = std::move(turn_->messages);
    said_.messages.push_back({"assistant", {{ChatPart::Kind::kText, reply.text}}});
    said_.plans = std::move(turn_->plans);
    said_.pictures.insert(said_.pictures.end(), std::make_move_iterator(turn_->pictures.begin()), std::make_move_iterator(turn_->pictures.end()));
  }

  static constexpr std::size_t kKeyNumbers = 5;
  static std::vector<std::int64_t> numbers_of(std::span<const ImageKey> keys) {
    std::vector<std::int64_t> numbers;
    for (const ImageKey& key : keys) {
      for (const std::int64_t n : {std::bit_cast<std::int64_t>(key.low), std::bit_cast<std::int64_t>(key.high), std::int64_t{key.num_channels},
                                   std::int64_t{key.height}, std::int64_t{key.width}}) {
        numbers.push_back(n);
      }
    }
    return numbers;
  }
  static std::vector<ImageKey> keys_of(const SessionFile& file, const std::string& name) {
    const std::vector<std::int64_t> numbers = file.numbers(name);
    if (numbers.size() % kKeyNumbers != 0) {
      throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor ", name), concat(numbers.size(), " numbers"), "five for each picture");
    }
    std::vector<ImageKey> keys;
    for (std::size_t i = 0; i < numbers.size(); i += kKeyNumbers) {
      keys.push_back({std::bit_cast<std::uint64_t>(numbers[i]), std::bit_cast<std::uint64_t>(numbers[i + 1]), numbers[i + 2], numbers[i + 3], numbers[i + 4]});
    }
    return keys;
  }
  [[nodiscard]] PictureRows picture_rows() const { return pipeline_->model().rules().picture_rows; }
  /// Whether pictures, or tiles of them, are in a visual memory (method B, hybrids).
  [[nodiscard]] bool keeps_memory() const { return picture_rows() != PictureRows::kInPrompt; }
  /// Whether the turn's ids are the whole prompt.
  [[nodiscard]] bool begins_anew() const { return keeps_memory() || restarted_ || session_->length() == 0; }

  [[nodiscard]] bool is_placeholder(TokenId id) const {
    return picture_rows() != PictureRows::kInMemory && pipeline_->prompts().processor().is_image_token(id);
  }
  [[nodiscard]] Index placeholders(std::span<const TokenId> ids) const {
    return std::ranges::count_if(ids, [this](TokenId id) { return is_placeholder(id); });
  }

  /// How many rows of a prompt that begins anew the session has already read, as a prompt, and with the same pictures. The
  /// last row is always read: its logits are wanted.
  [[nodiscard]] Index common_rows() const {
    const std::vector<TokenId>& ids = turn_->ids;
    const std::vector<ImageKey>& keys = turn_->keys;
    if (keeps_memory() && !keys.empty() && keys != in_memory_) return 0;
    if (pipeline_->prompts().processor().reads_ahead()) return 0;
    const std::size_t most = std::min(read_.size(), ids.size() - std::min<std::size_t>(1, ids.size()));
    if (picture_rows() == PictureRows::kInBoth) {  // a hybrid's pictures are read together
      std::size_t common = 0;
      while (common < most && ids[common] == read_[common]) ++common;
      const auto same = std::span(ids).first(common);
      if (placeholders(same) == placeholders(ids)) return static_cast<Index>(common);
      return std::ranges::find_if(same, [this](TokenId id) { return is_placeholder(id); }) - same.begin();
    }
    std::size_t picture = 0;
    Index row = 0;  // of the picture
    for (std::size_t i = 0; i < most; ++i) {
      if (ids[i] != read_[i]) return static_cast<Index>(i);
      if (!is_placeholder(ids[i])) continue;
      if (picture >= std::min(keys.size(), read_pictures_.size()) || keys[picture] != read_pictures_[picture]) return static_cast<Index>(i);
      if (++row < turn_->input.pictures[picture].num_tokens) continue;
      row = 0;
      ++picture;
    }
    return static_cast<Index>(most);
  }

  /// The image tokens of the turn's pictures without the first `skip`, which the session has read (method A); none when the
  /// memory holds them all (method B), nor when it does and thumbnails have been read (hybrids).
  [[nodiscard]] ImageRows rows_to_read(Index skip) {
    const auto encode = [&](const VisualInput& image) {
      if (image.crops.empty()) throw lost_pictures();
      return pipeline_->model().encode(image, workspace_);
    };
    const VisualInput& input = turn_->input;
    const bool read_thumbnails = skip > 0 || picture_rows() == PictureRows::kInMemory;
    if (turn_->keys.empty() || (keeps_memory() && turn_->keys == in_memory_ && read_thumbnails)) return {};
    if (skip == 0) return images_.rows(input, turn_->keys, encode);
    Index first = 0;  // picture that is not wholly read
    while (first < input.num_pictures() && skip >= input.pictures[static_cast<std::size_t>(first)].num_tokens) {
      skip -= input.pictures[static_cast<std::size_t>(first++)].num_tokens;
    }
    if (first == input.num_pictures()) return {};
    const ImageRows rows = images_.rows(input.part(first, input.num_pictures() - first),
                                        std::span(turn_->keys).subspan(static_cast<std::size_t>(first)), encode);
    return {Matrix::clone(rows.rows.view().rows(skip, rows.rows.rows() - skip)), {}};
  }

  const Pipeline* pipeline_;
  std::unique_ptr<AnySession> session_;
  Workspace workspace_;
  std::optional<Turn> turn_;
  std::vector<TokenId> unread_;
  std::vector<TokenId> read_;            // what the session's first rows are, as far as they were read as a prompt
  std::vector<ImageKey> read_pictures_;  // those of read_'s placeholders (method A)
  bool restarted_ = false;               // the session holds rows, but the next turn is a first one
  ChatHistory said_;
  ImageCache images_;
  std::vector<ImageKey> in_memory_;  // the pictures that the session's visual memory holds (method B)
  ReplyStatistics statistics_;
};

}  // namespace duet
