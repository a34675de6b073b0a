#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "duet/kernels/attention.hpp"
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
      sinks[static_cast<std::size_t>(i)] = workspace.kernels().matmul.read(data.data() + i * kPiece, kPiece);
    });
  });
  return static_cast<double>(data.size()) * sizeof(float) / seconds;
}

struct Cache {
  Cache(Index num_keys, Index kv_heads, Index head_dim) : head_dim_(head_dim) {
    const Index num_pages = (num_keys + kernels::kPageSize - 1) / kernels::kPageSize;
    const Index page = kv_heads * kernels::kPageSize * head_dim;
    storage_ = test::normal_floats(2 * num_pages * page, 1);
    for (Index i = 0; i < num_pages; ++i) {
      keys_.push_back(storage_.data() + 2 * i * page);
      values_.push_back(storage_.data() + (2 * i + 1) * page);
    }
  }
  [[nodiscard]] kernels::KeyValuePages view() const {
    return {keys_.data(), values_.data(), kernels::kPageSize * head_dim_, head_dim_};
  }
  Index head_dim_;
  std::vector<float> storage_;
  std::vector<const float*> keys_, values_;
};

enum class Mask : std::int64_t { kAll, kCausal };

/// isa, threads, heads, kv_heads, head_dim, rows, keys, mask
void prefill(benchmark::State& state) {
  const auto isa = static_cast<kernels::Isa>(state.range(0));
  if (!kernels::supports(isa)) return state.SkipWithError("not on this processor");
  test::KernelMachine machine(isa, static_cast<int>(state.range(1)));
  const Index heads = state.range(2), kv_heads = state.range(3), head_dim = state.range(4);
  const Index rows = state.range(5), keys = state.range(6);
  const kernels::AttentionShape shape{heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), 0.0f};
  const Cache cache(keys, kv_heads, head_dim);
  const auto values = test::normal_floats(rows * heads * head_dim, 2);
  Matrix out(rows, heads * head_dim);
  std::vector<kernels::KeyRange> visible;
  double pairs = 0.0;  // of a row and a key that it sees
  for (Index i = 0; i < rows; ++i) {
    visible.push_back({0, static_cast<Mask>(state.range(7)) == Mask::kAll ? keys : keys - rows + i + 1});
    pairs += static_cast<double>(visible.back().end);
  }
  const kernels::AttentionJob jobs[] = {{{values.data(), rows, heads * head_dim}, cache.view(), visible, out, {}}};
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

/// isa, threads, heads, kv_heads, head_dim, keys, sequences
void decode(benchmark::State& state) {
  const auto isa = static_cast<kernels::Isa>(state.range(0));
  if (!kernels::supports(isa)) return state.SkipWithError("not on this processor");
  test::KernelMachine machine(isa, static_cast<int>(state.range(1)));
  const Index heads = state.range(2), kv_heads = state.range(3), head_dim = state.range(4), keys = state.range(5);
  const kernels::AttentionShape shape{heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), 0.0f};
  const std::vector<kernels::KeyRange> visible = {{0, keys}};
  const auto q = test::normal_floats(heads * head_dim, 2);
  // As many caches as layers would have, so that each is long out of the processor's caches when its turn comes again.
  const std::size_t cache_bytes = static_cast<std::size_t>(2 * keys * kv_heads * head_dim) * sizeof(float);
  std::vector<Cache> layers;
  const std::size_t num_layers = std::max<std::size_t>(1, (std::size_t{160} << 20) / cache_bytes);
  for (std::size_t i = 0; i < num_layers; ++i) layers.emplace_back(keys, kv_heads, head_dim);
  Matrix out(1, heads * head_dim);
  double best = 1e9;
  for (auto _ : state) {
    const auto begin = Clock::now();
    for (const Cache& layer : layers) {
      const kernels::AttentionJob jobs[] = {{{q.data(), 1, heads * head_dim}, layer.view(), visible, out, {}}};
      kernels::attention(jobs, shape, Phase::kDecode, machine.workspace());
    }
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const double bandwidth = static_cast<double>(cache_bytes) * static_cast<double>(num_layers) / best;
  state.counters["GB/s"] = bandwidth / 1e9;
  state.counters["of_read_bandwidth"] = bandwidth / peak_bandwidth(machine.workspace());
}

constexpr std::int64_t kPortable = 0, kAvx2 = 1, kAvx512 = 2;

void prefill_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"isa", "threads", "heads", "kv", "dim", "rows", "keys", "causal"})->Unit(benchmark::kMillisecond);
  for (const std::int64_t isa : {kPortable, kAvx2, kAvx512}) {
    b->Args({isa, 1, 4, 4, 64, 1024, 4096, 1});     // a long prompt
    b->Args({isa, 1, 4, 1, 128, 512, 4096, 1});     // grouped queries
    b->Args({isa, 1, 9, 3, 64, 1024, 1024, 1});     // SmolVLM's decoder
    b->Args({isa, 1, 12, 12, 64, 1024, 1024, 0});   // SmolVLM's encoder
    b->Args({isa, 1, 16, 16, 72, 729, 729, 0});     // SigLIP so400m
    b->Args({isa, 1, 12, 12, 64, 197, 197, 0});     // ViT base
    b->Args({isa, 1, 12, 12, 64, 7, 197, 0});       // a short caption looks at an image
    b->Args({isa, 2, 9, 3, 64, 1024, 1024, 1});
    b->Args({isa, 2, 32, 8, 128, 256, 4096, 1});
  }
}
void decode_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"isa", "threads", "heads", "kv", "dim", "keys"})->Unit(benchmark::kMillisecond);
  for (const std::int64_t isa : {kPortable, kAvx2, kAvx512}) {
    for (const std::int64_t threads : {1, 2}) {
      b->Args({isa, threads, 9, 3, 64, 4096});
      b->Args({isa, threads, 32, 8, 128, 4096});
      b->Args({isa, threads, 12, 12, 64, 1024});
      b->Args({isa, threads, 8, 1, 256, 2048});
    }
  }
}
BENCHMARK(prefill)->Apply(prefill_sizes);
BENCHMARK(decode)->Apply(decode_sizes);

}  // namespace
}  // namespace duet

BENCHMARK_MAIN();
