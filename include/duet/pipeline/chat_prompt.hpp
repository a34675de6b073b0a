#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "duet/core/error.hpp"
#include "duet/io/chat_template.hpp"

namespace duet {

/// A checkpoint's chat template, if it has one, and how it wants messages. A template that cannot be used is an error only
/// when it is needed. Const, and safe to share among threads.
class ChatPrompt {
 public:
  explicit ChatPrompt(const std::filesystem::path& folder) {
    try {
      template_ = ChatTemplate::find(folder);
      if (template_) content_ = template_->reads();
    } catch (const Error& e) {
      problem_ = e;
    }
  }

  [[nodiscard]] bool is_there() const noexcept { return template_ || problem_; }

  /// The prompt for a conversation, at whose end the assistant is to speak.
  /// Requires is_there()
  /// Errors   those of ChatTemplate::find and render
  [[nodiscard]] std::string render(std::span<const ChatMessage> messages, std::string_view image_token) const {
    if (problem_) throw *problem_;
    return template_->render(messages, content_, image_token, jinja::CivilTime::now());
  }

 private:
  std::optional<ChatTemplate> template_;
  std::optional<Error> problem_;
  ChatTemplate::Content content_ = ChatTemplate::Content::kText;
};

}  // namespace duet
