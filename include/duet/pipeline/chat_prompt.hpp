#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "duet/core/error.hpp"
#include "duet/io/chat_template.hpp"

namespace duet {

/// A checkpoint's chat template and how it wants messages. One that cannot be used is an error only when it is needed. Const, and
/// safe to share among threads.
class ChatPrompt {
 public:
  /// That of a folder, or nothing where it has none.
  [[nodiscard]] static std::optional<ChatWording> find(const std::filesystem::path& folder) {
    std::shared_ptr<const ChatPrompt> prompt;
    try {
      std::optional<ChatTemplate> found = ChatTemplate::find(folder);
      if (!found) return std::nullopt;
      prompt.reset(new ChatPrompt(std::move(found), std::nullopt));
    } catch (const Error& e) {
      prompt.reset(new ChatPrompt(std::nullopt, e));
    }
    return ChatWording(std::move(prompt));
  }

  /// Errors  those of ChatTemplate::find and render
  [[nodiscard]] std::string render(std::span<const ChatMessage> messages, std::string_view image_token) const {
    if (problem_) throw *problem_;
    return template_->render(messages, content_, image_token, jinja::CivilTime::now());
  }

 private:
  ChatPrompt(std::optional<ChatTemplate> found, std::optional<Error> problem)
      : template_(std::move(found)), problem_(std::move(problem)) {
    if (template_) content_ = template_->reads();
  }

  std::optional<ChatTemplate> template_;
  std::optional<Error> problem_;
  ChatTemplate::Content content_ = ChatTemplate::Content::kText;
};

}  // namespace duet
