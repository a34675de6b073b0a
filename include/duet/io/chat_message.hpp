#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace duet {

/// A part of a message: an image, or text.
struct ChatPart {
  enum class Kind : unsigned char { kText, kImage } kind = Kind::kText;
  std::string text = {};  ///< of a text
};

/// A turn of a conversation.
struct ChatMessage {
  std::string role;  ///< "user", "assistant", "system"
  std::vector<ChatPart> parts;
};

/// Words a conversation as a checkpoint wants it: whatever has render(messages, image_token). A type of its own, so that a program
/// whose families have no chat templates does not compile an interpreter of them (io/chat_template.hpp); and no base class, for
/// g++ would guess at the one class derived from it, and compile that.
class ChatWording {
 public:
  template <class Words>
  explicit ChatWording(std::shared_ptr<const Words> words)
      : words_(std::move(words)), render_([](const void* self, std::span<const ChatMessage> messages, std::string_view image_token) {
          return static_cast<const Words*>(self)->render(messages, image_token);
        }) {}

  /// The prompt for a conversation, at whose end the assistant is to speak.
  [[nodiscard]] std::string render(std::span<const ChatMessage> messages, std::string_view image_token) const {
    return render_(words_.get(), messages, image_token);
  }

 private:
  std::shared_ptr<const void> words_;
  std::string (*render_)(const void*, std::span<const ChatMessage>, std::string_view);
};

}  // namespace duet
