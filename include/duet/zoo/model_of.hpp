#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "duet/io/converted_weights.hpp"
#include "duet/kernels/kernel_table.hpp"
#include "duet/pipeline/any_model.hpp"
#include "duet/zoo/model_cost.hpp"
#include "duet/zoo/prompts_of.hpp"

namespace duet {

/// A family's model with what it was built from. Const once made, and safe to share among threads.
template <class Family>
struct Loaded {
  using Model = typename Family::Model;

  /// Errors  kMissingTensor, kShapeMismatch, kUnsupportedDtype, kConfigMismatch, kInvalidArgument
  Loaded(std::shared_ptr<const Checkpoint> source, std::optional<DType> weights)
      : checkpoint(std::move(source)),
        converted(weights ? std::make_unique<const ConvertedWeights<Checkpoint>>(checkpoint, *weights) : nullptr),
        model(Family::load(checkpoint->folder().config(), converted ? Weights(*converted, &used) : Weights(*checkpoint, &used))) {}

  std::shared_ptr<const Checkpoint> checkpoint;                         ///< the model's weights lie in its mapped files,
  std::unique_ptr<const ConvertedWeights<Checkpoint>> converted;        ///< or, converted to another dtype, here
  TensorNames used;
  Model model;
};

namespace detail {

/// Tensors that checkpoints carry and no inference needs: masks, position counters and cached frequencies.
inline bool is_ignorable_buffer(std::string_view name) {
  for (const std::string_view ending : {".attn.bias", ".attn.masked_bias", ".crossattention.bias", ".crossattention.masked_bias",
                                        "position_ids", "rotary_emb.inv_freq"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

/// What does not depend on the family.
inline void describe_files(const Checkpoint& files, const TensorNames& used, ModelInfo& info) {
  info.model_type = files.folder().config().get_or<std::string>("model_type", "");
  info.weight_bytes = files.bytes();
  std::set<std::string> dtypes;
  for (const std::string& name : files.names()) {
    const std::optional<TensorView> view = files.find(name, {});
    if (!is_ignorable_buffer(name)) {
      info.parameters += view->size();
      dtypes.insert(std::string(name_of(view->dtype)));
      if (!used.contains(name)) info.unused_tensors.push_back(name);
    }
  }
  for (const std::string& dtype : dtypes) info.dtypes += (info.dtypes.empty() ? "" : ", ") + dtype;
}

}  // namespace detail

/// A typed session behind the run-time interface.
template <class Model>
class SessionOf final : public AnySession {
 public:
  SessionOf(std::shared_ptr<const void> owner, const Model& model, Compute compute, SessionOptions options)
      : owner_(std::move(owner)), session_(model, compute, options) {}

  std::span<const float> prefill(const Prompt& prompt, const ImageRows& rows) override { return session_.prefill(prompt, rows); }
  std::span<const float> decode(TokenId id) override { return session_.decode(id); }
  [[nodiscard]] std::function<void()> mark() override {
    return [this, mark = session_.mark()] { session_.rewind(mark); };
  }
  void truncate(Index length) override { session_.truncate(length); }
  [[nodiscard]] ConstSessionParts parts() const override { return session_.parts(); }
  [[nodiscard]] SessionParts parts() override { return session_.parts(); }
  void restart() override { session_.restart(); }
  void clear() override { session_.clear(); }
  [[nodiscard]] Index length() const override { return session_.length(); }
  [[nodiscard]] Index next_position() const override { return session_.next_position(); }
  [[nodiscard]] Index max_length() const override { return session_.max_length(); }
  [[nodiscard]] Index num_image_rows() const override {
    const VisualMemory* memory = session_.visual_memory();
    return memory == nullptr ? 0 : memory->num_rows();
  }
  [[nodiscard]] std::size_t memory_bytes() const override {
    const VisualMemory* memory = session_.visual_memory();
    return session_.cache_bytes() + (memory == nullptr ? 0 : memory->bytes());
  }

 private:
  std::shared_ptr<const void> owner_;  // a session keeps its model alive
  Session<Model> session_;
};

/// A family's model behind the run-time interface, with the threads and kernels it runs on.
template <class Family>
class ModelOf final : public AnyModel, public std::enable_shared_from_this<ModelOf<Family>> {
 public:
  ModelOf(std::shared_ptr<const Checkpoint> checkpoint, const LoadOptions& options)
      : loaded_(std::move(checkpoint), options.weights), threads_(std::make_unique<Threads>(options.threads)),
        compute_{&kernels::best_kernel_table(), threads_.get()}, processor_(processor_of<Family>(folder())),
        chat_(chat_wording_of<Family>(folder())) {
    detail::describe_files(*loaded_.checkpoint, loaded_.used, info_);
    info_.family = Family::kName;
    describe(loaded_.model, info_);
  }

  [[nodiscard]] const ModelInfo& info() const override { return info_; }
  [[nodiscard]] const std::shared_ptr<const Processor>& processor() const override { return processor_; }
  [[nodiscard]] const CheckpointFolder& folder() const override { return loaded_.checkpoint->folder(); }
  [[nodiscard]] const Compute& compute() const override { return compute_; }
  [[nodiscard]] const std::optional<ChatWording>& chat_wording() const override { return chat_; }
  /// The model with its type, for those who compose or look inside.
  [[nodiscard]] const typename Family::Model& model() const noexcept { return loaded_.model; }

  [[nodiscard]] std::unique_ptr<AnySession> start(SessionOptions options) const override {
    if constexpr (requires { loaded_.model.decoder(); }) {
      return std::make_unique<SessionOf<typename Family::Model>>(this->shared_from_this(), loaded_.model, compute_, options);
    } else {
      throw lacks("a model without a language model", "one that writes text");
    }
  }
  [[nodiscard]] ImageRows encode(const VisualInput& input, Workspace& workspace) const override {
    if constexpr (requires { loaded_.model.encode(input, workspace); }) {
      return loaded_.model.encode(input, workspace);
    } else if constexpr (requires { loaded_.model.vision(); }) {
      const auto frame = workspace.frame();
      return {Matrix::clone(loaded_.model.vision().encode(input, workspace).rows), {}};
    } else {
      throw lacks("a model that reads text alone", "one that reads images");
    }
  }

 private:
  [[nodiscard]] Error lacks(std::string_view got, std::string_view expected) const {
    return {ErrorKind::kUnsupportedModel, concat("config.json: model_type ", info_.model_type), got, expected};
  }

  Loaded<Family> loaded_;
  std::unique_ptr<Threads> threads_;
  Compute compute_;
  std::shared_ptr<const Processor> processor_;
  std::optional<ChatWording> chat_;
  ModelInfo info_;
};

}  // namespace duet
