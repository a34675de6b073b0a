#include "commands.hpp"
#include "load_model.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "tensor_file.hpp"

int forward(const ForwardOptions& options) {
  const auto model = load_model(options.model, {options.threads});
  const TensorFile file(options.input);
  const duet::ReferenceInputs inputs = read_inputs(file, *model->processor());
  duet::write_safetensors(options.output, forward_model(*model, inputs, options.max_new_tokens), {{"format", "pt"}});
  return 0;
}
