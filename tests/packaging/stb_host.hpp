#pragma once
#include <fstream>
#include <iterator>
#include <vector>

std::vector<unsigned char> host_before(const char* path);
std::vector<unsigned char> host_after(const char* path);

inline std::vector<unsigned char> file_bytes(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
