#pragma once

#include "duet/pipeline/any_model.hpp"
#include "duet/pipeline/reference_forward.hpp"

/// duet::load_any, compiled once (load_model.cpp) for the program and all of its tests.
std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options = {});

/// duet::forward_any, compiled once (forward_model.cpp).
std::vector<duet::NamedTensor> forward_model(const duet::AnyModel& model, const duet::ReferenceInputs& inputs,
                                             duet::Index max_new_tokens, duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32);
