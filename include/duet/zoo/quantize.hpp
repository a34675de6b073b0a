#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/io/converted_tensor.hpp"
#include "duet/io/recorded_weights.hpp"
#include "duet/io/safetensors_writer.hpp"
#include "duet/io/write_folder.hpp"
#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

namespace duet {

namespace detail {

/// Whether a file of a checkpoint folder holds weights, or says where they are.
inline bool is_weight_file(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  for (const std::string_view ending : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf", ".h5",
                                        ".msgpack", ".onnx"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

inline void copy_all_but_weights(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(from)) {
    if (!entry.is_regular_file() || is_weight_file(entry.path())) continue;
    std::error_code error;
    if (!std::filesystem::copy_file(entry.path(), to / entry.path().filename(), error)) {
      throw Error(ErrorKind::kFileNotReadable, entry.path().string(), error.message(), "a file that can be copied");
    }
  }
}

}  // namespace detail

/// Writes a checkpoint folder again with quantized weights, which loads like any other: DType::kQ8_0, every matrix and table in
/// Q8_0; DType::kQ4_0, matrices in Q4_0, tables, the language model's head and v_proj in Q8_0. Norms, biases and other vectors become
/// F32; what is quantized already, or no part of the model, is copied; masks and other buffers are left out. The folder appears
/// whole or not at all. `progress(done, total)` hears of the bytes written.
///
/// Errors  kInvalidArgument for another dtype, or a folder that exists; those of loading the model and of writing files
/// Cost    reads and writes every weight once, on one thread; memory for one tensor
template <class Progress>
void quantize(const std::filesystem::path& model, const std::filesystem::path& out, DType dtype, Progress&& progress) {
  if (!is_quantized(dtype)) {
    throw Error(ErrorKind::kInvalidArgument, "quantize", std::string(name_of(dtype)), "Q8_0 or Q4_0");
  }
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(model);
  const RecordedWeights<Checkpoint> recorded(checkpoint);
  with_family(checkpoint->folder().config(), [&](auto tag) {
    using Family = typename decltype(tag)::type;
    static_cast<void>(Family::load(checkpoint->folder().config(), Weights(recorded)));
  });

  struct Job {
    TensorRequest request;
    TensorView view;
    DType dtype;
    TensorEntry entry;
  };
  std::vector<Job> jobs;
  const std::vector<std::string> names = checkpoint->names();
  for (const std::string& name : names) {
    const auto wish = recorded.wishes().find(name);
    const bool is_wanted = wish != recorded.wishes().end();
    if (!is_wanted && detail::is_ignorable_buffer(name)) continue;
    const TensorView view = *checkpoint->find(name);
    Job job{{name, name, view.shape}, view, view.dtype, {}};
    if (is_wanted && !is_quantized(view.dtype)) {
      job.request = {name, wish->second.part, view.shape, wish->second.use, wish->second.layout};
      job.dtype = detail::dtype_among(dtype, job.request);
    }
    job.entry = {name, job.dtype, converted_shape(job.request, view, job.dtype)};
    if (is_quantized(view.dtype)) job.entry.shape = view.shape;
    jobs.push_back(std::move(job));
  }
  sort_for_alignment(jobs);

  std::vector<TensorEntry> entries;
  std::uint64_t total = 0, done = 0;
  for (const Job& job : jobs) {
    entries.push_back(job.entry);
    total += job.entry.bytes();
  }
  FolderInTheMaking folder(out);
  detail::copy_all_but_weights(checkpoint->folder().path(), folder.part());
  SafetensorsWriter writer(folder.part() / "model.safetensors", std::move(entries), {{"format", "pt"}});
  for (const Job& job : jobs) {
    if (job.dtype == job.view.dtype) {
      writer.write({job.view.data, static_cast<std::size_t>(job.entry.bytes())});
    } else {
      AlignedBuffer<std::byte> memory(static_cast<std::size_t>(job.entry.bytes()));
      convert_tensor(job.request, job.view, job.dtype, {memory.data(), memory.size()});
      writer.write({memory.data(), memory.size()});
    }
    checkpoint->release(job.request.name);
    progress(done += job.entry.bytes(), total);
  }
  writer.commit();
  folder.commit();
}

}  // namespace duet
