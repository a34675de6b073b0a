#pragma once

#include <array>
#include <string>
#include <string_view>

#include "duet/core/error.hpp"
#include "duet/kernels/activation.hpp"
#include "duet/kernels/kernel_table.hpp"

namespace duet {

using kernels::Activation;

/// Stands in an activation slot for "whichever of the known ones config.json names". The function is chosen when the
/// model is loaded; a call costs the same as with a fixed policy.
struct ConfiguredActivation {};

namespace detail {

template <Activation A>
bool spells(std::string_view name) {
  for (const std::string_view spelling : A::config_names) {
    if (spelling == name) return true;
  }
  return false;
}

template <Activation A>
std::string spellings() {
  std::string text;
  for (const std::string_view spelling : A::config_names) text += (text.empty() ? "" : " or ") + std::string(spelling);
  return text;
}

}  // namespace detail

/// The activation of a layer: a fixed policy, held to what config.json says.
template <class Policy>
class ActivationChoice {
  static_assert(Activation<Policy>,
                "duet: an activation policy is a struct with config_names and template <class V> static V apply(V); "
                "ConfiguredActivation leaves the choice to config.json.");

 public:
  /// Throws Error{kConfigMismatch} unless `name`, read at `key`, is a spelling of Policy.
  ActivationChoice(std::string_view key, std::string_view name) {
    if (detail::spells<Policy>(name)) return;
    throw Error(ErrorKind::kConfigMismatch, concat("config.json: ", key), concat('"', name, '"'), detail::spellings<Policy>(),
                "this model type was built with another activation; use one built for it, or ConfiguredActivation");
  }
  [[nodiscard]] kernels::ActivationFn function(const kernels::KernelTable& table) const noexcept {
    return kernels::activation_function<Policy>(table);
  }
};

template <>
class ActivationChoice<ConfiguredActivation> {
 public:
  ActivationChoice(std::string_view key, std::string_view name) {
    find<kernels::Gelu, kernels::GeluTanh, kernels::QuickGelu, kernels::Silu, kernels::Relu, kernels::Relu2, kernels::Relu6,
         kernels::LeakyRelu, kernels::Sigmoid, kernels::Tanh, kernels::Identity>(key, name);
  }
  [[nodiscard]] kernels::ActivationFn function(const kernels::KernelTable& table) const noexcept { return choose_(table); }

 private:
  using Choose = kernels::ActivationFn (*)(const kernels::KernelTable&) noexcept;

  template <Activation... Known>
  void find(std::string_view key, std::string_view name) {
    ((detail::spells<Known>(name) ? void(choose_ = &kernels::activation_function<Known>) : void()), ...);
    if (choose_ != nullptr) return;
    std::string known;
    ((known += (known.empty() ? "" : ", ") + std::string(Known::config_names[0])), ...);
    throw Error(ErrorKind::kConfigMismatch, concat("config.json: ", key), concat('"', name, '"'), concat("one of ", known));
  }

  Choose choose_ = nullptr;
};

}  // namespace duet
