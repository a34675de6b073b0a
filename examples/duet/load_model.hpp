#pragma once

#include "duet/pipeline/any_model.hpp"

/// duet::load_any, compiled once (load_model.cpp) for the program and all of its tests.
std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options = {});
