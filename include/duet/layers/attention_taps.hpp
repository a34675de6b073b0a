#pragma once

#include <span>
#include <type_traits>

#include "duet/core/workspace.hpp"
#include "duet/kernels/attention_types.hpp"

namespace duet {

/// Who is asked: the text before a row, or the image.
enum class AttentionKind : unsigned char { kSelf, kCross };

/// What one attention layer did for one sequence: enough to make its weights again (kernels::attention_weights). Of a row that
/// sees several ranges of keys it shows the first; log_sum_exp, and so the weights, are of all.
struct AttentionTap {
  AttentionKind kind;
  Index layer;                      ///< among the layers of its kind
  Index sequence;                   ///< in the order of the forward pass
  const kernels::AttentionJob& job; ///< with log_sum_exp; valid during the call
  kernels::AttentionShape shape;
};

/// Whether an observer looks at attention: it says so with kTapsAttention and has tap(const AttentionTap&). For all others
/// nothing of this is compiled.
template <class Observer>
inline constexpr bool taps_attention = requires { requires std::remove_cvref_t<Observer>::kTapsAttention; };

/// Looks at no attention.
struct NoTaps {};

/// What a forward pass does for taps; nothing where there are none.
template <class Observer>
class AttentionTaps {
 public:
  AttentionTaps(Observer& observe, AttentionKind kind, Index layer) noexcept : observe_(observe), kind_(kind), layer_(layer) {}

  /// Makes room for the log-sum-exp of jobs that have none yet.
  void prepare([[maybe_unused]] std::span<kernels::AttentionJob> jobs, [[maybe_unused]] const kernels::AttentionShape& shape,
               [[maybe_unused]] Workspace& workspace) const {
    if constexpr (taps_attention<Observer>) {
      for (kernels::AttentionJob& job : jobs) job.log_sum_exp = workspace.matrix(job.q.rows(), shape.num_attention_heads);
    }
  }
  /// Shows jobs that have run.
  void show([[maybe_unused]] std::span<const kernels::AttentionJob> jobs, [[maybe_unused]] const kernels::AttentionShape& shape) const {
    if constexpr (taps_attention<Observer>) {
      for (std::size_t i = 0; i < jobs.size(); ++i) observe_.tap({kind_, layer_, static_cast<Index>(i), jobs[i], shape});
    }
  }

 private:
  Observer& observe_;
  AttentionKind kind_;
  Index layer_;
};

}  // namespace duet
