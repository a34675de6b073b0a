#pragma once

#include "duet/pipeline/any_model.hpp"
#include "duet/pipeline/prompt_encoder.hpp"
#include "duet/pipeline/reference_inputs.hpp"

/// The dtype that --weights names: f32, f16, bf16, q8 or q4.
duet::DType dtype_named(std::string_view name);

/// What --weights (as stored if empty) and --threads ask for.
duet::LoadOptions load_options(const std::string& weights, int threads);

/// duet::load_any, compiled once (load_model.cpp) for the program and all of its tests.
std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options = {});

/// What a folder makes of prompts and pictures, whether it has weights or not.
duet::PromptEncoder load_prompts(const std::filesystem::path& folder);

/// How a folder's family prepares pictures and writes them into prompts.
std::shared_ptr<const duet::Processor> load_processor(const std::filesystem::path& folder);

/// duet::forward_any, compiled once (forward_model.cpp).
std::vector<duet::NamedTensor> forward_model(const duet::AnyModel& model, const duet::ReferenceInputs& inputs,
                                             duet::Index max_new_tokens, duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32);

/// duet::score_any, compiled once (score_model.cpp).
std::vector<double> score_model(const duet::AnyModel& model, const duet::Prompt& prompt, const duet::ImageRows& rows, duet::Index first);
