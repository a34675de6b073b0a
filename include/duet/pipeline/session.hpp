#pragma once

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "duet/fusion/vision_language_model.hpp"
#include "duet/pipeline/session_parts.hpp"
#include "duet/pipeline/text_model.hpp"

namespace duet {

struct SessionOptions {
  Index max_length = 0;  ///< positions reserved for prompt and reply; 0: what the model was trained for
  /// Rows of a prompt run at once. The bits are the same for any value; memory for activations grows with it.
  Index prefill_chunk = 512;
  /// How the KV cache and, in method B, the images' keys and values are kept: what decoding reads beside the weights.
  KeyValueFormat kv_format = KeyValueFormat::kF32;
};

/// Everything that changes in one conversation with a const model: KV cache, visual memory, scratch.
///
/// `prefill` and `decode` keep a strong guarantee: when they throw, or an observer does, the session is as it was. After the
/// constructor, `decode` allocates nothing. One session belongs to one thread at a time; sessions of one model may run in many.
///
/// A decoder may read long sequences otherwise than short ones (Decoder::switch_length). Where a session comes to be on the other
/// side, by what it reads or after truncate(), it reads all its rows anew, as one prompt, into a second cache.
template <class Model>
class Session {
 public:
  using Decoder = typename Model::Decoder;
  using Memory = typename Model::Memory;

  /// Errors  kInvalidArgument for a max_length the model has no positions for
  Session(const Model& model, Compute compute, SessionOptions options)
      : model_(&model),
        options_(checked(options, model)),
        workspace_(compute),
        contents_(model, options_.kv_format, options_.max_length) {
    workspace_.reserve(decode_bytes());
  }
  Session(const Model&&, Compute, SessionOptions) = delete;  // a session must not outlive its model

  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  [[nodiscard]] Index length() const noexcept { return contents_.cache.length(); }
  [[nodiscard]] Index max_length() const noexcept { return options_.max_length; }
  [[nodiscard]] Workspace& workspace() noexcept { return workspace_; }
  [[nodiscard]] std::size_t cache_bytes() const noexcept { return contents_.cache.bytes(); }
  [[nodiscard]] const VisualMemory* visual_memory() const noexcept { return memory_of(contents_.memory); }
  /// The position of the row that is read next: behind the furthest so far, on any axis.
  [[nodiscard]] Index next_position() const noexcept { return contents_.rows.next_position(); }

  /// A memory without images.
  [[nodiscard]] static Memory empty_memory(KeyValueFormat format) { return Contents::empty_memory(format); }

  /// Reads a prompt that continues the session, with the image tokens it speaks of; returns the logits [vocab_size] of its
  /// last row, valid until the next call. `observe` sees the stages of every chunk, and may tap attention.
  ///
  /// Errors  kContextFull, kInvalidArgument (an id out of range, an empty prompt), kShapeMismatch (placeholders); the
  ///         session is then as it was
  template <class Observer = NoObserver>
  std::span<const float> prefill(const Prompt& prompt, const ImageRows& rows = {}, Observer&& observe = {}) {
    check(prompt);
    const Mark before = mark();
    try {
      if (must_switch(furthest_of(prompt) + 1)) {
        static_cast<void>(read_anew(prompt, rows, observe));  // the former cache goes
      } else {
        read(prompt, rows, furthest_of(prompt) + 1, observe);
        contents_.rows.add(prompt, rows);
      }
    } catch (...) {
      rewind(before);
      throw;
    }
    return logits();
  }

  /// Reads one more token; returns the logits [vocab_size] for the next, valid until the next call.
  ///
  /// Errors  kContextFull, kInvalidArgument; the session is then as it was
  template <class Observer = NoObserver>
  std::span<const float> decode(TokenId id, Observer&& observe = {}) {
    Session* const self = this;
    decode_together(std::span(&self, 1), std::span(&id, 1), observe);
    return logits();
  }

  /// One more token for each of several sessions of one model, in one pass that reads every weight once. Sessions may join
  /// and leave between any two steps; what each gets, in its logits(), has the bits it would get alone.
  ///
  /// Errors  kContextFull, kInvalidArgument (an id out of range, a session twice or of another model); all sessions are
  ///         then as they were
  /// Cost    as one decode while weights dominate; scratch comes from the first session's workspace
  template <class Observer = NoObserver>
  static void decode_together(std::span<Session* const> sessions, std::span<const TokenId> ids, Observer&& observe = {}) {
    check_together(sessions, ids);
    if (std::ranges::any_of(sessions, [](const Session* s) { return s->must_switch(s->next_position() + 1); })) {
      return step_and_switch(sessions, ids, observe);
    }
    if (sessions.empty()) return;
    try {
      step(sessions, ids, observe);
    } catch (...) {
      for (Session* session : sessions) session->truncate(session->contents_.rows.size());
      throw;
    }
  }

  /// The logits [vocab_size] of the row read last.
  [[nodiscard]] std::span<const float> logits() const noexcept { return contents_.logits.view().row(0); }

  /// A state to come back to.
  struct Mark {
    Index length = 0;
    Memory memory;
  };
  [[nodiscard]] Mark mark() const { return {length(), contents_.memory}; }
  /// Goes back to a state whose rows have not been written over: there has been no shorter one since.
  void rewind(const Mark& mark) noexcept {
    truncate(mark.length);
    contents_.memory = mark.memory;
  }
  /// Forgets all rows from `length` on; what is read next follows the ones before. Images' memory stays.
  void truncate(Index length) noexcept {
    contents_.cache.truncate(length);
    contents_.rows.truncate(length);
  }
  /// Forgets the text and keeps the images' memory.
  void restart() noexcept { truncate(0); }
  /// Forgets text and images.
  void clear() {
    restart();
    contents_.memory = empty_memory(options_.kv_format);
  }

  /// All that is needed to go on with the same bits: keys and values of text and images, positions and logits.
  [[nodiscard]] SessionState state() const { return state_of(parts()); }
  /// Becomes what state() was of, whatever was here before.
  /// Errors  kConfigMismatch for a session of another model or format; kContextFull when it does not fit; kMalformedFile,
  ///         kMissingTensor, kShapeMismatch, kUnsupportedDtype; the session is then as it was
  void restore(const SessionFile& file) { restore_session(file, parts()); }
  /// What a file sees of the session.
  [[nodiscard]] ConstSessionParts parts() const { return {file_model(), &contents_, memory_to_keep(contents_.memory)}; }
  [[nodiscard]] SessionParts parts() { return {file_model(), &contents_, memory_to_keep(contents_.memory), &workspace_}; }
  /// The session in a file of its own, which appears whole or not at all.
  /// Errors  kFileNotReadable when it cannot be written
  void save(const std::filesystem::path& path) const { state().save(path); }
  /// Errors  kFileNotReadable; those of restore(const SessionFile&)
  void restore(const std::filesystem::path& path) { restore(SessionFile(path)); }

 private:
  using Contents = SessionContents<Model>;

  /// Runs a prompt behind what the cache holds. `length`: 1 + the furthest position of all.
  template <class Observer>
  void read(const Prompt& prompt, const ImageRows& rows, Index length, Observer& observe) {
    contents_.switched = is_long(length);
    const auto frame = workspace_.frame();
    const MatrixView hidden = workspace_.matrix(prompt.size(), model_->decoder().hidden_size());  // [prompt, hidden_size]
    model_->fuse(prompt, rows, hidden, contents_.memory, workspace_);
    Index begin = 0;
    while (begin < prompt.size()) {
      const Index count = chunk(prompt, begin);
      const MatrixView part = hidden.rows(begin, count);
      const auto of = [&](const auto& values) {
        if (values.empty()) return std::span(values);
        return std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
      };
      const auto extras_of = [&](std::span<const ExtraRange> extras) {
        const std::span<const ExtraRange> of_chunk = of_rows(extras, begin, begin + count);
        const auto mine = workspace_.array<ExtraRange>(static_cast<Index>(of_chunk.size()));
        std::ranges::transform(of_chunk, mine.begin(), [&](const ExtraRange& e) { return ExtraRange{e.row - begin, e.keys}; });
        return std::span<const ExtraRange>(mine);
      };
      const Sequence sequence{.cache = &contents_.cache,
                              .memory = memory_of(contents_.memory),
                              .positions = of(prompt.positions),
                              .visible = of(prompt.visible),
                              .memory_spans = of(prompt.visible_images),
                              .rows = count,
                              .offsets = of(prompt.offsets),
                              .extra_visible = extras_of(prompt.extra_visible),
                              .extra_memory = extras_of(prompt.extra_visible_images),
                              .length = length};
      model_->decoder().forward(part, std::span(&sequence, 1), Phase::kPrefill, workspace_, observe);
      begin += count;
    }
    const MatrixView last = workspace_.matrix(1, hidden.cols());
    model_->decoder().normalize(hidden.rows(prompt.size() - 1, 1), last, workspace_);
    model_->decoder().logits(last, contents_.logits, Phase::kPrefill, workspace_);
  }

  template <class Observer>
  static void step(std::span<Session* const> sessions, std::span<const TokenId> ids, Observer& observe) {
    const Model& model = *sessions.front()->model_;
    Workspace& workspace = sessions.front()->workspace_;
    const auto frame = workspace.frame();
    const auto count = static_cast<Index>(sessions.size());
    const MatrixView hidden = workspace.matrix(count, model.decoder().hidden_size());  // [sessions, hidden_size]
    model.decoder().embed(ids, hidden);
    const auto sequences = workspace.array<Sequence>(count);
    const auto visible = workspace.array<kernels::KeyRange>(count), images = workspace.array<kernels::KeyRange>(count);
    const auto positions = workspace.array<Index>(count);
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      Session& s = *sessions[i];
      const VisualMemory* memory = memory_of(s.contents_.memory);
      visible[i] = {0, s.contents_.cache.length() + 1};
      images[i] = s.contents_.rows.view(memory == nullptr ? 0 : memory->num_rows());
      positions[i] = s.next_position();
      const auto extra = workspace.array<ExtraRange>(static_cast<Index>(s.contents_.rows.extra_views().size()));
      std::ranges::transform(s.contents_.rows.extra_views(), extra.begin(), [](const ExtraRange& e) { return ExtraRange{0, e.keys}; });
      sequences[i] = {.cache = &s.contents_.cache,
                      .memory = memory,
                      .positions = {&positions[i], 1},
                      .visible = {&visible[i], 1},
                      .memory_spans = {&images[i], 1},
                      .row_begin = static_cast<Index>(i),
                      .rows = 1,
                      .extra_memory = extra};
      s.contents_.switched = s.is_long(positions[i] + 1);
    }
    model.decoder().forward(hidden, sequences, Phase::kDecode, workspace, observe);
    const MatrixView normed = workspace.matrix(count, hidden.cols());
    model.decoder().normalize(hidden, normed, workspace);
    const MatrixView logits =
        count == 1 ? sessions.front()->contents_.logits.view() : workspace.matrix(count, model.decoder().vocab_size());
    model.decoder().logits(normed, logits, Phase::kDecode, workspace);
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      sessions[i]->contents_.rows.add(ids[i], positions[i], images[i]);
      if (count > 1) copy(logits.rows(static_cast<Index>(i), 1), sessions[i]->contents_.logits);
    }
  }

  [[nodiscard]] bool is_long(Index length) const noexcept { return length > Contents::switch_length(*model_); }
  /// Whether what the cache holds is of no use to a sequence of this length.
  [[nodiscard]] bool must_switch(Index length) const noexcept { return contents_.cache.length() > 0 && is_long(length) != contents_.switched; }
  /// The furthest position once a prompt is read.
  [[nodiscard]] Index furthest_of(const Prompt& prompt) const noexcept {
    Index furthest = next_position() - 1;
    for (Index i = 0; i < prompt.size(); ++i) furthest = std::max(furthest, prompt.furthest(i));
    return furthest;
  }

  /// The cache before all was read anew.
  struct Former {
    Session* session = nullptr;
    KvCache cache;
    Index length = 0;
    bool switched = false;

    void come_back() noexcept {
      session->contents_.cache = std::move(cache);
      session->contents_.switched = switched;
      session->contents_.rows.truncate(length);
    }
  };
  /// Reads all rows and those of a prompt behind them into a new cache; the session is as it was if that fails.
  template <class Observer>
  [[nodiscard]] Former read_anew(const Prompt& prompt, const ImageRows& rows, Observer& observe) {
    const auto [all, images] = contents_.rows.together_with(prompt, rows);
    KvCache fresh = model_->decoder().make_cache(options_.max_length, options_.kv_format);
    Former former{this, std::exchange(contents_.cache, std::move(fresh)), contents_.rows.size(), contents_.switched};
    try {
      read(all, Contents::kKeepsImages ? rows : images, furthest_of(prompt) + 1, observe);
      contents_.rows.add(prompt, rows);
    } catch (...) {
      former.come_back();
      throw;
    }
    return former;
  }
  /// One more token where some sessions must read all anew: those alone, the others together.
  template <class Observer>
  static void step_and_switch(std::span<Session* const> sessions, std::span<const TokenId> ids, Observer& observe) {
    std::vector<Former> formers;
    std::vector<Session*> others;
    std::vector<TokenId> others_ids;
    try {
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        Session& s = *sessions[i];
        if (!s.must_switch(s.next_position() + 1)) {
          others.push_back(&s);
          others_ids.push_back(ids[i]);
          continue;
        }
        formers.reserve(sessions.size());
        Prompt prompt = Prompt::causal({ids[i]}, s.length());
        prompt.positions = {s.next_position()};
        const VisualMemory* memory = memory_of(s.contents_.memory);
        prompt.visible_images = {s.contents_.rows.view(memory == nullptr ? 0 : memory->num_rows())};
        for (const ExtraRange& extra : s.contents_.rows.extra_views()) prompt.extra_visible_images.push_back({0, extra.keys});
        formers.push_back(s.read_anew(prompt, {}, observe));
      }
      if (!others.empty()) step(std::span<Session* const>(others), others_ids, observe);
    } catch (...) {
      for (Former& former : formers) former.come_back();
      for (Session* session : others) session->truncate(session->contents_.rows.size());
      throw;
    }
  }

  static SessionOptions checked(SessionOptions options, const Model& model) {
    const Index most = model.decoder().config().max_position_embeddings;
    if (options.max_length == 0) options.max_length = most;
    if (options.max_length < 1 || options.max_length > model.decoder().num_positions()) {
      throw Error(ErrorKind::kInvalidArgument, "max_length", std::to_string(options.max_length),
                  concat("between 1 and max_position_embeddings, ", most));
    }
    options.prefill_chunk = std::max<Index>(1, options.prefill_chunk);
    return options;
  }
  static const VisualMemory* memory_of(const Memory& memory) noexcept { return Contents::memory_of(memory); }

  [[nodiscard]] SessionModel file_model() const { return {*model_, options_.kv_format, options_.max_length}; }
  /// The memory as a file keeps it, or null where there is none to be kept.
  template <class SomeMemory>
  [[nodiscard]] static auto memory_to_keep(SomeMemory& memory) noexcept {
    static_assert(Contents::kKeepsImages || std::is_empty_v<Memory>, "duet: a session with a memory of another kind has no file");
    using Kept = std::conditional_t<std::is_const_v<SomeMemory>, const VisualMemory, VisualMemory>;
    if constexpr (Contents::kKeepsImages) {
      return static_cast<Kept*>(&memory);
    } else {
      return static_cast<Kept*>(nullptr);
    }
  }

  void check_room(Index rows) const {
    if (contents_.cache.length() + rows <= options_.max_length) return;
    throw Error(ErrorKind::kContextFull, "context", concat(contents_.cache.length(), " positions read and ", rows, " more to read"),
                concat("at most ", options_.max_length, " in all"), "start with a larger max_length, or shorten the prompt");
  }
  void check_id(TokenId id) const {
    if (id >= 0 && id < model_->decoder().num_embeddings()) return;
    throw Error(ErrorKind::kInvalidArgument, "token id", std::to_string(id),
                concat("between 0 and ", model_->decoder().num_embeddings() - 1),
                "do the tokenizer and the model belong together?");
  }
  void check_position(Index position) const {
    if (position >= 0 && position < model_->decoder().num_positions()) return;
    throw Error(ErrorKind::kContextFull, "position", std::to_string(position),
                concat("between 0 and ", model_->decoder().num_positions() - 1));
  }
  void check(const Prompt& prompt) const {
    if (prompt.ids.empty()) {
      throw Error(ErrorKind::kInvalidArgument, "prompt", "no tokens", "at least one");
    }
    check_room(prompt.size());
    for (const TokenId id : prompt.ids) check_id(id);
    for (const Index position : prompt.positions) check_position(position);
    for (std::size_t i = 0; i < prompt.offsets.size(); ++i) {
      check_position(prompt.positions[i] + prompt.offsets[i].dy);
      check_position(prompt.positions[i] + prompt.offsets[i].dx);
    }
  }

  static void check_together(std::span<Session* const> sessions, std::span<const TokenId> ids) {
    if (sessions.size() != ids.size()) {
      throw Error(ErrorKind::kInvalidArgument, "ids", std::to_string(ids.size()), concat(sessions.size(), ", one for each session"));
    }
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      if (sessions[i]->model_ != sessions.front()->model_) {
        throw Error(ErrorKind::kInvalidArgument, concat("session ", i), "one of another model", "sessions of one model");
      }
      if (std::ranges::find(sessions.first(i), sessions[i]) != sessions.begin() + static_cast<std::ptrdiff_t>(i)) {
        throw Error(ErrorKind::kInvalidArgument, concat("session ", i), "a session that is already there", "each session once");
      }
      sessions[i]->check_room(1);
      sessions[i]->check_id(ids[i]);
      sessions[i]->check_position(sessions[i]->next_position());
    }
  }

  /// Rows to run next: up to prefill_chunk, but a row that sees keys after itself keeps their rows in its chunk.
  [[nodiscard]] Index chunk(const Prompt& prompt, Index begin) const {
    const Index read = contents_.cache.length() - begin;  // slot of prompt row 0
    Index end = std::min(prompt.size(), begin + options_.prefill_chunk);
    auto extra = std::ranges::lower_bound(prompt.extra_visible, begin, {}, &ExtraRange::row);
    for (Index i = begin; i < end; ++i) {
      Index seen = prompt.visible[static_cast<std::size_t>(i)].end;
      for (; extra != prompt.extra_visible.end() && extra->row == i; ++extra) seen = std::max(seen, extra->keys.end);
      end = std::max(end, std::min(prompt.size(), seen - read));
    }
    return end - begin;
  }

  /// Scratch of one decode step, generously: every matrix a layer holds at once, for one row, and the kernels' own.
  [[nodiscard]] std::size_t decode_bytes() const {
    const auto& c = model_->decoder().config();
    const Index floats = 8 * c.hidden_size + 3 * c.intermediate_size + 2 * c.vocab_size +
                         6 * (c.num_attention_heads + c.num_key_value_heads) * c.head_dim;
    return static_cast<std::size_t>(floats) * sizeof(float) * 4 + (std::size_t{4} << 20);
  }

  const Model* model_;
  SessionOptions options_;
  Workspace workspace_;
  Contents contents_;
};

}  // namespace duet
