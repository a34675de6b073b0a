#pragma once

#include <array>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/core/token.hpp"
#include "duet/io/chat_message.hpp"
#include "duet/io/image.hpp"
#include "duet/models/visual_input.hpp"
#include "duet/pipeline/session_file.hpp"

namespace duet {

/// What was said in a conversation that a chat template words, and the ids that it became.
struct ChatHistory {
  std::vector<TokenId> ids;           ///< read and replied
  std::vector<ChatMessage> messages;
  std::vector<PicturePlan> plans;     ///< of the pictures in the messages
  std::vector<Image> pictures;        ///< those pictures; not kept in files

  void save(SessionState& state) const {
    std::vector<std::int64_t> roles, parts;  // of a part: its message, its kind and the bytes of its text
    std::string text;
    for (const ChatMessage& message : messages) {
      roles.push_back(message.role == kRoles[0] ? 0 : 1);
      for (const ChatPart& part : message.parts) {
        parts.insert(parts.end(), {static_cast<std::int64_t>(roles.size()) - 1, part.kind == ChatPart::Kind::kImage ? 1 : 0,
                                   static_cast<std::int64_t>(part.text.size())});
        text += part.text;
      }
    }
    state.add_ids("chat.ids", ids);
    state.add("chat.roles", roles);
    state.add("chat.parts", parts);
    std::vector<std::int64_t> numbers;
    for (PicturePlan plan : plans) {
      for (const Index* number : numbers_of(plan)) numbers.push_back(*number);
    }
    state.add("chat.plans", numbers);
    state.tensors.push_back(NamedTensor::of("chat.text", DType::kU8, {static_cast<Index>(text.size())}, std::span<const char>(text)));
  }

  /// Errors  kMalformedFile and those of SessionFile
  [[nodiscard]] static ChatHistory load(const SessionFile& file) {
    ChatHistory result;
    const auto wrong = [&](const char* name) {
      return Error(ErrorKind::kMalformedFile, concat(file.where(), ": tensor ", name), "impossible numbers", "a conversation's");
    };
    result.ids = file.ids("chat.ids");
    for (const std::int64_t role : file.numbers("chat.roles")) {
      if (role != 0 && role != 1) throw wrong("chat.roles");
      result.messages.push_back({std::string(kRoles[static_cast<std::size_t>(role)]), {}});
    }
    const std::vector<std::int64_t> numbers = file.numbers("chat.plans");
    for (std::size_t i = 0; i < numbers.size(); i += kPlanNumbers) {
      if (numbers.size() % kPlanNumbers != 0) throw wrong("chat.plans");
      std::size_t at = i;
      for (Index* number : numbers_of(result.plans.emplace_back())) {
        if (numbers[at] < 0 || numbers[at] > kLargestNumber) throw wrong("chat.plans");
        *number = numbers[at++];
      }
    }
    const Index any[] = {-1};
    const TensorView text = file.tensor("chat.text", DType::kU8, any);
    const std::vector<std::int64_t> parts = file.numbers("chat.parts");
    std::int64_t done = 0;
    for (std::size_t i = 0; i < parts.size(); i += 3) {
      if (parts.size() % 3 != 0 || parts[i] < 0 || parts[i] >= std::ssize(result.messages) || parts[i + 2] < 0 ||
          parts[i + 2] > text.size() - done) {
        throw wrong("chat.parts");
      }
      const auto kind = parts[i + 1] == 1 ? ChatPart::Kind::kImage : ChatPart::Kind::kText;
      const auto* from = reinterpret_cast<const char*>(text.data) + done;
      result.messages[static_cast<std::size_t>(parts[i])].parts.push_back({kind, std::string(from, static_cast<std::size_t>(parts[i + 2]))});
      done += parts[i + 2];
    }
    return result;
  }

 private:
  static constexpr std::string_view kRoles[] = {"user", "assistant"};
  static constexpr std::size_t kPlanNumbers = 8;
  static constexpr std::int64_t kLargestNumber = std::int64_t{1} << 31;

  static std::array<Index*, kPlanNumbers> numbers_of(PicturePlan& plan) {
    return {&plan.original.height, &plan.original.width, &plan.resized.height, &plan.resized.width,
            &plan.num_crops,       &plan.tile_rows,      &plan.tile_cols,      &plan.num_tokens};
  }
};

}  // namespace duet
