#pragma once

#include <memory>
#include <string>

#include "duet/pipeline/any_model.hpp"

/// A model of a well-known shape with random weights, to measure speed without a download.
/// Errors  kInvalidArgument for an unknown shape
std::shared_ptr<const duet::AnyModel> random_model(const std::string& shape, duet::DType weights, int threads);
