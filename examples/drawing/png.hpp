#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// RGB bytes [height, width, 3] as a PNG file.
std::vector<std::byte> encode_png(std::span<const std::uint8_t> rgb, std::size_t width, std::size_t height);
