#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace duet {

namespace detail {

/// Bounded reads from untrusted bytes.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] std::optional<std::uint32_t> number(std::size_t at, std::size_t size, bool big_endian) const {
    if (at > bytes_.size() || bytes_.size() - at < size) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | std::to_integer<std::uint32_t>(bytes_[at + (big_endian ? i : size - 1 - i)]);
    }
    return value;
  }
  [[nodiscard]] bool has(std::size_t at, std::string_view text) const {
    if (at > bytes_.size() || bytes_.size() - at < text.size()) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (std::to_integer<char>(bytes_[at + i]) != text[i]) return false;
    }
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
};

/// The orientation in a TIFF block, 1 to 8; 1 when there is none or the block is damaged.
inline int tiff_orientation(std::span<const std::byte> tiff) {
  constexpr std::uint32_t kOrientation = 0x0112;
  const ByteReader reader(tiff);
  const bool big = reader.has(0, "MM");
  if (!big && !reader.has(0, "II")) return 1;
  const auto directory = reader.number(4, 4, big);
  if (!directory) return 1;
  const auto count = reader.number(*directory, 2, big);
  for (std::uint32_t i = 0; count && i < *count; ++i) {
    const std::size_t entry = std::size_t{*directory} + 2 + std::size_t{i} * 12;
    const auto tag = reader.number(entry, 2, big), value = reader.number(entry + 8, 2, big);
    if (!tag || !value) return 1;
    if (*tag == kOrientation) return *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
  }
  return 1;
}

}  // namespace detail

/// How a picture must be turned to stand upright, as its EXIF data says: JPEG's APP1, PNG's eXIf. Damaged data means 1,
/// as it is.
/// Source  EXIF 2.32, 4.6.4, tag 274
inline int exif_orientation(std::span<const std::byte> file) {
  const detail::ByteReader reader(file);
  if (reader.has(0, "\xff\xd8")) {
    for (std::size_t at = 2;;) {
      const auto marker = reader.number(at, 2, true), length = reader.number(at + 2, 2, true);
      if (!marker || !length || *marker < 0xff00 || *marker == 0xffda || *length < 2) return 1;
      if (*marker == 0xffe1 && reader.has(at + 4, std::string_view("Exif\0\0", 6)) && *length >= 8) {
        const std::size_t begin = at + 10, size = std::min<std::size_t>(*length - 8, file.size() - begin);
        return detail::tiff_orientation(file.subspan(begin, size));
      }
      at += 2 + *length;
    }
  }
  if (reader.has(0, "\x89PNG\r\n\x1a\n")) {
    for (std::size_t at = 8;;) {
      const auto length = reader.number(at, 4, true);
      if (!length || file.size() - at < 12 || *length > file.size() - at - 12) return 1;
      if (reader.has(at + 4, "eXIf")) return detail::tiff_orientation(file.subspan(at + 8, *length));
      if (reader.has(at + 4, "IEND")) return 1;
      at += std::size_t{*length} + 12;
    }
  }
  return 1;
}

}  // namespace duet
