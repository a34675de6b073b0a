#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/weights.hpp"
#include "duet/io/json.hpp"
#include "duet/io/mapped_file.hpp"
#include "duet/io/safetensors_header.hpp"

namespace duet {

/// The tensors of one safetensors file, in place: 8 bytes of header length (little-endian), a JSON header, the data.
///
/// Nothing in the header is trusted: sizes are checked in 64 bits against each other and the file's real length before
/// any is used, and the tensors must fill the data from end to end without holes or overlap. Views are of no particular
/// alignment, and values are not looked at (NaN passes).
///
/// The format has no quantized dtypes. Such a tensor is stored as U8, [rows, bytes of a row], and the metadata hold, under
/// its name, what it is: {"dtype":"Q8_0","shape":[rows,cols]}. Any reader of safetensors opens such a file.
///
/// Errors  kFileNotReadable; kMalformedFile, naming file and tensor
/// Cost    the header is parsed; data is not touched
/// Source  safetensors, README "Format"
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path, FileAccess access = FileAccess::kMap)
      : file_(MappedFile(path, access)), where_(path.string()) {
    parse(file_->bytes());
  }
  /// A file that lies in memory already; `where` names it in errors. The bytes must outlive this object.
  SafetensorsFile(std::span<const std::byte> bytes, std::string where) : where_(std::move(where)) { parse(bytes); }

  /// Names in the order of their data.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// The tensor's place in the file, or nullptr.
  /// Errors  kUnsupportedDtype for a dtype that the format has and Duet has not (F8_E4M3, U16 …)
  [[nodiscard]] const TensorView* find(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return nullptr;
    if (!it->second.foreign_dtype.empty()) {
      throw Error(ErrorKind::kUnsupportedDtype, tensor_text(name), it->second.foreign_dtype, "F32, F16 or BF16",
                  "convert the checkpoint to one of these");
    }
    return &it->second.view;
  }
  /// Gives back the memory of a tensor that has been read. It can still be read, from the file again.
  void release(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    if (it != tensors_.end() && file_) file_->release({it->second.view.data, static_cast<std::size_t>(it->second.bytes)});
  }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  /// Bytes of all tensors.
  [[nodiscard]] std::uint64_t data_bytes() const noexcept { return data_bytes_; }
  /// The file's name in errors.
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

 private:
  struct Tensor {
    TensorView view;
    std::string foreign_dtype;  // empty when view.dtype says it
    std::uint64_t bytes = 0;
  };

  void parse(std::span<const std::byte> bytes) {
    constexpr std::uint64_t kMaxHeader = 100'000'000;  // the reference reader's limit
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    reject_lfs_pointer(text.substr(0, 200), where_);
    if (bytes.size() < 8) throw malformed(concat(bytes.size(), " bytes"), "at least the 8 of a header length");
    std::uint64_t header_size = 0;
    for (std::size_t i = 8; i-- > 0;) header_size = header_size << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    if (header_size > kMaxHeader) {
      reject_other_formats(text);
      throw malformed(concat("a header of ", header_size, " bytes"), concat("at most ", kMaxHeader), "is this a safetensors file?");
    }
    if (header_size > bytes.size() - 8) {
      throw malformed(concat("a file of ", bytes.size(), " bytes"), concat("at least ", header_size + 8, " for its header"),
                      "the file is cut short: download it again");
    }
    SafetensorsHeader header = parse_safetensors_header(text.substr(8, static_cast<std::size_t>(header_size)), where_);
    metadata_ = std::move(header.metadata);
    for (const SafetensorsHeader::Tensor& tensor : header.tensors) check_size(tensor);
    std::vector<SafetensorsHeader::Tensor*> tensors;
    for (SafetensorsHeader::Tensor& tensor : header.tensors) tensors.push_back(&tensor);
    std::ranges::sort(tensors, [](const auto* a, const auto* b) {
      return a->data_offsets != b->data_offsets ? a->data_offsets < b->data_offsets : a < b;  // empty ones: as they are listed
    });
    const std::span<const std::byte> data = bytes.subspan(8 + static_cast<std::size_t>(header_size));
    check_order(tensors, data.size());
    for (SafetensorsHeader::Tensor* tensor : tensors) {
      const std::optional<DType> dtype = own_dtype(tensor->dtype);
      Tensor& stored = tensors_[tensor->name];
      stored.view.data = data.data() + tensor->data_offsets[0];
      for (const std::uint64_t extent : tensor->shape) stored.view.shape.push_back(static_cast<Index>(extent));
      if (dtype) {
        stored.view.dtype = *dtype;
      } else {
        stored.foreign_dtype = std::move(tensor->dtype);
      }
      stored.bytes = tensor->data_offsets[1] - tensor->data_offsets[0];
      const auto description = metadata_.find(tensor->name);
      if (dtype == DType::kU8 && description != metadata_.end()) read_quantized(description->first, description->second, stored.view);
      names_.push_back(std::move(tensor->name));
    }
  }

  /// Makes a view of bytes the quantized tensor that its metadata tell of.
  void read_quantized(const std::string& name, const std::string& text, TensorView& view) const {
    const std::string where = concat(where_, ": __metadata__ of ", detail::shown(name));
    const nlohmann::json json = parse_json(text, where);
    const JsonView description(json, where);
    const auto named = description.get<std::string>("dtype");
    const auto shape = description.get<std::vector<Index>>("shape");
    const DType dtype = named == name_of(DType::kQ8_0) ? DType::kQ8_0 : DType::kQ4_0;
    if (named != name_of(dtype) || shape.size() != 2 || shape[0] < 0 || shape[1] < 0 || shape[1] >> 56 != 0) {
      throw Error(ErrorKind::kMalformedFile, where, detail::shown(text), "a dtype Q8_0 or Q4_0 and a shape of two extents");
    }
    const std::vector<Index> bytes = {shape[0], static_cast<Index>(row_bytes(dtype, static_cast<std::size_t>(shape[1])))};
    if (view.dtype != DType::kU8 || view.shape != bytes) {
      throw Error(ErrorKind::kMalformedFile, tensor_text(name), concat(name_of(view.dtype), " ", shape_text(view.shape)),
                  concat("U8 ", shape_text(bytes), ", as ", named, " ", shape_text(shape), " takes"));
    }
    view.dtype = dtype;
    view.shape = shape;
  }

  /// What people put in the place of such a file. The first bytes of all these spell an impossible header length.
  void reject_other_formats(std::string_view text) const {
    static constexpr struct {
      std::string_view magic, got, hint;
    } kOthers[] = {{"GGUF", "a GGUF file", "Duet reads the Hugging Face folder that it was made from"},
                   {"PK\x03\x04", "a zip file, as PyTorch writes its pickles", "convert it to safetensors"},
                   {"\x80\x02", "a Python pickle", "convert it to safetensors"},
                   {"<", "a web page", "download the file again; does it need a login?"},
                   {"{", "a JSON file", ""},
                   {"\x89PNG", "a picture", ""},
                   {"\xff\xd8\xff", "a picture", ""}};
    for (const auto& other : kOthers) {
      if (text.starts_with(other.magic)) throw malformed(std::string(other.got), "a safetensors file", std::string(other.hint));
    }
  }

  /// data_offsets must span what dtype and shape come to.
  void check_size(const SafetensorsHeader::Tensor& tensor) const {
    const unsigned bits = bits_of(tensor.dtype);
    if (bits == 0) throw bad_tensor(tensor, concat("dtype ", detail::shown(tensor.dtype)), "one of the format's");
    // Zeros count as ones here, so that no product of some of the extents can overflow either.
    Index bound = 1;
    bool is_empty = false;
    for (const std::uint64_t extent : tensor.shape) {
      is_empty = is_empty || extent == 0;
      if (!std::in_range<Index>(extent) || __builtin_mul_overflow(bound, std::max<Index>(1, static_cast<Index>(extent)), &bound)) {
        throw bad_tensor(tensor, concat("shape ", detail::shown(text_of(tensor.shape))), "one of fewer than 2^63 elements");
      }
    }
    const auto count = static_cast<std::uint64_t>(is_empty ? 0 : bound);
    std::uint64_t size = 0;
    const std::uint64_t begin = tensor.data_offsets[0], end = tensor.data_offsets[1];
    if (begin > end) throw bad_tensor(tensor, concat("data_offsets ", text_of(tensor.data_offsets)), "begin before end");
    if (__builtin_mul_overflow(count, std::uint64_t{bits}, &size) || size % 8 != 0 || size / 8 != end - begin) {
      throw bad_tensor(tensor, concat(end - begin, " bytes of data"),
                       concat("those of ", tensor.dtype, " ", detail::shown(text_of(tensor.shape))));
    }
  }

  /// Each tensor must begin where the one before it ends, and the last must end with the file.
  void check_order(std::span<SafetensorsHeader::Tensor* const> tensors, std::uint64_t data_size) {
    for (const SafetensorsHeader::Tensor* tensor : tensors) {
      if (tensor->data_offsets[0] != data_bytes_) {
        throw bad_tensor(*tensor, concat("data from byte ", tensor->data_offsets[0]),
                         concat("from ", data_bytes_, ", where the tensor before it ends"));
      }
      data_bytes_ = tensor->data_offsets[1];
    }
    if (data_size < data_bytes_) {
      throw malformed(concat(data_size, " bytes of data"), concat(data_bytes_, ", as its header says"),
                      "the file is cut short: download it again");
    }
    if (data_size > data_bytes_) {
      throw malformed(concat(data_size, " bytes of data"), concat(data_bytes_, ", as its header says"));
    }
  }

  static std::optional<DType> own_dtype(std::string_view name) {
    for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
      if (name == name_of(static_cast<DType>(i))) return static_cast<DType>(i);
    }
    return std::nullopt;
  }
  /// Bits of an element of any of the format's dtypes; 0 for another word.
  static unsigned bits_of(std::string_view name) {
    if (const auto dtype = own_dtype(name)) return static_cast<unsigned>(8 * size_of(*dtype));
    static constexpr std::pair<std::string_view, unsigned> kForeign[] = {
        {"F4", 4},       {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"F8_E8M0", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
        {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"U16", 16}, {"U32", 32},    {"U64", 64},    {"C64", 64}};
    for (const auto& [foreign, bits] : kForeign) {
      if (name == foreign) return bits;
    }
    return 0;
  }
  static std::string text_of(const std::vector<std::uint64_t>& numbers) {
    std::string text = "[";
    for (std::size_t i = 0; i < numbers.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(numbers[i]);
    return text + "]";
  }

  [[nodiscard]] std::string tensor_text(std::string_view name) const { return concat(where_, ": tensor ", detail::shown(name)); }
  [[nodiscard]] Error malformed(std::string_view got, std::string_view expected, std::string_view hint = {}) const {
    return {ErrorKind::kMalformedFile, where_, got, expected, hint};
  }
  [[nodiscard]] Error bad_tensor(const SafetensorsHeader::Tensor& tensor, std::string_view got, std::string_view expected) const {
    return {ErrorKind::kMalformedFile, tensor_text(tensor.name), got, expected};
  }

  std::optional<MappedFile> file_;
  std::string where_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> metadata_;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace duet
