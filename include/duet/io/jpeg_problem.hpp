#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace duet {

/// What is wrong with a JPEG that stb_image must not see, or nothing. Before 2.28, which is newer than Debian 12's, it
/// writes beyond the 256 symbols of a Huffman table; and it shows a picture for a file that has none.
///
/// Follows stb_image from marker to marker; where stb_image would give up, it goes on, so it sees every table that
/// stb_image sees.
/// Source  ITU T.81, B.2.4.2
inline std::string_view jpeg_problem(std::span<const std::byte> file) {
  const auto byte = [&](std::size_t at) { return at < file.size() ? std::to_integer<std::size_t>(file[at]) : 0; };
  constexpr std::size_t kHuffmanTables = 0xc4, kFirstRestart = 0xd0, kEndOfImage = 0xd9, kStartOfScan = 0xda;
  bool has_scan = false;
  for (std::size_t at = 2; at + 1 < file.size();) {
    if (byte(at) != 0xff || byte(at + 1) == 0xff) {  // padding, or the data of a scan
      ++at;
      continue;
    }
    const std::size_t marker = byte(at + 1);
    at += 2;
    if (marker == 0 || (marker >= kFirstRestart && marker <= kEndOfImage)) continue;  // nothing follows that belongs to it
    const std::size_t length = std::max<std::size_t>(2, byte(at) << 8 | byte(at + 1));
    has_scan = has_scan || marker == kStartOfScan;
    for (std::size_t table = at + 2; marker == kHuffmanTables && table < at + length;) {
      std::size_t symbols = 0;
      for (std::size_t bits = 1; bits <= 16; ++bits) symbols += byte(table + bits);
      if (symbols > 256) return "a Huffman table of more than 256 symbols";
      table += 17 + symbols;
    }
    at += length;
  }
  return has_scan ? "" : "no picture in it";
}

}  // namespace duet
