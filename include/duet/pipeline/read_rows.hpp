#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "duet/fusion/prompt.hpp"
#include "duet/pipeline/session_file.hpp"

namespace duet {

/// What a session remembers of the rows it has read beside their keys and values: how far their positions reach, what of the
/// images they see, and, where all may have to be read anew, the rows themselves.
class ReadRows {
 public:
  struct Keep {
    bool views = false;  ///< what rows see of a visual memory
    bool rows = false;   ///< ids, positions, ranges and image rows
  };
  ReadRows() = default;
  ReadRows(Keep keep, Index capacity, Index hidden_size) : keep_(keep), hidden_size_(hidden_size) {
    const auto n = static_cast<std::size_t>(capacity);
    furthest_.reserve(n);
    if (keep.views) {
      view_of_.reserve(n);
      views_.reserve(1);
    }
    if (!keep.rows) return;
    prompt_.ids.reserve(n);
    prompt_.positions.reserve(n);
    prompt_.visible.reserve(n);
    prompt_.visible_images.reserve(n);
  }

  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(furthest_.size()); }
  /// The position that comes behind all of them.
  [[nodiscard]] Index next_position() const noexcept { return furthest_.empty() ? 0 : furthest_.back() + 1; }

  /// What the last row sees of the images, and so those that are decoded behind it.
  [[nodiscard]] kernels::KeyRange view(Index num_image_rows) const noexcept {
    return view_of_.empty() ? kernels::KeyRange{0, num_image_rows} : views_[static_cast<std::size_t>(view_of_.back())];
  }
  [[nodiscard]] std::span<const ExtraRange> extra_views() const noexcept {
    return view_of_.empty() ? std::span<const ExtraRange>() : of_rows(extra_views_, view_of_.back(), view_of_.back() + 1);
  }

  /// Rows of a prompt, whose image tokens were `images`.
  void add(const Prompt& prompt, const ImageRows& images) {
    if (keep_.rows) append(prompt, images.rows);
    for (Index i = 0; i < prompt.size(); ++i) furthest_.push_back(std::max(next_position() - 1, prompt.furthest(i)));
    if (!keep_.views) return;
    const auto first = static_cast<Index>(views_.size());
    views_.insert(views_.end(), prompt.visible_images.begin(), prompt.visible_images.end());
    for (Index i = 0; i < prompt.size(); ++i) view_of_.push_back(first + i);
    for (const ExtraRange& extra : prompt.extra_visible_images) extra_views_.push_back({first + extra.row, extra.keys});
  }
  /// A decoded row behind all others, which sees of the images what the last one does, or else `view`. Allocates nothing within
  /// the capacity.
  void add(TokenId id, Index position, kernels::KeyRange view) {
    if (keep_.rows) {
      prompt_.ids.push_back(id);
      prompt_.positions.push_back(position);
      prompt_.visible.push_back({0, size() + 1});
      prompt_.visible_images.push_back({});
      if (!prompt_.offsets.empty()) prompt_.offsets.push_back({});
    }
    furthest_.push_back(position);
    if (keep_.views) {
      if (view_of_.empty()) views_.push_back(view);
      view_of_.push_back(view_of_.empty() ? 0 : view_of_.back());
    }
  }
  /// Forgets all rows from `length` on.
  void truncate(Index length) noexcept {
    const auto shrink = [](auto& values, Index count) {
      if (static_cast<Index>(values.size()) > count) values.resize(static_cast<std::size_t>(count));
    };
    const auto drop = [](auto& extras, Index from) {
      extras.erase(std::ranges::lower_bound(extras, from, {}, &ExtraRange::row), extras.end());
    };
    shrink(furthest_, length);
    shrink(view_of_, length);
    const Index num_views = view_of_.empty() ? 0 : view_of_.back() + 1;
    shrink(views_, num_views);
    drop(extra_views_, num_views);
    shrink(prompt_.ids, length);
    shrink(prompt_.positions, length);
    shrink(prompt_.visible, length);
    shrink(prompt_.visible_images, length);
    shrink(prompt_.offsets, length);
    drop(prompt_.extra_visible, length);
    prompt_.image_rows.erase(std::ranges::lower_bound(prompt_.image_rows, length), prompt_.image_rows.end());
    shrink(images_, static_cast<Index>(prompt_.image_rows.size()) * hidden_size_);
  }

  /// All rows and those of `next` behind them, as one prompt and its image tokens.
  /// Requires that rows are kept
  [[nodiscard]] std::pair<Prompt, ImageRows> together_with(const Prompt& next, const ImageRows& images) const {
    ReadRows all = *this;
    all.add(next, images);
    Matrix rows(static_cast<Index>(all.prompt_.image_rows.size()), hidden_size_);
    std::ranges::copy(all.images_, rows.view().data());
    // What rows see of a memory that is there already is kept apart.
    for (Index i = 0; i < all.size() && keep_.views; ++i) {
      const Index view = all.view_of_[static_cast<std::size_t>(i)];
      all.prompt_.visible_images[static_cast<std::size_t>(i)] = all.views_[static_cast<std::size_t>(view)];
      for (const ExtraRange& extra : of_rows(all.extra_views_, view, view + 1)) all.prompt_.extra_visible_images.push_back({i, extra.keys});
    }
    return {std::move(all.prompt_), ImageRows{std::move(rows), {}}};
  }

  void save(SessionState& state) const {
    state.add("positions", numbers_of(furthest_));
    if (keep_.views) {
      state.add("views", numbers_of(view_of_));
      state.add("view_ranges", flat(views_));
      state.add("view_extras", flat(extra_views_));
    }
    if (!keep_.rows) return;
    state.add_ids("rows.ids", prompt_.ids);
    state.add("rows.positions", numbers_of(prompt_.positions));
    state.add("rows.visible", flat(prompt_.visible));
    state.add("rows.offsets", flat(prompt_.offsets));
    state.add("rows.extra_visible", flat(prompt_.extra_visible));
    state.add("rows.image_rows", numbers_of(prompt_.image_rows));
    state.tensors.push_back(NamedTensor::floats("rows.images", {static_cast<Index>(prompt_.image_rows.size()), hidden_size_}, images_));
  }
  /// What save() was called of: it keeps what this object keeps.
  /// Errors  kMalformedFile for rows, positions or ranges that cannot be; those of SessionFile::tensor
  [[nodiscard]] ReadRows load(const SessionFile& file, Index capacity, Index num_positions, Index vocab_size, Index num_image_rows) const {
    ReadRows result(keep_, capacity, hidden_size_);
    const auto read = [&](const std::string& name, auto& values, Index count) { unflatten(file, name, values, count); };
    const auto require = [&](bool good, std::string_view name, std::string_view expected) {
      if (good) return;
      throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor ", name), "one that the model does not have", expected);
    };
    const auto within = [](Index most) { return [most](Index value) { return value >= 0 && value < most; }; };
    const auto ranges_within = [](Index most) {
      return [most](const kernels::KeyRange& range) { return std::min(range.begin, range.end) >= 0 && std::max(range.begin, range.end) <= most; };
    };
    const auto in_order = [](const std::vector<ExtraRange>& extras, Index rows, auto&& good) {
      return std::ranges::is_sorted(extras, {}, &ExtraRange::row) &&
             std::ranges::all_of(extras, [&](const ExtraRange& e) { return e.row >= 0 && e.row < rows && good(e.keys); });
    };
    read("positions", result.furthest_, -1);
    const Index rows = result.size();
    const std::string positions = concat("positions between 0 and ", num_positions - 1);
    require(std::ranges::all_of(result.furthest_, within(num_positions)), "positions", positions);
    if (keep_.views) {
      read("views", result.view_of_, rows);
      read("view_ranges", result.views_, -1);
      read("view_extras", result.extra_views_, -1);
      const auto num_views = static_cast<Index>(result.views_.size());
      require(std::ranges::is_sorted(result.view_of_) && std::ranges::all_of(result.view_of_, within(num_views)), "views",
              "a range for every row");
      require(std::ranges::all_of(result.views_, ranges_within(num_image_rows)), "view_ranges", "ranges of the image rows");
      require(in_order(result.extra_views_, num_views, ranges_within(num_image_rows)), "view_extras", "ranges of the image rows");
    }
    if (!keep_.rows) return result;
    Prompt& prompt = result.prompt_;
    prompt.ids = file.ids("rows.ids");
    require(prompt.size() == rows && std::ranges::all_of(prompt.ids, within(vocab_size)), "rows.ids",
            "an id of the vocabulary for every row");
    read("rows.positions", prompt.positions, rows);
    read("rows.visible", prompt.visible, rows);
    read("rows.offsets", prompt.offsets, -1);
    read("rows.extra_visible", prompt.extra_visible, -1);
    read("rows.image_rows", prompt.image_rows, -1);
    require(std::ranges::all_of(prompt.positions, within(num_positions)), "rows.positions", positions);
    require(std::ranges::all_of(prompt.visible, ranges_within(rows)), "rows.visible", "ranges of the rows");
    require(prompt.offsets.empty() || static_cast<Index>(prompt.offsets.size()) == rows, "rows.offsets", "none, or one for every row");
    require(in_order(prompt.extra_visible, rows, ranges_within(rows)), "rows.extra_visible", "ranges of the rows");
    require(std::ranges::is_sorted(prompt.image_rows) && std::ranges::all_of(prompt.image_rows, within(rows)), "rows.image_rows", "rows");
    prompt.visible_images.resize(static_cast<std::size_t>(rows));
    const Index shape[] = {static_cast<Index>(prompt.image_rows.size()), hidden_size_};
    const TensorView& images = file.tensor("rows.images", DType::kF32, shape);
    result.images_.resize(static_cast<std::size_t>(images.size()));
    if (!result.images_.empty()) std::memcpy(result.images_.data(), images.data, result.images_.size() * sizeof(float));
    return result;
  }

 private:
  void append(const Prompt& next, const Matrix& images) {
    const Index before = size();
    Prompt& all = prompt_;
    const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    if (!next.offsets.empty() || !all.offsets.empty()) {
      all.offsets.resize(static_cast<std::size_t>(before));
      join(all.offsets, next.offsets);
      all.offsets.resize(static_cast<std::size_t>(before + next.size()));
    }
    join(all.ids, next.ids);
    join(all.positions, next.positions);
    join(all.visible, next.visible);
    join(all.visible_images, next.visible_images);
    all.visible_images.resize(all.ids.size());
    for (const ExtraRange& extra : next.extra_visible) all.extra_visible.push_back({before + extra.row, extra.keys});
    for (const Index row : next.image_rows) all.image_rows.push_back(before + row);
    if (next.image_rows.empty()) return;
    for (Index i = 0; i < images.rows(); ++i) join(images_, images.view().row(i));
  }

  static std::vector<std::int64_t> numbers_of(std::span<const Index> values) { return {values.begin(), values.end()}; }
  static std::array<Index, 2> parts(const kernels::KeyRange& range) { return {range.begin, range.end}; }
  static std::array<Index, 2> parts(const kernels::GridOffset& offset) { return {offset.dy, offset.dx}; }
  static std::array<Index, 3> parts(const ExtraRange& extra) { return {extra.row, extra.keys.begin, extra.keys.end}; }
  static std::array<Index, 1> parts(Index value) { return {value}; }
  static void take(std::span<const std::int64_t> from, Index& to) { to = from[0]; }
  static void take(std::span<const std::int64_t> from, kernels::KeyRange& to) { to = {from[0], from[1]}; }
  static void take(std::span<const std::int64_t> from, kernels::GridOffset& to) { to = {from[0], from[1]}; }
  static void take(std::span<const std::int64_t> from, ExtraRange& to) { to = {from[0], {from[1], from[2]}}; }

  template <class T>
  static std::vector<std::int64_t> flat(const std::vector<T>& values) {
    std::vector<std::int64_t> numbers;
    for (const T& value : values) {
      for (const Index part : parts(value)) numbers.push_back(part);
    }
    return numbers;
  }
  /// A negative count stands for any.
  template <class T>
  static void unflatten(const SessionFile& file, const std::string& name, std::vector<T>& values, Index count) {
    const std::vector<std::int64_t> numbers = file.numbers(name);
    constexpr std::size_t kParts = std::tuple_size_v<decltype(parts(T{}))>;
    const std::size_t n = numbers.size() / kParts;
    if (numbers.size() % kParts != 0 || (count >= 0 && static_cast<Index>(n) != count)) {
      throw Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor ", name), concat(numbers.size(), " numbers"),
                  count < 0 ? concat("a multiple of ", kParts) : concat(count * static_cast<Index>(kParts)));
    }
    values.resize(n);
    for (std::size_t i = 0; i < n; ++i) take(std::span(numbers).subspan(i * kParts, kParts), values[i]);
  }

  Keep keep_;
  Index hidden_size_ = 0;
  std::vector<Index> furthest_;              // [rows], of each row and those before it
  std::vector<Index> view_of_;               // [rows], indices in views_: decoded rows see what the one before sees
  std::vector<kernels::KeyRange> views_;     // of image rows
  std::vector<ExtraRange> extra_views_;      // with indices in views_
  Prompt prompt_;                            // all rows, where they are kept
  std::vector<float> images_;                // [image rows of prompt_, hidden_size]
};

}  // namespace duet
