#pragma once

#include <algorithm>

#include "duet/core/workspace.hpp"
#include "duet/kernels/isa_namespace.hpp"

namespace duet::kernels {
inline namespace DUET_ISA_NAMESPACE {

/// Calls row(i) for every i in [0, rows), in parallel when that pays: a task is at least 16 K values, some microseconds.
template <class Row>
void for_each_row(Index rows, Index cols, Workspace& workspace, Row&& row) noexcept {
  constexpr Index kLeast = Index{1} << 14;
  const Index step = std::max<Index>(1, kLeast / std::max<Index>(1, cols));
  workspace.threads().run((rows + step - 1) / step, [&](Index task) {
    const Index end = std::min(rows, (task + 1) * step);
    for (Index i = task * step; i < end; ++i) row(i);
  });
}

}  // namespace DUET_ISA_NAMESPACE
}  // namespace duet::kernels
