#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "duet/io/checkpoint_folder.hpp"
#include "duet/pipeline/preprocessor_config.hpp"
#include "duet/pipeline/processors/arguments.hpp"

namespace duet {

/// Fuyu: a picture, scaled down where it is too large and padded to whole patches, is read patch by patch; a token ends every row.
class FuyuProcessor : public Processor {
 public:
  FuyuProcessor(PromptRules rules, const CheckpointFolder& folder) : Processor(std::move(rules)) {
    const JsonView file = folder.preprocessor_config();
    patch_size_ = read_between(folder.config(), "patch_size", 30, 1, 1024);
    do_resize_ = file.get_or("do_resize", true);
    // The first files said target_height and target_width.
    const TargetSize size = read_size(file, "size", {read_between(file, "target_height", 1080, 1, Image::kLongestSquareEdge),
                                                     read_between(file, "target_width", 1920, 1, Image::kLongestSquareEdge), {}, {}});
    most_ = {size.height.value_or(1080), size.width.value_or(1920)};
    if (most_.height % patch_size_ != 0 || most_.width % patch_size_ != 0) {
      throw Error(ErrorKind::kInvalidArgument, concat(file.where(), ": size"), concat(most_.height, " x ", most_.width),
                  concat("edges in multiples of patch_size, ", patch_size_));
    }
    padding_ = file.get_or("padding_value", 1.0);
    filter_ = read_filter(file, Filter::kBilinear);
    scale_ = PixelScale(file, kHalves, kHalves);
  }

  /// Errors  kInvalidArgument for a picture that is too large where none are resized
  [[nodiscard]] PicturePlan plan(PictureSize size) const override {
    const PictureSize fits = fitted(size);
    if (fits.height > most_.height || fits.width > most_.width) {
      throw wrong_picture(size, concat("at most ", most_.width, " x ", most_.height), "resize it");
    }
    const auto up = [this](Index edge) { return (edge + patch_size_ - 1) / patch_size_ * patch_size_; };
    return plan_of(size, {up(fits.height), up(fits.width)});
  }
  void process(const Image& picture, VisualInput& input) const override {
    const PicturePlan planned = plan({picture.height(), picture.width()});
    input.add_picture(planned);
    scale_.write(scaled(picture), 0, 0, planned.resized, input.add_crop(planned.resized), padding_);
  }
  [[nodiscard]] Image seen(const Image& picture) const override {
    const auto grey = static_cast<std::uint8_t>(std::clamp(padding_, 0.0, 255.0));
    return window(scaled(picture), 0, 0, plan({picture.height(), picture.width()}).resized, {grey, grey, grey});
  }

  /// Pictures come first, row by row, then the text between its own begin and the token that begins the answer. Boxes and points in it
  /// are pixels of a picture twice as large, and become those of the one that is read.
  [[nodiscard]] std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, std::span<const PicturePlan> pictures,
                                            SpecialTokens special) const override {
    const std::string words = without_images(text, pictures);
    if (pictures.empty()) return tokenizer.encode(words, special);
    const auto id_of = [&](std::string_view token) {
      if (const std::optional<TokenId> id = tokenizer.token_to_id(token)) return *id;
      throw Error(ErrorKind::kConfigMismatch, "tokenizer.json", concat("no token ", token), "it, as Fuyu's has");
    };
    const TokenId patch = rules().image_token_id ? *rules().image_token_id : id_of(rules().image_token), line = id_of("|NEWLINE|");
    std::vector<TokenId> ids;
    for (const PicturePlan& picture : pictures) {
      for (Index row = 0; row < picture.resized.height / patch_size_; ++row) {
        ids.insert(ids.end(), static_cast<std::size_t>(picture.resized.width / patch_size_), patch);
        ids.push_back(line);
      }
    }
    if (special == SpecialTokens::kAdd) ids.push_back(id_of("<s>"));
    add_words(words, scale_of(pictures.front().original), tokenizer, id_of, ids);
    ids.push_back(id_of("<0x04>"));
    return ids;
  }

  /// The patches of all pictures, and where they lie among image tokens and ends of rows.
  [[nodiscard]] std::vector<NamedTensor> tensors(const VisualInput& input) const override {
    std::vector<float> patches;
    std::vector<std::int64_t> indices;
    Index count = 0;
    for (Index i = 0; i < input.num_crops(); ++i) {
      const PictureSize size = input.crops[static_cast<std::size_t>(i)].size;
      const std::span<const float> pixels = input.crop(i);
      for (Index row = 0; row < size.height; row += patch_size_) {
        for (Index col = 0; col < size.width; col += patch_size_) {
          for (Index at = 0; at < patch_size_ * patch_size_; ++at) {
            const Index y = row + at / patch_size_, x = col + at % patch_size_;
            for (Index c = 0; c < input.num_channels; ++c) {
              patches.push_back(pixels[static_cast<std::size_t>((c * size.height + y) * size.width + x)]);
            }
          }
          indices.push_back(count++);
        }
        indices.push_back(-1);
      }
    }
    return {NamedTensor::floats("image_patches", {count, input.num_channels * patch_size_ * patch_size_}, patches),
            NamedTensor::int64s("image_patch_indices", {static_cast<Index>(indices.size())}, indices)};
  }

  /// image_patches: for each picture "image_patches.I" [patches, height · width · channels]; where the rows of patches end is what
  /// image_patches_indices [batch, length] say: -1 stands between them.
  [[nodiscard]] VisualInput from_arguments(const FindArgument& find) const override {
    VisualInput input;
    const Index area = patch_size_ * patch_size_;
    for (Index i = 0;; ++i) {
      const std::string name = concat("image_patches.", i);
      const auto patches = detail::find_argument(find, name, 2, "[patches, values of a patch]");
      if (!patches) return input;
      const Index count = patches->shape[0];
      if (count == 0 || patches->shape[1] == 0 || patches->shape[1] % area != 0) {
        throw detail::wrong_argument(name, *patches, concat("[patches, channels · ", patch_size_, "²]"));
      }
      const Index cols = row_length(detail::get_argument(find, "image_patches_indices", 2, "[batch, length]"), i);
      if (cols == 0 || count % cols != 0) {
        throw detail::wrong_argument(name, *patches, concat("rows of ", cols, " patches, as image_patches_indices say"));
      }
      input.num_channels = patches->shape[1] / area;
      const PictureSize size{count / cols * patch_size_, cols * patch_size_};
      input.add_picture(plan_of(size, size));
      const std::span<float> out = input.add_crop(size);  // [channels, height, width]
      for (Index k = 0; k < count; ++k) {
        const double* from = patches->values.data() + k * patches->shape[1];  // [patch_size, patch_size, channels]
        for (Index at = 0; at < area; ++at) {
          const Index y = k / cols * patch_size_ + at / patch_size_, x = k % cols * patch_size_ + at % patch_size_;
          for (Index c = 0; c < input.num_channels; ++c) {
            out[static_cast<std::size_t>((c * size.height + y) * size.width + x)] = static_cast<float>(from[at * input.num_channels + c]);
          }
        }
      }
    }
  }

 private:
  /// Patches in the first row of batch entry b.
  [[nodiscard]] static Index row_length(const Argument& indices, Index b) {
    if (b >= indices.shape[0]) return 0;
    const auto row = indices.values.begin() + b * indices.shape[1], end = row + indices.shape[1];
    const auto first = std::find_if(row, end, [](double index) { return index >= 0.0; });
    return std::find_if(first, end, [](double index) { return index < 0.0; }) - first;
  }
  [[nodiscard]] PicturePlan plan_of(PictureSize original, PictureSize padded) const {
    return {.original = original, .resized = padded, .num_tokens = padded.height / patch_size_ * (padded.width / patch_size_)};
  }

  /// Texts as they are; <box>…</box> and <point>…</point> as their numbers, scaled, between tokens of their own.
  template <class IdOf>
  static void add_words(std::string_view text, double scale, const Tokenizer& tokenizer, const IdOf& id_of, std::vector<TokenId>& ids) {
    struct Tag {
      std::string_view open, close, open_token, close_token;
      std::size_t numbers;
    };
    static constexpr Tag kTags[] = {{"<box>", "</box>", "<0x00>", "<0x01>", 4}, {"<point>", "</point>", "<0x02>", "<0x03>", 2}};
    const auto add_text = [&](std::string_view words) {
      if (words.empty()) return;
      const std::vector<TokenId> more = tokenizer.encode(words, SpecialTokens::kNone);
      ids.insert(ids.end(), more.begin(), more.end());
    };
    while (true) {
      const Tag* next = nullptr;
      for (const Tag& tag : kTags) {
        const std::size_t at = text.find(tag.open);
        if (at == std::string_view::npos || text.find(tag.close, at) == std::string_view::npos) continue;
        if (next == nullptr || at < text.find(next->open)) next = &tag;
      }
      if (next == nullptr) return add_text(text);
      const std::size_t open = text.find(next->open), begin = open + next->open.size(), end = text.find(next->close, begin);
      add_text(text.substr(0, open));
      ids.push_back(id_of(next->open_token));
      for (const double number : numbers_in(text.substr(begin, end - begin), next->numbers)) {
        ids.push_back(id_of(std::to_string(static_cast<Index>(std::nearbyint(number / 2 * scale)))));
      }
      ids.push_back(id_of(next->close_token));
      text.remove_prefix(end + next->close.size());
    }
  }
  /// Errors  kInvalidArgument for another number of them, or for what is none
  static std::vector<double> numbers_in(std::string_view text, std::size_t count) {
    const auto wrong = [&] {
      return Error(ErrorKind::kInvalidArgument, "prompt", concat('"', text, '"'), concat(count, " numbers with commas between them"));
    };
    std::vector<double> result;
    for (std::string_view rest = text;;) {
      while (rest.starts_with(' ')) rest.remove_prefix(1);
      double number = 0.0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
      if (error != std::errc() || std::abs(number) > 1e9) throw wrong();
      result.push_back(number);
      rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
      while (rest.starts_with(' ')) rest.remove_prefix(1);
      if (rest.empty()) break;
      if (!rest.starts_with(',')) throw wrong();
      rest.remove_prefix(1);
    }
    if (result.size() != count) throw wrong();
    return result;
  }
  [[nodiscard]] double scale_of(PictureSize size) const {
    if (!do_resize_ || (size.height <= most_.height && size.width <= most_.width)) return 1.0;
    const auto height = static_cast<double>(size.height), width = static_cast<double>(size.width);
    return std::min(static_cast<double>(most_.height) / height, static_cast<double>(most_.width) / width);
  }

  /// Only made smaller, never larger.
  [[nodiscard]] PictureSize fitted(PictureSize size) const {
    const double scale = scale_of(size);
    const auto scaled = [scale](Index edge) { return std::max<Index>(1, static_cast<Index>(static_cast<double>(edge) * scale)); };
    return {scaled(size.height), scaled(size.width)};
  }
  [[nodiscard]] Image scaled(const Image& picture) const {
    const PictureSize size{picture.height(), picture.width()}, fits = fitted(size);
    return fits == size ? picture : resize(picture, fits.width, fits.height, filter_);
  }

  Index patch_size_ = 0;
  PictureSize most_;
  bool do_resize_ = true;
  double padding_ = 1.0;  ///< of 0 … 255
  Filter filter_ = Filter::kBilinear;
  PixelScale scale_;
};

}  // namespace duet
