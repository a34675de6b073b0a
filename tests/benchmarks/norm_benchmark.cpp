#include <benchmark/benchmark.h>

#include "duet/kernels/norm.hpp"
#include "support/kernel_machine.hpp"

// Norms at the widths of real models: rows of a prompt or an image, and one row to decode.

namespace duet {
namespace {

enum class Kind : std::int64_t { kLayer, kRms };

/// isa, threads, rows, size
template <Kind kind>
void norm(benchmark::State& state) {
  const auto isa = static_cast<kernels::Isa>(state.range(0));
  if (!kernels::supports(isa)) return state.SkipWithError("not on this processor");
  test::KernelMachine machine(isa, static_cast<int>(state.range(1)));
  const Index rows = state.range(2), size = state.range(3);
  const auto x = test::normal_floats(rows * size, 1), weight = test::normal_floats(size, 2), bias = test::normal_floats(size, 3);
  Matrix out(rows, size);
  for (auto _ : state) {
    if constexpr (kind == Kind::kLayer) {
      kernels::layer_norm({x.data(), rows, size}, weight.data(), bias.data(), 1e-5f, out, machine.workspace());
    } else {
      kernels::rms_norm({x.data(), rows, size}, weight.data(), 1e-5f, out, machine.workspace());
    }
  }
  const double bytes = 2.0 * sizeof(float) * static_cast<double>(rows * size) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(1e-9 * bytes, benchmark::Counter::kIsRate);  // of x and out
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"isa", "threads", "rows", "size"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const kernels::Isa isa : kernels::kIsas) {
    for (const std::int64_t threads : {1, 2}) {
      for (const auto& [rows, size] : {std::pair<std::int64_t, std::int64_t>{512, 576}, {577, 1024}, {512, 2048}, {1, 576}, {1, 2048}}) {
        b->Args({static_cast<std::int64_t>(isa), threads, rows, size});
      }
    }
  }
}
BENCHMARK(norm<Kind::kLayer>)->Apply(sizes);
BENCHMARK(norm<Kind::kRms>)->Apply(sizes);

}  // namespace
}  // namespace duet

BENCHMARK_MAIN();
