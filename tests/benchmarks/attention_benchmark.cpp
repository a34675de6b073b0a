#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "duet/layers/kv_cache.hpp"
#include "support/kernel_machine.hpp"

// Attention at the sizes of real models, as fractions of what this machine can do: of its multiply-adds to prefill, of its
// read bandwidth to decode. Both limits are measured here, in the same run and with the same threads.

namespace duet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const auto& work) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto begin = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

/// FLOP/s of independent multiply-adds on all threads.
double peak_flops(Workspace& workspace) {
  std::vector<float> sinks(static_cast<std::size_t>(workspace.threads().size()) * 64);
  double done = 0.0;
  const double seconds = seconds_of([&] {
    workspace.threads().run(workspace.threads().size(), [&](Index i) {
      done = workspace.kernels().matmul.multiply_adds(1'000'000, sinks.data() + i * 64);
    });
  });
  return 2.0 * done * workspace.threads().size() / seconds;
}

/// Bytes/s of reading far more than the caches hold, on all threads.
double peak_bandwidth(Workspace& workspace) {
  static const std::vector<float> data(std::size_t{64} << 20, 1.0f);
  constexpr Index kPiece = Index{1} << 16;
  const auto pieces = static_cast<Index>(data.size()) / kPiece;
  std::vector<float> sinks(static_cast<std::size_t>(pieces));
  const double seconds = seconds_of([&] {
    workspace.threads().run(pieces, [&](Index i) {
      sinks[static_cast<std::size_t>(i)] = workspace.kernels().matmul.read(data.data() + i * kPiece, kPiece, 4);
    });
  });
  return static_cast<double>(data.size()) * sizeof(float) / seconds;
}

KeyValueStore filled(Index num_keys, Index kv_heads, Index head_dim, KeyValueFormat format, Workspace& workspace) {
  KeyValueStore store(num_keys, kv_heads, head_dim, format);
  const auto numbers = test::normal_floats(num_keys * kv_heads * head_dim, 1);
  const ConstMatrixView rows(numbers.data(), num_keys, kv_heads * head_dim);
  store.write(0, rows, rows, workspace);
  return store;
}

enum class Mask : std::int64_t { kAll, kCausal };

/// isa, threads, format, heads, kv_heads, head_dim, rows, keys, mask
void prefill(benchmark::State& state) {
  const auto isa = static_cast<kernels::Isa>(state.range(0));
  if (!kernels::supports(isa)) return state.SkipWithError("not on this processor");
  test::KernelMachine machine(isa, static_cast<int>(state.range(1)));
  const auto format = static_cast<KeyValueFormat>(state.range(2));
  const Index heads = state.range(3), kv_heads = state.range(4), head_dim = state.range(5);
  const Index rows = state.range(6), keys = state.range(7);
  const kernels::AttentionShape shape{heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), 0.0f};
  const KeyValueStore cache = filled(keys, kv_heads, head_dim, format, machine.workspace());
  const auto values = test::normal_floats(rows * heads * head_dim, 2);
  Matrix out(rows, heads * head_dim);
  std::vector<kernels::KeyRange> visible;
  double pairs = 0.0;  // of a row and a key that it sees
  for (Index i = 0; i < rows; ++i) {
    visible.push_back({0, static_cast<Mask>(state.range(8)) == Mask::kAll ? keys : keys - rows + i + 1});
    pairs += static_cast<double>(visible.back().end);
  }
  const kernels::AttentionJob jobs[] = {{{values.data(), rows, heads * head_dim}, cache.pages(), visible, out, {}}};
  double best = 1e9;
  for (auto _ : state) {
    const auto begin = Clock::now();
    kernels::attention(jobs, shape, Phase::kPrefill, machine.workspace());
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const double flops = 4.0 * pairs * static_cast<double>(heads * head_dim) / best;
  state.counters["GFLOP/s"] = flops / 1e9;
  state.counters["of_peak"] = flops / peak_flops(machine.workspace());
}

/// isa, threads, format, heads, kv_heads, head_dim, keys
void decode(benchmark::State& state) {
  const auto isa = static_cast<kernels::Isa>(state.range(0));
  if (!kernels::supports(isa)) return state.SkipWithError("not on this processor");
  test::KernelMachine machine(isa, static_cast<int>(state.range(1)));
  const auto format = static_cast<KeyValueFormat>(state.range(2));
  const Index heads = state.range(3), kv_heads = state.range(4), head_dim = state.range(5), keys = state.range(6);
  const kernels::AttentionShape shape{heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), 0.0f};
  const std::vector<kernels::KeyRange> visible = {{0, keys}};
  const auto q = test::normal_floats(heads * head_dim, 2);
  // As many caches as layers would have, so that each is long out of the processor's caches when its turn comes again.
  std::vector<KeyValueStore> layers;
  std::size_t cache_bytes = 0;
  while (layers.empty() || cache_bytes + layers.front().bytes() <= std::size_t{160} << 20) {
    layers.push_back(filled(keys, kv_heads, head_dim, format, machine.workspace()));
    cache_bytes += layers.front().bytes();
  }
  Matrix out(1, heads * head_dim);
  double best = 1e9;
  for (auto _ : state) {
    const auto begin = Clock::now();
    for (const KeyValueStore& layer : layers) {
      const kernels::AttentionJob jobs[] = {{{q.data(), 1, heads * head_dim}, layer.pages(), visible, out, {}}};
      kernels::attention(jobs, shape, Phase::kDecode, machine.workspace());
    }
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const double bandwidth = static_cast<double>(cache_bytes) / best;
  state.counters["GB/s"] = bandwidth / 1e9;
  state.counters["of_read_bandwidth"] = bandwidth / peak_bandwidth(machine.workspace());
}

constexpr std::int64_t kPortable = 0, kAvx2 = 1, kAvx512 = 2, kNeon = 4;

constexpr std::int64_t kF32 = 0, kBF16 = 1, kF16 = 2, kQ8 = 3;

void prefill_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"isa", "threads", "kv", "heads", "kv_heads", "dim", "rows", "keys", "causal"})->Unit(benchmark::kMillisecond);
  for (const std::int64_t isa : {kPortable, kAvx2, kAvx512, kNeon}) {
    for (const std::int64_t format : {kF32, kBF16, kF16, kQ8}) {
      b->Args({isa, 1, format, 4, 4, 64, 1024, 4096, 1});  // a long prompt
      b->Args({isa, 2, format, 32, 8, 128, 256, 4096, 1});
    }
    b->Args({isa, 1, kF32, 4, 1, 128, 512, 4096, 1});     // grouped queries
    b->Args({isa, 1, kF32, 9, 3, 64, 1024, 1024, 1});     // SmolVLM's decoder
    b->Args({isa, 1, kF32, 12, 12, 64, 1024, 1024, 0});   // SmolVLM's encoder
    b->Args({isa, 1, kF32, 16, 16, 72, 729, 729, 0});     // SigLIP so400m
    b->Args({isa, 1, kF32, 12, 12, 64, 197, 197, 0});     // ViT base
    b->Args({isa, 1, kF32, 12, 12, 64, 7, 197, 0});       // a short caption looks at an image
    b->Args({isa, 2, kF32, 9, 3, 64, 1024, 1024, 1});
  }
}
void decode_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"isa", "threads", "kv", "heads", "kv_heads", "dim", "keys"})->Unit(benchmark::kMillisecond);
  for (const std::int64_t isa : {kPortable, kAvx2, kAvx512, kNeon}) {
    for (const std::int64_t threads : {1, 2}) {
      for (const std::int64_t format : {kF32, kBF16, kF16, kQ8}) {
        b->Args({isa, threads, format, 9, 3, 64, 4096});
        b->Args({isa, threads, format, 32, 8, 128, 4096});
        b->Args({isa, threads, format, 12, 12, 64, 1024});
        b->Args({isa, threads, format, 8, 1, 256, 2048});
      }
    }
  }
}
BENCHMARK(prefill)->Apply(prefill_sizes);
BENCHMARK(decode)->Apply(decode_sizes);

}  // namespace
}  // namespace duet

BENCHMARK_MAIN();
