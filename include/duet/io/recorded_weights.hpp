#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "duet/core/weights.hpp"

namespace duet {

/// Another weight source, which remembers what each of its tensors was wanted for while a model was built.
template <WeightSource Source>
class RecordedWeights {
 public:
  struct Wish {
    std::string part;
    TensorUse use = TensorUse::kVector;
    WeightLayout layout = WeightLayout::kOutIn;
  };
  using Wishes = std::map<std::string, Wish, std::less<>>;

  explicit RecordedWeights(std::shared_ptr<const Source> source) : source_(std::move(source)) {}

  // A WeightSource.
  [[nodiscard]] std::optional<TensorView> find(const TensorRequest& request) const {
    Wish& wish = (*wishes_)[std::string(request.name)];
    if (wish.part.empty() || request.use > wish.use) wish = {std::string(request.part), request.use, request.layout};
    return source_->find(request.name, request.shape);
  }
  [[nodiscard]] std::optional<TensorView> find(std::string_view name, std::span<const Index> shape) const {
    return find({name, name, shape});
  }
  [[nodiscard]] bool contains(std::string_view name) const { return source_->contains(name); }
  [[nodiscard]] std::string where(std::string_view name) const { return source_->where(name); }

  [[nodiscard]] const Wishes& wishes() const noexcept { return *wishes_; }

 private:
  std::shared_ptr<const Source> source_;
  std::shared_ptr<Wishes> wishes_ = std::make_shared<Wishes>();
};

}  // namespace duet
