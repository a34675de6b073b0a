#include "commands.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "load_model.hpp"

int preprocess(const PreprocessOptions& options) {
  const std::shared_ptr<const duet::Processor> processor = load_processor(options.model);
  duet::VisualInput input;
  for (const std::string& path : options.images) processor->process(duet::Image::open(path, processor->alpha()), input);
  duet::write_safetensors(options.output, processor->tensors(input), {{"format", "pt"}});
  return 0;
}
