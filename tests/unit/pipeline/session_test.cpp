#include "duet/pipeline/session.hpp"

#include <gmock/gmock.h>

namespace duet {
namespace pipeline_session {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Step {
  Index rows, first_position, first_end, last_end;
  Phase phase;
  bool operator==(const Step&) const = default;
};

/// A decoder that computes nothing and remembers how it was called.
struct FakeDecoder {
  static constexpr bool kReadsImages = true;
  std::vector<Step>* steps = nullptr;
  DecoderConfig sizes = [] {
    DecoderConfig config;
    config.max_position_embeddings = 100;
    config.vocab_size = 7;
    return config;
  }();

  [[nodiscard]] const DecoderConfig& config() const { return sizes; }
  [[nodiscard]] Index hidden_size() const { return 2; }
  [[nodiscard]] Index vocab_size() const { return sizes.vocab_size; }
  [[nodiscard]] Index num_embeddings() const { return sizes.vocab_size; }
  [[nodiscard]] Index num_positions() const { return sizes.max_position_embeddings; }
  [[nodiscard]] KvCache make_cache(Index capacity, KeyValueFormat) const { return {1, capacity, 1, 2}; }
  void embed(std::span<const TokenId>, MatrixView) const {}
  template <class Observer>
  void forward(MatrixView hidden, std::span<const Sequence> sequences, Phase phase, Workspace&, Observer&&) const {
    const Sequence& s = sequences[0];
    EXPECT_EQ(hidden.rows(), s.rows);
    steps->push_back({s.rows, s.positions.front(), s.visible.front().end, s.visible.back().end, phase});
    s.cache->advance(s.rows);
  }
  void normalize(ConstMatrixView, MatrixView, Workspace&) const {}
  void logits(ConstMatrixView, MatrixView, Phase, Workspace&) const {}
};

struct FakeModel {
  using Decoder = FakeDecoder;
  struct FusionPolicy {
    static const VisualMemory* memory_of(const VisualMemory& memory) { return &memory; }
  };
  using Memory = VisualMemory;
  FakeDecoder parts;

  [[nodiscard]] const FakeDecoder& decoder() const { return parts; }
  void fuse(const Prompt&, const ImageRows& rows, MatrixView, VisualMemory& memory, Workspace&) const {
    if (rows.rows.cols() == 1) throw Error(ErrorKind::kShapeMismatch, "image", "1 column", "2");
    if (!rows.empty()) memory = {1, rows.rows.rows(), 1, 2};
  }
};

class SessionTest : public ::testing::Test {
 protected:
  Session<FakeModel> session(SessionOptions options) { return {model_, {&kernels::best_kernel_table(), &threads_}, options}; }
  template <class Call>
  static Error error_of(Call&& call) {
    try {
      call();
    } catch (const Error& e) {
      return e;
    }
    return {ErrorKind::kMalformedFile, "nothing was thrown", "", ""};
  }
  [[nodiscard]] std::vector<Index> rows_run() const {
    std::vector<Index> rows;
    for (const Step& step : steps_) rows.push_back(step.rows);
    return rows;
  }

  std::vector<Step> steps_;
  FakeModel model_{FakeDecoder{&steps_}};
  Threads threads_{1};
};

TEST_F(SessionTest, ReadsPromptsInChunks) {
  auto s = session({.max_length = 40, .prefill_chunk = 4});
  s.prefill(Prompt::causal(std::vector<TokenId>(10, 1)));
  EXPECT_THAT(steps_, ElementsAre(Step{4, 0, 1, 4, Phase::kPrefill}, Step{4, 4, 5, 8, Phase::kPrefill}, Step{2, 8, 9, 10, Phase::kPrefill}));
  EXPECT_EQ(s.length(), 10);
}

TEST_F(SessionTest, AChunkNeverCutsWhatSeesAhead) {
  struct Case {
    Index chunk;
    std::vector<Index> rows;
  };
  for (const Case& c : {Case{3, {3, 6, 1}}, Case{4, {9, 1}}, Case{1, {1, 1, 1, 6, 1}}, Case{9, {9, 1}}, Case{512, {10}}}) {
    steps_.clear();
    auto s = session({.max_length = 40, .prefill_chunk = c.chunk});
    s.prefill(Prompt::causal({1, 1, 1, 1, 1}));  // the prompt need not begin at position 0
    steps_.clear();
    Prompt prompt = Prompt::causal(std::vector<TokenId>(10, 1), 5);
    for (std::size_t i = 3; i < 6; ++i) prompt.visible[i].end = 5 + 7;  // two ranges that overlap
    for (std::size_t i = 6; i < 9; ++i) prompt.visible[i].end = 5 + 9;
    s.prefill(prompt);
    EXPECT_EQ(rows_run(), c.rows) << c.chunk;
  }
}

TEST_F(SessionTest, DecodesBehindTheLastPosition) {
  auto s = session({.max_length = 40});
  Prompt prompt = Prompt::causal({1, 2, 3});
  prompt.positions = {0, 1, 7};  // as after a picture in M-RoPE
  s.prefill(prompt);
  steps_.clear();
  s.decode(4);
  s.decode(5);
  EXPECT_THAT(steps_, ElementsAre(Step{1, 8, 4, 4, Phase::kDecode}, Step{1, 9, 5, 5, Phase::kDecode}));
  s.restart();
  steps_.clear();
  s.decode(1);
  EXPECT_THAT(steps_, ElementsAre(Step{1, 0, 1, 1, Phase::kDecode}));
}

TEST_F(SessionTest, AFullContextNamesItsNumbersBeforeAnythingRuns) {
  auto s = session({.max_length = 8});
  s.prefill(Prompt::causal({1, 2, 3, 4, 5, 6}));
  steps_.clear();
  const Error full = error_of([&] { s.prefill(Prompt::causal({1, 2, 3}, 6)); });
  EXPECT_EQ(full.kind(), ErrorKind::kContextFull);
  EXPECT_THAT(full.got(), AllOf(HasSubstr("6 positions read"), HasSubstr("3 more")));
  EXPECT_THAT(full.expected(), HasSubstr("8"));
  EXPECT_TRUE(steps_.empty());
  EXPECT_EQ(s.length(), 6);
  s.prefill(Prompt::causal({1, 2}, 6));  // what fits still fits
  EXPECT_EQ(error_of([&] { s.decode(1); }).kind(), ErrorKind::kContextFull);
  EXPECT_EQ(s.length(), 8);
}

TEST_F(SessionTest, PositionsEndWhereTheModelsDo) {
  auto s = session({.max_length = 20});
  Prompt prompt = Prompt::causal({1, 2});
  prompt.positions = {98, 100};
  EXPECT_THAT(error_of([&] { s.prefill(prompt); }).what(), HasSubstr("position: got 100, expected between 0 and 99"));
  prompt.positions = {-1, 0};
  EXPECT_EQ(error_of([&] { s.prefill(prompt); }).kind(), ErrorKind::kContextFull);
  prompt.positions = {97, 98};
  s.prefill(prompt);
  s.decode(1);
  EXPECT_EQ(error_of([&] { s.decode(1); }).kind(), ErrorKind::kContextFull);
  EXPECT_EQ(s.length(), 3);
}

TEST_F(SessionTest, AfterAnErrorItIsAsItWas) {
  auto s = session({.max_length = 20});
  s.prefill(Prompt::causal({1, 2}), {Matrix(5, 2), {{0, 5}}});
  steps_.clear();
  EXPECT_EQ(error_of([&] { s.prefill(Prompt()); }).kind(), ErrorKind::kInvalidArgument);
  for (const TokenId id : {-1, 7, 1 << 30}) {
    EXPECT_THAT(error_of([&] { s.prefill(Prompt::causal({1, id}, 2)); }).what(), HasSubstr(std::to_string(id)));
    EXPECT_THAT(error_of([&] { s.decode(id); }).what(), HasSubstr("between 0 and 6"));
  }
  EXPECT_EQ(error_of([&] { s.prefill(Prompt::causal({1}, 2), {Matrix(3, 1), {{0, 3}}}); }).kind(), ErrorKind::kShapeMismatch);
  EXPECT_TRUE(steps_.empty());
  EXPECT_EQ(s.length(), 2);
  EXPECT_EQ(s.visual_memory()->num_rows(), 5);
  s.decode(1);
  EXPECT_THAT(steps_, ElementsAre(Step{1, 2, 3, 3, Phase::kDecode}));
}

TEST_F(SessionTest, RestartKeepsThePictureAndClearForgetsIt) {
  auto s = session({.max_length = 20});
  s.prefill(Prompt::causal({1, 2}), {Matrix(5, 2), {{0, 5}}});
  s.restart();
  EXPECT_EQ(s.length(), 0);
  EXPECT_EQ(s.visual_memory()->num_rows(), 5);
  s.clear();
  EXPECT_TRUE(s.visual_memory()->empty());
}

TEST_F(SessionTest, ReservesWhatItIsToldOrWhatTheModelWasTrainedFor) {
  EXPECT_EQ(session({}).max_length(), 100);
  EXPECT_EQ(session({.max_length = 100}).max_length(), 100);
  for (const Index bad : {-1, 101}) EXPECT_THAT(error_of([&] { session({.max_length = bad}); }).what(), HasSubstr("between 1 and max_position_embeddings, 100"));
}

}  // namespace pipeline_session
}  // namespace duet
