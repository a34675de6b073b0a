#pragma once

#include "duet/pipeline/attention_trace.hpp"

/// duet::trace_attention for a model whose kind is known at run time only; compiled once (trace.cpp).
/// Errors  kUnsupportedModel for a model that does not write about pictures; those of trace_attention
duet::AttentionTrace trace(const duet::Pipeline& pipeline, const duet::Image& picture, std::optional<std::string_view> question,
                           duet::Index max_new_tokens, duet::KeyValueFormat kv_format = duet::KeyValueFormat::kF32);
