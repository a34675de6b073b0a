#pragma once

#include "duet/pipeline/any_model.hpp"
#include "duet/pipeline/reference_forward.hpp"

/// The dtype that --weights names: f32, f16, bf16, q8 or q4.
duet::DType dtype_named(std::string_view name);

/// What --weights (as stored if empty) and --threads ask for.
duet::LoadOptions load_options(const std::string& weights, int threads);

/// duet::load_any, compiled once (load_model.cpp) for the program and all of its tests.
std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options = {});

/// duet::forward_any, compiled once (forward_model.cpp).
std::vector<duet::NamedTensor> forward_model(const duet::AnyModel& model, const duet::ReferenceInputs& inputs,
                                             duet::Index max_new_tokens, duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32);

/// duet::score_any, compiled once (score_model.cpp).
std::vector<double> score_model(const duet::AnyModel& model, const duet::Prompt& prompt, const duet::ImageRows& rows, duet::Index first);
