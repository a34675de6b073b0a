#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "duet/kernels/kernel_table.hpp"
#include "duet/kernels/phase.hpp"

namespace duet::test {

/// What a test over instruction sets and phases calls its cases: "avx2Prefill" …
inline std::string name_of_case(const ::testing::TestParamInfo<std::tuple<kernels::Isa, Phase>>& info) {
  return std::string(kernels::kernel_table(std::get<0>(info.param)).name) +
         (std::get<1>(info.param) == Phase::kPrefill ? "Prefill" : "Decode");
}

}  // namespace duet::test
