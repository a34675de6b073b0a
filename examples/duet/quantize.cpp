#include "duet/zoo/quantize.hpp"

#include <cstdio>

#include "commands.hpp"
#include "load_model.hpp"
#include "progress.hpp"

int quantize(const QuantizeOptions& options) {
  const Progress progress("reading");
  std::uint64_t bytes = 0;
  duet::quantize(options.model, options.output, dtype_named(options.weights), [&](std::uint64_t done, std::uint64_t total) {
    bytes = total;
    progress.say(duet::concat("quantizing ", 100 * done / std::max<std::uint64_t>(1, total), " %"));
  });
  progress.clear();
  std::printf("%s: %.1f MB of weights\n", options.output.c_str(), static_cast<double>(bytes) / 1e6);
  return 0;
}
