#include "commands.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "duet/pipeline/image_processor.hpp"

int preprocess(const PreprocessOptions& options) {
  const auto processor = duet::ImageProcessor::load(options.model);
  std::vector<float> values;
  duet::PixelValues first;
  for (const std::string& path : options.images) {
    duet::PixelValues pixels = processor.process(duet::Image::open(path));
    if (values.empty()) {
      first.height = pixels.height;
      first.width = pixels.width;
      first.channels = pixels.channels;
    } else if (pixels.height != first.height || pixels.width != first.width) {
      throw duet::Error(duet::ErrorKind::kShapeMismatch, path, duet::concat(pixels.width, " x ", pixels.height),
                        duet::concat("the first picture's ", first.width, " x ", first.height), "preprocess them one at a time");
    }
    values.insert(values.end(), pixels.values.begin(), pixels.values.end());
  }
  const duet::NamedTensor tensors[] = {duet::NamedTensor::floats(
      "pixel_values", {static_cast<duet::Index>(options.images.size()), first.channels, first.height, first.width}, values)};
  duet::write_safetensors(options.output, tensors, {{"format", "pt"}});
  return 0;
}
