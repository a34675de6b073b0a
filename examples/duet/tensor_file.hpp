#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/mapped_file.hpp"
#include "duet/io/safetensors.hpp"
#include "duet/pipeline/processor.hpp"
#include "duet/pipeline/reference_inputs.hpp"

/// A safetensors file of inputs or golden stages.
class TensorFile {
 public:
  explicit TensorFile(const std::filesystem::path& path) : mapping_(path), tensors_(mapping_.bytes(), path.filename().string()) {}

  [[nodiscard]] const duet::SafetensorsFile& tensors() const noexcept { return tensors_; }
  [[nodiscard]] const duet::TensorView& get(std::string_view name) const;

 private:
  duet::MappedFile mapping_;
  duet::SafetensorsFile tensors_;
};

/// Values of a stored tensor of any number type.
std::vector<double> numbers(const duet::TensorView& view);

/// The tensors inputs.* as arguments of forward(). `vision_only`… names them in errors.
/// Requires  a processor that outlives what is returned
/// Errors  kInvalidArgument for a missing argument or one of the wrong shape
duet::ReferenceInputs read_inputs(const TensorFile& file, const duet::Processor& processor);
