#pragma once

#include <filesystem>
#include <future>
#include <utility>

#include "duet/io/tokenizer.hpp"

namespace duet {

/// When a folder's tokenizer is read.
enum class TokenizerReading : unsigned char {
  kInBackground,  ///< from the beginning, by a thread that ends with the reading
  kWhenNeeded,    ///< by the first who asks
};

/// A folder's tokenizer, which may still be being read: whoever asks for it waits, and what was wrong with its files is thrown
/// then. Const, and safe to share among threads; copies share one tokenizer, and the last of them waits for the reading thread.
class TokenizerInFolder {
 public:
  /// Where the system grants no thread, kInBackground is kWhenNeeded.
  TokenizerInFolder(const std::filesystem::path& folder, TokenizerReading reading) {
    if (!Tokenizer::is_in(folder)) return;
    const auto policy = reading == TokenizerReading::kInBackground ? std::launch::async | std::launch::deferred : std::launch::deferred;
    tokenizer_ = std::async(policy, [folder] { return Tokenizer::load(folder); }).share();
  }

  /// The tokenizer, at a place where it stays; nullptr where the folder has none.
  /// Errors  those of Tokenizer::load, the same for all who ask
  [[nodiscard]] const Tokenizer* get() const { return tokenizer_.valid() ? &tokenizer_.get() : nullptr; }

 private:
  std::shared_future<Tokenizer> tokenizer_;
};

}  // namespace duet
