#include "duet/models/decoder.hpp"

#include <gmock/gmock.h>

#include "duet/models/prediction_transform.hpp"
#include "support/kernel_machine.hpp"
#include "support/reference.hpp"
#include "support/reference_layers.hpp"
#include "support/tiny_models.hpp"

namespace duet::testing {
namespace models_decoder {

using kernels::KeyRange;
using reference::Layers;
using reference::Rows;
using reference::rows_of;
using reference::tiny_rows;

constexpr Index kImageRows = 5;

DecoderConfig small_config(std::vector<Index> cross_layers = {}) {
  DecoderConfig config = tiny_decoder();
  config.vocab_size = 23;
  config.hidden_size = 16;
  config.intermediate_size = 20;
  config.num_attention_heads = 4;
  config.cross_attention_layers = std::move(cross_layers);
  return config;
}

template <class D>
D build(DecoderConfig config, const TinyWeights& weights) {
  return D(std::move(config), Weights(weights), Weights(weights));
}

struct Trace {
  Matrix hidden;                                    ///< after the last layer
  std::vector<std::pair<Stage, Index>> stages;      ///< in the order they were seen
  static constexpr bool kLooks = true;
  void operator()(Stage stage, Index index, ConstMatrixView) { stages.emplace_back(stage, index); }
};

/// `ids` through a decoder, with an image in memory if it reads images and `image` is not empty.
template <class D>
Trace run(const D& decoder, const std::vector<TokenId>& ids, const Matrix& image) {
  Machine machine;
  Trace result;
  result.hidden = Matrix(static_cast<Index>(ids.size()), decoder.hidden_size());
  const Prompt prompt = Prompt::causal(ids, 0, image.rows());
  KvCache cache = decoder.make_cache(prompt.size());
  VisualMemory memory;
  if constexpr (D::kReadsImages) {
    if (!image.empty()) memory = decoder.memorize(image, machine.workspace);
  }
  const Sequence sequence{&cache, &memory, prompt.positions, prompt.visible, prompt.visible_images, 0, prompt.size()};
  decoder.embed(prompt.ids, result.hidden);
  decoder.forward(result.hidden, std::span(&sequence, 1), Phase::kPrefill, machine.workspace, result);
  EXPECT_EQ(cache.length(), prompt.size());
  return result;
}

/// The whole decoder, naively.
class Naive {
 public:
  Naive(const DecoderConfig& config, const TinyWeights& weights, const std::vector<TokenId>& ids, const Matrix& image)
      : config_(config), layers_(weights), image_(rows_of(image)) {
    const auto& table = weights.at("embed_tokens.weight");
    for (const TokenId id : ids) {
      hidden.emplace_back();
      for (Index j = 0; j < config.hidden_size; ++j) hidden.back().push_back({static_cast<double>(table[static_cast<std::size_t>(id * config.hidden_size + j)]), 0.0});
      const auto n = static_cast<Index>(hidden.size());
      causal_.push_back({0, n});
      positions_.push_back(n - 1);
    }
    for (Index i = 0; i < config.head_dim; i += 2) {
      frequencies_.push_back(1.0f / std::pow(config.rope.rope_theta, static_cast<float>(i) / static_cast<float>(config.head_dim)));
    }
  }

  void self_attention(Index layer) {
    const Layers l = layers_.scope("layers").scope(std::to_string(layer));
    const Rows seen = l.rms_norm("input_layernorm", hidden, config_.norm_eps);
    const auto turn = [&](const char*, const Rows& heads) { return reference::rotated(heads, config_.head_dim, positions_, frequencies_); };
    hidden = reference::sum(hidden, l.scope("self_attn").attention(seen, seen, causal_, config_.attention(layer).shape(), turn));
  }
  void feed_forward(const Layers& l, double factor = 1.0) {
    const Rows inner = l.rms_norm("post_attention_layernorm", hidden, config_.norm_eps);
    hidden = reference::sum(hidden, l.scope("mlp").gated_feed_forward(inner, reference::silu), factor);
  }
  void cross_attention(const Layers& l, const char* norm, double factor = 1.0) {
    if (image_.empty()) return;
    const std::vector<KeyRange> all(hidden.size(), KeyRange{0, kImageRows});
    const Rows seen = l.rms_norm(norm, hidden, config_.norm_eps);
    hidden = reference::sum(hidden, l.scope("cross_attn").attention(seen, image_, all, config_.attention(0).shape()), factor);
  }
  void cross_layer(const Layers& l) {
    if (image_.empty()) return;
    cross_attention(l, "input_layernorm", std::tanh(static_cast<double>(l.tensor("cross_attn_attn_gate")[0])));
    feed_forward(l, std::tanh(static_cast<double>(l.tensor("cross_attn_mlp_gate")[0])));
  }
  [[nodiscard]] Layers layer(Index i) const { return layers_.scope("layers").scope(std::to_string(i)); }

  Rows hidden;

 private:
  DecoderConfig config_;
  Layers layers_;
  Rows image_;
  std::vector<KeyRange> causal_;
  std::vector<Index> positions_;
  std::vector<float> frequencies_;
};

const std::vector<TokenId> kIds = {3, 22, 0, 7, 7, 1};

TEST(Decoder, StacksItsLayers) {
  const TinyWeights weights;
  const DecoderConfig config = small_config();
  const auto decoder = build<Decoder<RotaryRecipe>>(config, weights);
  Naive naive(config, weights, kIds, {});
  for (Index i = 0; i < 3; ++i) {
    naive.self_attention(i);
    naive.feed_forward(naive.layer(i));
  }
  const Trace got = run(decoder, kIds, {});
  reference::expect_within(got.hidden, naive.hidden);
  EXPECT_THAT(got.stages, ::testing::ElementsAre(std::pair(Stage::kEmbeds, 0), std::pair(Stage::kLayer, 0), std::pair(Stage::kLayer, 1),
                                                 std::pair(Stage::kLayer, 2)));

  Machine machine;
  Matrix normed(6, 16), logits(6, 23);
  decoder.normalize(got.hidden, normed, machine.workspace);
  decoder.logits(normed, logits, Phase::kPrefill, machine.workspace);
  const Rows expected = reference::linear(Layers(weights).rms_norm("norm", naive.hidden, config.norm_eps), weights.at("embed_tokens.weight"));
  reference::expect_within(logits, expected, "logits of a tied head");
}

TEST(Decoder, InsideBlockReadsImagesBetweenTheBranchesOfEveryLayer) {
  const TinyWeights weights;
  const DecoderConfig config = small_config();
  const auto decoder = build<Decoder<RotaryRecipe, CrossAttention<InsideBlock>>>(config, weights);
  for (const bool with_image : {true, false}) {
    const Matrix image = with_image ? tiny_rows(kImageRows, 16) : Matrix();
    Naive naive(config, weights, kIds, image);
    for (Index i = 0; i < 3; ++i) {
      naive.self_attention(i);
      naive.cross_attention(naive.layer(i), "cross_attn_layernorm");
      naive.feed_forward(naive.layer(i));
    }
    reference::expect_within(run(decoder, kIds, image).hidden, naive.hidden);
  }
}

TEST(Decoder, OwnLayerReadsImagesInPlaceOfSelfAttention) {
  const TinyWeights weights;
  const DecoderConfig config = small_config({1});
  const auto decoder = build<Decoder<RotaryRecipe, CrossAttention<OwnLayer, TanhGate, AttendAllNoMlp>>>(config, weights);
  EXPECT_FALSE(weights.made("layers.1.self_attn.q_proj.weight"));
  EXPECT_EQ(decoder.make_cache(64).bytes(), 2 * KeyValueStore(64, 2, 8).bytes()) << "two layers of three keep keys and values";
  for (const bool with_image : {true, false}) {
    const Matrix image = with_image ? tiny_rows(kImageRows, 16) : Matrix();
    Naive naive(config, weights, kIds, image);
    for (const Index i : {0, 1, 2}) {
      if (i == 1) {
        naive.cross_layer(naive.layer(1));
      } else {
        naive.self_attention(i);
        naive.feed_forward(naive.layer(i));
      }
    }
    reference::expect_within(run(decoder, kIds, image).hidden, naive.hidden);
  }
}

TEST(Decoder, BeforeLayerReadsImagesBeforeTheLayersNamed) {
  const TinyWeights weights;
  const DecoderConfig config = small_config({0, 2});
  const auto decoder = build<Decoder<RotaryRecipe, CrossAttention<BeforeLayer, TanhGate>>>(config, weights);
  const Matrix image = tiny_rows(kImageRows, 16);
  Naive naive(config, weights, kIds, image);
  for (Index i = 0; i < 3; ++i) {
    if (i != 1) naive.cross_layer(Layers(weights).scope("cross_layers").scope(std::to_string(i / 2)));
    naive.self_attention(i);
    naive.feed_forward(naive.layer(i));
  }
  const Trace got = run(decoder, kIds, image);
  reference::expect_within(got.hidden, naive.hidden);
  EXPECT_THAT(got.stages, ::testing::ElementsAre(std::pair(Stage::kEmbeds, 0), std::pair(Stage::kCrossAttention, 0), std::pair(Stage::kLayer, 0),
                                                 std::pair(Stage::kLayer, 1), std::pair(Stage::kCrossAttention, 1), std::pair(Stage::kLayer, 2)));

  // A batch in which one conversation has an image and the other has none.
  Machine machine;
  const Matrix alone = run(decoder, kIds, {}).hidden;
  const Prompt prompt = Prompt::causal(kIds, 0, kImageRows);
  KvCache caches[] = {decoder.make_cache(6), decoder.make_cache(6)};
  const VisualMemory memory = decoder.memorize(image, machine.workspace), none;
  const Sequence sequences[] = {{&caches[0], &none, prompt.positions, prompt.visible, prompt.visible_images, 0, 6},
                                {&caches[1], &memory, prompt.positions, prompt.visible, prompt.visible_images, 6, 6}};
  Matrix together(12, 16);
  decoder.embed(kIds, together.view().rows(0, 6));
  decoder.embed(kIds, together.view().rows(6, 6));
  decoder.forward(together, sequences, Phase::kPrefill, machine.workspace);
  EXPECT_TRUE(test::same_bits(together.view().rows(0, 6), alone));
  EXPECT_TRUE(test::same_bits(together.view().rows(6, 6), got.hidden));
}

TEST(Decoder, MemorisesEveryCrossLayer) {
  const TinyWeights weights;
  DecoderConfig config = small_config({0, 2});
  config.cross_attention_hidden_size = 11;
  const auto decoder = build<Decoder<RotaryRecipe, CrossAttention<BeforeLayer, TanhGate>>>(config, weights);
  Machine machine;
  const Matrix image = tiny_rows(kImageRows, 11);
  const VisualMemory memory = decoder.memorize(image, machine.workspace);
  EXPECT_EQ(memory.num_rows(), kImageRows);
  for (Index i = 0; i < 2; ++i) {
    const Rows keys = Layers(weights).scope("cross_layers").scope(std::to_string(i)).scope("cross_attn").linear("k_proj", rows_of(image));
    const auto pages = memory.layer(i).pages();
    Matrix stored(kImageRows, 16);
    for (Index row = 0; row < kImageRows; ++row) {
      for (Index c = 0; c < 16; ++c) stored(row, c) = pages.key(c / 8, row, c % 8);
    }
    reference::expect_within(stored, keys);
  }
}

TEST(Decoder, HeadsAreTiedOwnOrAbsent) {
  DecoderConfig config = small_config();
  const TinyWeights tied, own, none;
  EXPECT_EQ(build<Decoder<RotaryRecipe>>(config, tied).cost().head_weights, 23 * 16);
  EXPECT_FALSE(tied.made("lm_head.weight"));
  config.head = LanguageHead::kOwn;
  EXPECT_EQ(build<Decoder<RotaryRecipe>>(config, own).cost().head_weights, 23 * 16);
  EXPECT_TRUE(own.made("lm_head.weight"));
  config.head = LanguageHead::kNone;
  const auto cost = build<Decoder<RotaryRecipe>>(config, none).cost();
  EXPECT_EQ(cost.head_weights, 0);
  EXPECT_EQ(cost.stack_weights, 3 * (16 * (32 + 16 + 16 + 32) + 3 * 16 * 20));
  EXPECT_EQ(cost.bytes, 4u * static_cast<std::uint64_t>(cost.stack_weights));
}

struct BertLike : DecoderRecipeDefaults {
  using Norm = LayerNorm;
  using FeedForward = duet::FeedForward<kernels::Gelu>;
  using Position = LearnedPositions;
  using NormOrder = NormAfter;
  using EmbeddingNorm = OptionalNorm<LayerNorm>;
  using FinalNorm = PredictionTransform;
};

TEST(Decoder, MayHaveNormsBehindEverythingAndATransformBeforeItsHead) {
  const TinyWeights weights;
  DecoderConfig config = small_config();
  config.num_key_value_heads = 4;
  config.head_dim = 4;
  config.hidden_act = "gelu";
  config.head = LanguageHead::kOwn;
  config.head_bias = Linear::Bias::kRequired;
  config.embedding_norm = true;
  const auto decoder = build<Decoder<BertLike>>(config, weights);
  const Trace got = run(decoder, kIds, {});

  const Layers layers(weights);
  Rows x;
  std::vector<KeyRange> causal;
  for (std::size_t i = 0; i < kIds.size(); ++i) {
    x.emplace_back();
    for (Index j = 0; j < 16; ++j) {
      const auto value = [&](const char* table, Index row) { return static_cast<double>(weights.at(table)[static_cast<std::size_t>(row * 16 + j)]); };
      x.back().push_back({value("embed_tokens.weight", kIds[i]) + value("embed_positions.weight", static_cast<Index>(i)), reference::kUnit});
    }
    causal.push_back({0, static_cast<Index>(i) + 1});
  }
  x = layers.layer_norm("embed_layernorm", x, config.norm_eps);
  for (Index i = 0; i < 3; ++i) {
    const Layers l = layers.scope("layers").scope(std::to_string(i));
    x = l.layer_norm("input_layernorm", reference::sum(x, l.scope("self_attn").attention(x, x, causal, config.attention(i).shape())), config.norm_eps);
    x = l.layer_norm("post_attention_layernorm", reference::sum(x, l.scope("mlp").feed_forward(x, reference::gelu)), config.norm_eps);
  }
  reference::expect_within(got.hidden, x);

  Machine machine;
  Matrix normed(6, 16), logits(6, 23);
  decoder.normalize(got.hidden, normed, machine.workspace);
  decoder.logits(normed, logits, Phase::kPrefill, machine.workspace);
  x = layers.layer_norm("transform.norm", reference::map(layers.linear("transform.dense", x), reference::gelu), config.norm_eps);
  Rows expected = layers.linear("lm_head", x);
  for (reference::Row& row : expected) {
    for (std::size_t j = 0; j < row.size(); ++j) row[j].value += static_cast<double>(weights.at("lm_head_bias")[j]);
  }
  reference::expect_within(logits, expected);

  const TinyWeights bare;
  config.embedding_norm = false;
  static_cast<void>(build<Decoder<BertLike>>(config, bare));
  EXPECT_FALSE(bare.made("embed_layernorm.weight"));
}

TEST(Decoder, IdsMayHaveEmbeddingsWithoutLogits) {
  const TinyWeights weights;
  DecoderConfig config = small_config();
  config.num_embeddings = 31;
  const auto decoder = build<Decoder<RotaryRecipe>>(config, weights);
  EXPECT_EQ(decoder.num_embeddings(), 31);
  EXPECT_EQ(decoder.vocab_size(), 23);
  EXPECT_EQ(decoder.cost().head_weights, 23 * 16) << "a tied head leaves them out";
  Matrix hidden(1, 16);
  const TokenId placeholder[] = {30};
  decoder.embed(placeholder, hidden);
  EXPECT_EQ(hidden(0, 3), weights.at("embed_tokens.weight")[30 * 16 + 3]);
}

TEST(Decoder, IdsMayHaveEmbeddingsAndLogitsOfTheirOwn) {
  for (const LanguageHead head : {LanguageHead::kTied, LanguageHead::kOwn}) {
    const TinyWeights weights;
    DecoderConfig config = small_config();
    config.additional_vocab_size = 4;
    config.head = head;
    const auto decoder = build<Decoder<RotaryRecipe>>(config, weights);
    EXPECT_EQ(decoder.vocab_size(), 27);
    EXPECT_EQ(decoder.num_embeddings(), 27);
    EXPECT_EQ(decoder.cost().head_weights, 27 * 16);
    Matrix hidden(2, 16), logits(2, 27);
    const TokenId ids[] = {22, 25};
    decoder.embed(ids, hidden);
    EXPECT_EQ(hidden(0, 3), weights.at("embed_tokens.weight")[22 * 16 + 3]);
    EXPECT_EQ(hidden(1, 3), weights.at("additional_tokens.weight")[2 * 16 + 3]);
    Machine machine;
    decoder.logits(hidden, logits, Phase::kPrefill, machine.workspace);
    const bool tied = head == LanguageHead::kTied;
    const Layers layers(weights);
    Rows expected = layers.linear(tied ? "embed_tokens" : "lm_head", rows_of(hidden));
    const Rows more = layers.linear(tied ? "additional_tokens" : "additional_head", rows_of(hidden));
    for (std::size_t i = 0; i < 2; ++i) expected[i].insert(expected[i].end(), more[i].begin(), more[i].end());
    reference::expect_within(logits, expected);
  }
}

/// The rows of a prompt behind the last layer, and their logits.
struct Answer {
  Matrix hidden, logits;
};
template <class D>
Answer answer(const D& decoder, const Prompt& prompt) {
  Machine machine;
  Answer result{Matrix(prompt.size(), decoder.hidden_size()), Matrix(prompt.size(), decoder.vocab_size())};
  KvCache cache = decoder.make_cache(prompt.size());
  const Sequence sequence{.cache = &cache, .positions = prompt.positions, .visible = prompt.visible, .rows = prompt.size(),
                          .offsets = prompt.offsets, .extra_visible = prompt.extra_visible};
  decoder.embed(prompt.ids, result.hidden);
  decoder.forward(result.hidden, std::span(&sequence, 1), Phase::kPrefill, machine.workspace);
  decoder.logits(result.hidden, result.logits, Phase::kPrefill, machine.workspace);
  return result;
}
bool same_bits(const Matrix& a, const Matrix& b) {
  return std::ranges::equal(std::span(a.view().data(), static_cast<std::size_t>(a.rows() * a.cols())),
                            std::span(b.view().data(), static_cast<std::size_t>(b.rows() * b.cols())));
}

TEST(Decoder, SlidingLayersSeeAWindow) {
  const TinyWeights weights;
  DecoderConfig config = small_config();
  const std::vector<TokenId> ids{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  const Prompt causal = Prompt::causal(ids);
  const Answer full = answer(build<Decoder<RotaryRecipe>>(config, weights), causal);
  Prompt windowed = causal;
  for (Index i = 0; i < 12; ++i) windowed.visible[static_cast<std::size_t>(i)].begin = std::max<Index>(0, i - 4 + 1);
  const Answer cut = answer(build<Decoder<RotaryRecipe>>(config, weights), windowed);

  config.sliding_window = 4;
  config.sliding_attention_layers = {0, 1, 2};
  const auto all_slide = build<Decoder<RotaryRecipe>>(config, weights);
  EXPECT_TRUE(same_bits(answer(all_slide, causal).hidden, cut.hidden)) << "the row itself and three before it";
  config.sliding_attention_layers = {1};
  const Answer one_slides = answer(build<Decoder<RotaryRecipe>>(config, weights), causal);
  EXPECT_FALSE(same_bits(one_slides.hidden, cut.hidden));
  EXPECT_FALSE(same_bits(one_slides.hidden, full.hidden));
  EXPECT_TRUE(same_bits(Matrix::clone(one_slides.hidden.view().rows(0, 4)), Matrix::clone(full.hidden.view().rows(0, 4)))) << "nothing is far yet";
  config.sliding_window = 12;
  EXPECT_TRUE(same_bits(answer(build<Decoder<RotaryRecipe>>(config, weights), causal).hidden, full.hidden));

  // What a row sees after itself stays; extra ranges are cut, too.
  Prompt image = causal, image_cut = causal;
  for (Index i = 2; i < 5; ++i) image.visible[static_cast<std::size_t>(i)].end = image_cut.visible[static_cast<std::size_t>(i)].end = 5;
  for (Index i = 0; i < 12; ++i) {
    const auto at = static_cast<std::size_t>(i);
    image_cut.visible[at].begin = std::max<Index>(0, i - 4 + 1);
  }
  image.visible[6] = {5, 7}, image.extra_visible = {{6, {0, 5}}};
  image_cut.visible[6] = {5, 7}, image_cut.extra_visible = {{6, {3, 5}}};
  EXPECT_TRUE(same_bits(answer(all_slide, image).hidden, answer(build<Decoder<RotaryRecipe>>(small_config(), weights), image_cut).hidden));
}

TEST(Decoder, SlidingLayersMayTurnByOtherFrequencies) {
  const TinyWeights weights;
  DecoderConfig config = small_config(), local = small_config();
  const Prompt prompt = Prompt::causal({3, 1, 4, 1, 5, 9, 2, 6});
  local.rope.rope_theta = 10.0f;
  config.sliding_window = 100;
  config.sliding_rope = local.rope;
  const Answer global_turn = answer(build<Decoder<RotaryRecipe>>(small_config(), weights), prompt);
  const Answer local_turn = answer(build<Decoder<RotaryRecipe>>(local, weights), prompt);
  EXPECT_TRUE(same_bits(answer(build<Decoder<RotaryRecipe>>(config, weights), prompt).hidden, global_turn.hidden));
  config.sliding_attention_layers = {0, 1, 2};
  EXPECT_TRUE(same_bits(answer(build<Decoder<RotaryRecipe>>(config, weights), prompt).hidden, local_turn.hidden));
  config.sliding_attention_layers = {2};
  const Answer mixed = answer(build<Decoder<RotaryRecipe>>(config, weights), prompt);
  EXPECT_FALSE(same_bits(mixed.hidden, global_turn.hidden) || same_bits(mixed.hidden, local_turn.hidden));
}

TEST(Decoder, RowsInAGridTurnByTheirPlaces) {
  const TinyWeights weights;
  DecoderConfig config = small_config();
  config.rope.mrope_section = {2, 1, 1};
  const auto decoder = build<Decoder<RotaryRecipe>>(config, weights), plain = build<Decoder<RotaryRecipe>>(small_config(), weights);
  Prompt prompt = Prompt::causal({3, 1, 4, 1, 5, 9});
  const Answer text = answer(plain, prompt);
  EXPECT_TRUE(same_bits(answer(decoder, prompt).hidden, text.hidden));
  prompt.offsets.resize(6);
  EXPECT_TRUE(same_bits(answer(decoder, prompt).hidden, text.hidden)) << "at no offset";
  prompt.offsets[4] = {2, 5};
  EXPECT_FALSE(same_bits(answer(decoder, prompt).hidden, text.hidden));
  // The same distance on every axis is what a position is.
  Prompt shifted = Prompt::causal({3, 1, 4, 1, 5, 9});
  for (Index& position : shifted.positions) position += 7;
  for (auto& offset : prompt.offsets) offset = {7, 7};
  const auto all_grid = [&] {
    DecoderConfig c = small_config();
    c.rope.mrope_section = {0, 2, 2};
    return build<Decoder<RotaryRecipe>>(c, weights);
  }();
  EXPECT_TRUE(same_bits(answer(all_grid, prompt).hidden, answer(plain, shifted).hidden));
}

TEST(Decoder, ScalesEmbeddingsAndCapsLogits) {
  const TinyWeights weights;
  DecoderConfig config = small_config();
  const Prompt prompt = Prompt::causal({3, 1, 4, 1, 5});
  const auto plain = build<Decoder<RotaryRecipe>>(config, weights);
  config.embedding_scale = 4.0f;
  const auto scaled = build<Decoder<RotaryRecipe>>(config, weights);
  Matrix rows(5, 16), four_times(5, 16);
  plain.embed(prompt.ids, rows);
  scaled.embed(prompt.ids, four_times);
  for (Index i = 0; i < 5; ++i) {
    for (Index j = 0; j < 16; ++j) EXPECT_EQ(four_times(i, j), 4.0f * rows(i, j));
  }
  config.embedding_scale = 1.0f;
  config.final_logit_softcapping = 0.5f;
  const Answer uncapped = answer(plain, prompt), capped = answer(build<Decoder<RotaryRecipe>>(config, weights), prompt);
  float most = 0.0f;
  for (Index i = 0; i < 5; ++i) {
    for (Index j = 0; j < 23; ++j) {
      const double logit = static_cast<double>(uncapped.logits(i, j)), expected = 0.5 * std::tanh(logit / 0.5);
      most = std::max(most, std::abs(uncapped.logits(i, j)));
      EXPECT_NEAR(static_cast<double>(capped.logits(i, j)), expected, 8.0 * reference::kUnit);
    }
  }
  EXPECT_GT(most, 0.25f) << "or the cap has nothing to do";
}

TEST(Decoder, AnOptionalHeadNormIsThereIfTheConfigSaysSo) {
  struct WithOptional : RotaryRecipe {
    using HeadNorm = OptionalNorm<RmsNorm>;
  };
  struct WithNorm : RotaryRecipe {
    using HeadNorm = RmsNorm;
  };
  const TinyWeights weights;
  DecoderConfig config = small_config();
  const Prompt prompt = Prompt::causal({3, 1, 4, 1, 5});
  const Answer absent = answer(build<Decoder<WithOptional>>(config, weights), prompt);
  EXPECT_FALSE(weights.made("layers.0.self_attn.q_norm.weight"));
  EXPECT_TRUE(same_bits(absent.hidden, answer(build<Decoder<RotaryRecipe>>(config, weights), prompt).hidden));
  config.head_norms = true;
  const Answer present = answer(build<Decoder<WithOptional>>(config, weights), prompt);
  EXPECT_TRUE(weights.made("layers.0.self_attn.q_norm.weight"));
  EXPECT_TRUE(same_bits(present.hidden, answer(build<Decoder<WithNorm>>(config, weights), prompt).hidden));
  EXPECT_FALSE(same_bits(present.hidden, absent.hidden));
}

TEST(DecoderConfig, ScalesScoresAsItSays) {
  DecoderConfig config = small_config();
  EXPECT_FLOAT_EQ(config.attention(0).scale, 1.0f / std::sqrt(8.0f));
  config.attention_scale = 0.25f;
  EXPECT_FLOAT_EQ(config.attention(2).scale, 0.25f);
  EXPECT_EQ(config.attention(0).soft_cap, 0.0f);
  config.attn_logit_softcapping = 50.0f;
  EXPECT_EQ(config.attention(1).shape().soft_cap, 50.0f);
  config.scale_by_inverse_layer = true;
  EXPECT_FLOAT_EQ(config.attention(1).scale, 0.125f);
  EXPECT_EQ(config.cross_attention(0).key_value_size, 16);
  config.cross_attention_hidden_size = 40;
  EXPECT_EQ(config.cross_attention(0).key_value_size, 40);
  EXPECT_EQ(config.attention(0).key_value_size, 16);
}

TEST(DecoderConfig, SizesMustFitOneAnother) {
  const auto rejects = [](auto&& change, const char* key) {
    DecoderConfig config = small_config();
    change(config);
    const TinyWeights weights;
    try {
      build<Decoder<RotaryRecipe>>(config, weights);
      ADD_FAILURE() << key;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kInvalidArgument);
      EXPECT_THAT(e.where(), ::testing::HasSubstr(key));
    }
  };
  rejects([](DecoderConfig& c) { c.vocab_size = 0; }, "vocab_size");
  rejects([](DecoderConfig& c) { c.head_dim = -8; }, "head_dim");
  rejects([](DecoderConfig& c) { c.num_key_value_heads = 3; }, "num_attention_heads");
  rejects([](DecoderConfig& c) { c.max_position_embeddings = 0; }, "max_position_embeddings");
  rejects([](DecoderConfig& c) { c.sliding_attention_layers = {1}; }, "sliding_window");
  rejects([](DecoderConfig& c) { c.attn_logit_softcapping = -1.0f; }, "attn_logit_softcapping");
  rejects([](DecoderConfig& c) { c.final_logit_softcapping = -1.0f; }, "final_logit_softcapping");
  rejects([](DecoderConfig& c) { c.attention_scale = std::numeric_limits<float>::infinity(); }, "query_pre_attn_scalar");
}

}  // namespace models_decoder
}  // namespace duet::testing
