#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "duet/kernels/matmul.hpp"
#include "support/kernel_machine.hpp"
#ifdef DUET_WITH_OPENBLAS
#include <cblas.h>
#endif
#ifdef DUET_WITH_ONEDNN
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#endif

// The linear maps of real models: a prompt of 512 rows, and one row to decode. In the same run, as far as they are installed:
// Eigen, in float and on one thread, as it is compiled here; OpenBLAS in float; oneDNN in float and by bytes (u8 by s8, without
// the scales that quantized weights have). Decoding goes round through more weights than the caches hold, as a model's layers do.

namespace duet {
namespace {

struct Shape {
  const char *model, *name;
  Index out_features, in_features;
  WeightLayout layout = WeightLayout::kOutIn;
};
constexpr Shape kShapes[] = {
    {"gpt2", "c_attn", 2304, 768, WeightLayout::kInOut},
    {"gpt2", "c_fc", 3072, 768, WeightLayout::kInOut},
    {"gpt2", "c_proj", 768, 3072, WeightLayout::kInOut},
    {"gpt2", "wte", 50257, 768},
    {"smollm2-135m", "q_proj", 576, 576},
    {"smollm2-135m", "gate_proj", 1536, 576},
    {"smollm2-135m", "down_proj", 576, 1536},
    {"smollm2-135m", "embed_tokens", 49152, 576},
    {"llama-3.2-1b", "q_proj", 2048, 2048},
    {"llama-3.2-1b", "k_proj", 512, 2048},
    {"llama-3.2-1b", "gate_proj", 8192, 2048},
    {"llama-3.2-1b", "down_proj", 2048, 8192},
};

/// As many copies of a map's weights as it takes to leave the caches, at least one.
class Layers {
 public:
  Layers(const Shape& shape, DType dtype, Phase phase) {
    const auto count = static_cast<std::size_t>(shape.out_features * shape.in_features), block = block_size(dtype);
    const std::size_t bytes = count / block * size_of(dtype);
    const WeightLayout layout = is_quantized(dtype) ? WeightLayout::kOutIn : shape.layout;
    const std::size_t copies = phase == Phase::kPrefill ? 1 : std::max<std::size_t>(1, (std::size_t{128} << 20) / bytes);
    storage_ = AlignedBuffer<std::byte>(copies * bytes);
    const auto values = test::normal_floats(1 << 12, 1);
    for (std::size_t i = 0; i < copies * count; i += block) {
      const float value = values[i % values.size()];
      const std::uint16_t half = dtype == DType::kF16 ? to_f16(value).bits : to_bf16(value).bits;
      std::byte* to = storage_.data() + i / block * size_of(dtype);
      if (is_quantized(dtype)) {
        quantize_block({&values[i % values.size()], block}, dtype, to);
      } else {
        dtype == DType::kF32 ? std::memcpy(to, &value, sizeof value) : std::memcpy(to, &half, sizeof half);
      }
    }
    const Index stride = layout == WeightLayout::kOutIn ? shape.in_features : shape.out_features;
    for (std::size_t i = 0; i < copies; ++i) {
      weights_.push_back({storage_.data() + i * bytes, dtype, layout, shape.out_features, shape.in_features, stride});
    }
  }
  [[nodiscard]] const WeightMatrix& next() { return weights_[turn_++ % weights_.size()]; }

 private:
  AlignedBuffer<std::byte> storage_;
  std::vector<WeightMatrix> weights_;
  std::size_t turn_ = 0;
};

/// A prompt is counted in arithmetic, a decoded row in weights read.
void count(benchmark::State& state, const Shape& shape, DType dtype, Phase phase) {
  const double weights = static_cast<double>(shape.out_features * shape.in_features) * static_cast<double>(state.iterations());
  using benchmark::Counter;
  if (phase == Phase::kPrefill) {
    state.counters["GFLOP/s"] = Counter(2e-9 * 512.0 * weights, Counter::kIsRate);
  } else {
    state.counters["GB/s"] = Counter(1e-9 * weights * static_cast<double>(size_of(dtype)) / static_cast<double>(block_size(dtype)), Counter::kIsRate);
  }
}

Matrix rows_of(Index rows, Index cols) { return test::normal_matrix(rows, cols, 2); }

void run_duet(benchmark::State& state, const Shape& shape, DType dtype, Phase phase, int threads) {
  test::KernelMachine machine(kernels::best_kernel_table().isa, threads);
  Layers layers(shape, dtype, phase);
  const Matrix x = rows_of(phase == Phase::kPrefill ? 512 : 1, shape.in_features);
  Matrix out(x.rows(), shape.out_features);
  for (auto _ : state) {
    const kernels::MatmulJob jobs[] = {{layers.next(), nullptr, nullptr, out, kernels::Store::kAssign}};
    kernels::matmul(x, jobs, phase, machine.workspace());
  }
  count(state, shape, dtype, phase);
}

void run_eigen(benchmark::State& state, const Shape& shape, Phase phase) {
  Eigen::setNbThreads(1);
  Layers layers(shape, DType::kF32, phase);
  const Matrix x = rows_of(phase == Phase::kPrefill ? 512 : 1, shape.in_features);
  Matrix out(x.rows(), shape.out_features);
  for (auto _ : state) {
    const auto* data = reinterpret_cast<const float*>(layers.next().data);
    if (shape.layout == WeightLayout::kOutIn) {
      out.eigen().noalias() = x.eigen() * ConstMatrixView(data, shape.out_features, shape.in_features).eigen().transpose();
    } else {
      out.eigen().noalias() = x.eigen() * ConstMatrixView(data, shape.in_features, shape.out_features).eigen();
    }
    benchmark::DoNotOptimize(out.view().data());
  }
  count(state, shape, DType::kF32, phase);
}

#ifdef DUET_WITH_OPENBLAS
void run_openblas(benchmark::State& state, const Shape& shape, Phase phase, int threads) {
  openblas_set_num_threads(threads);
  Layers layers(shape, DType::kF32, phase);
  const Matrix x = rows_of(phase == Phase::kPrefill ? 512 : 1, shape.in_features);
  Matrix out(x.rows(), shape.out_features);
  const auto rows = static_cast<int>(x.rows()), outputs = static_cast<int>(shape.out_features), inputs = static_cast<int>(shape.in_features);
  const bool out_in = shape.layout == WeightLayout::kOutIn;
  for (auto _ : state) {
    const auto* data = reinterpret_cast<const float*>(layers.next().data);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, out_in ? CblasTrans : CblasNoTrans, rows, outputs, inputs, 1.0f, x.view().data(), inputs, data,
                out_in ? inputs : outputs, 0.0f, out.view().data(), outputs);
  }
  count(state, shape, DType::kF32, phase);
}
#endif

#ifdef DUET_WITH_ONEDNN
/// Weights as oneDNN likes them best: what a library would keep, converted once.
void run_onednn(benchmark::State& state, const Shape& shape, dnnl::memory::data_type type, Phase phase, int threads) {
  using dnnl::memory;
  omp_set_num_threads(threads);
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const bool in_bytes = type == memory::data_type::s8;
  const memory::dim rows = phase == Phase::kPrefill ? 512 : 1, outputs = shape.out_features, inputs = shape.in_features;
  const memory::desc x({rows, inputs}, in_bytes ? memory::data_type::u8 : type, memory::format_tag::ab);
  const memory::desc weights({inputs, outputs}, type, memory::format_tag::any);
  const memory::desc out({rows, outputs}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, weights, out), engine);
  const dnnl::matmul product(description);
  memory x_memory(x, engine), out_memory(out, engine);
  const std::size_t bytes = description.weights_desc().get_size();
  const std::size_t copies = phase == Phase::kPrefill ? 1 : std::max<std::size_t>(1, (std::size_t{128} << 20) / bytes);
  std::vector<memory> layers;
  for (std::size_t i = 0; i < copies; ++i) {
    layers.emplace_back(description.weights_desc(), engine);
    std::memset(layers.back().get_data_handle(), 0, bytes);
  }
  std::memset(x_memory.get_data_handle(), 0, x.get_size());
  std::size_t turn = 0;
  for (auto _ : state) {
    product.execute(stream, {{DNNL_ARG_SRC, x_memory}, {DNNL_ARG_WEIGHTS, layers[turn++ % copies]}, {DNNL_ARG_DST, out_memory}});
    stream.wait();
  }
  count(state, shape, in_bytes ? DType::kI8 : DType::kF32, phase);
}
#endif

void add(const std::string& name, auto&& run) { benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond); }

void add_all() {
  const int all = Threads().size();
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    for (const Shape& shape : kShapes) {
      const std::string name = std::string(phase == Phase::kPrefill ? "prefill512/" : "decode1/") + shape.model + "/" + shape.name + "/";
      add(name + "eigen/F32/threads:1", [=](benchmark::State& state) { run_eigen(state, shape, phase); });
      for (int threads = 1; threads <= all; threads = threads < all ? all : all + 1) {
        const std::string on = "/threads:" + std::to_string(threads);
#ifdef DUET_WITH_OPENBLAS
        add(name + "openblas/F32" + on, [=](benchmark::State& state) { run_openblas(state, shape, phase, threads); });
#endif
#ifdef DUET_WITH_ONEDNN
        using Type = dnnl::memory::data_type;
        add(name + "onednn/F32" + on, [=](benchmark::State& state) { run_onednn(state, shape, Type::f32, phase, threads); });
        add(name + "onednn/U8S8" + on, [=](benchmark::State& state) { run_onednn(state, shape, Type::s8, phase, threads); });
#endif
        for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
          add(name + "duet/" + std::string(name_of(dtype)) + on,
              [=](benchmark::State& state) { run_duet(state, shape, dtype, phase, threads); });
        }
      }
    }
  }
}

}  // namespace
}  // namespace duet

int main(int argc, char** argv) {
  duet::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
