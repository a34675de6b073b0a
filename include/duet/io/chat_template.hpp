#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "duet/core/error.hpp"
#include "duet/io/chat_message.hpp"
#include "duet/io/json.hpp"
#include "duet/io/template/calendar.hpp"
#include "duet/io/template/interpreter.hpp"
#include "duet/io/template/json_value.hpp"
#include "duet/io/template/parser.hpp"
#include "duet/io/utf8.hpp"

namespace duet {

/// How a conversation becomes the text that a model reads: the Jinja template that comes with a checkpoint, rendered as
/// transformers' apply_chat_template does. Const, and safe to share among threads.
class ChatTemplate {
 public:
  /// The template of a folder, from chat_template.jinja, else chat_template.json, else tokenizer_config.json; nothing where
  /// none has one. The special tokens come from tokenizer_config.json and special_tokens_map.json.
  /// Errors  kMalformedFile and kUnsupportedModel, with the template's line
  [[nodiscard]] static std::optional<ChatTemplate> find(const std::filesystem::path& folder) {
    const auto is_there = [&](const char* name) {
      std::error_code ignored;
      return std::filesystem::exists(std::filesystem::symlink_status(folder / name, ignored));
    };
    const auto read = [&](const char* name) { return is_there(name) ? read_json_file(folder / name) : nlohmann::json::object(); };
    const nlohmann::json config = read("tokenizer_config.json"), tokens = read("special_tokens_map.json");
    ChatTemplate result;
    if (is_there("chat_template.jinja")) {
      result.add("default", read_text_file(folder / "chat_template.jinja", kMostBytes), "chat_template.jinja");
    }
    for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
      if (!result.templates_.empty() || !is_there(file)) continue;
      const nlohmann::json other = std::string_view(file) == "chat_template.json" ? read(file) : nlohmann::json();
      result.add_all(JsonView(other.is_null() ? config : other, file));
    }
    if (result.templates_.empty()) return std::nullopt;
    result.read_special_tokens({JsonView(config, "tokenizer_config.json"), JsonView(tokens, "special_tokens_map.json")});
    return result;
  }

  /// The same, where a template must be there.
  /// Errors  also kFileNotReadable
  [[nodiscard]] static ChatTemplate load(const std::filesystem::path& folder) {
    if (auto found = find(folder)) return std::move(*found);
    std::error_code ignored;
    const bool there = std::filesystem::exists(folder, ignored);
    throw Error(ErrorKind::kFileNotReadable, folder.string(), there ? "no chat template" : "nothing there",
                "chat_template.jinja, chat_template.json, or a chat_template in tokenizer_config.json", there ? "base models have none" : "is the path right?");
  }

  /// A template from memory; `special_tokens` are variables of it, by name.
  [[nodiscard]] static ChatTemplate parse(std::string_view source, const std::map<std::string, std::string>& special_tokens = {}) {
    ChatTemplate result;
    result.add("default", source, "chat_template");
    jinja::Run run("chat_template");
    for (const auto& [name, token] : special_tokens) result.variables_.insert_or_assign(name, jinja::make_text(run, token));
    return result;
  }

  /// The prompt for a request as JSON: an object with "messages" and what else the template shall see ("tools", "documents",
  /// "add_generation_prompt"; absent ones are none and false). `where` names it in errors.
  /// Errors  kInvalidArgument for what the template rejects (raise_exception) or cannot do; kMalformedFile for no JSON;
  ///         kUnsupportedModel for what is beyond the interpreter; each with the template's line
  [[nodiscard]] std::string render_json(std::string_view request, const std::string& where, const jinja::CivilTime& now, jinja::Limits limits = {}) const {
    jinja::Run run(where, limits);
    const jinja::Value value = jinja::JsonValueReader::read(run, request, where);
    const jinja::Dict* const dict = value.dict();
    if (dict == nullptr || !jinja::find_key(run, *dict, "messages")) {
      throw Error(ErrorKind::kInvalidArgument, where, dict == nullptr ? value.type_name() : "no messages", "an object with messages");
    }
    Variables variables = variables_;
    for (const auto& [key, item] : dict->items) variables.insert_or_assign(key.text(), item);
    return render(std::move(variables), now, limits);
  }

  /// How a message's content is given: as text alone, or as a list of parts.
  enum class Content : unsigned char { kText, kParts };

  /// The prompt for a conversation, at whose end the assistant is to speak. Images in messages whose content is text are
  /// `image_token`s before it.
  [[nodiscard]] std::string render(std::span<const ChatMessage> messages, Content content, std::string_view image_token, const jinja::CivilTime& now) const {
    jinja::Run run("messages");
    std::vector<jinja::Value> list;
    for (const ChatMessage& message : messages) list.push_back(to_value(run, message, content, image_token));
    Variables variables = variables_;
    variables.insert_or_assign("messages", jinja::make_list(run, std::move(list)));
    variables.insert_or_assign("add_generation_prompt", true);
    return render(std::move(variables), now, {});
  }

  /// Whether the template reads a list of parts: some print the content as it is, others go through it.
  [[nodiscard]] Content reads() const {
    constexpr std::string_view kProbe = "duet-probe";
    const ChatMessage message{"user", {{ChatPart::Kind::kText, std::string(kProbe)}}};
    try {
      const std::string prompt = render({&message, 1}, Content::kParts, {}, {});
      const std::size_t at = prompt.find(kProbe);
      const bool alone = at != std::string::npos && prompt.find("'type'") == std::string::npos && prompt.find("\"type\"") == std::string::npos;
      return alone ? Content::kParts : Content::kText;
    } catch (const Error&) {
      return Content::kText;
    }
  }

 private:
  using Variables = std::map<std::string, jinja::Value, std::less<>>;
  struct Named {
    std::string where;
    jinja::Block block;
  };
  static constexpr std::size_t kMostBytes = std::size_t{1} << 20;

  void add(const std::string& name, std::string_view source, const std::string& where) {
    if (source.size() > kMostBytes) throw Error(ErrorKind::kMalformedFile, where, concat(source.size(), " bytes"), concat("at most ", kMostBytes));
    auto named = std::make_shared<Named>();
    named->where = where;
    named->block = jinja::Parser::parse(replace_invalid_utf8(source), where);
    templates_.insert_or_assign(name, std::move(named));
  }
  /// "chat_template": a text, a list of {"name", "template"}, or an object of names and texts.
  void add_all(const JsonView& file) {
    if (!file.contains("chat_template")) return;
    const JsonView view = file.at("chat_template");
    const std::string where = concat(file.where(), ": chat_template");
    if (view.json().is_string()) return add("default", view.json().get_ref<const std::string&>(), where);
    if (view.json().is_object()) {
      for (const auto& [name, source] : view.json().get_ref<const nlohmann::json::object_t&>()) add(name, view.get<std::string>(name), concat(where, '.', name));
      return;
    }
    for (const JsonView& named : view.elements()) {
      const auto name = named.get<std::string>("name");
      add(name, named.get<std::string>("template"), concat(where, " (", name, ')'));
    }
  }

  void read_special_tokens(std::initializer_list<JsonView> files) {
    static constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    jinja::Run run("tokenizer_config.json");
    const auto text_of = [](const JsonView& token) { return token.json().is_object() ? token.get<std::string>("content") : token.as<std::string>(); };
    for (const JsonView& file : files) {
      for (const char* name : kNames) {
        if (file.contains(name)) variables_.emplace(name, jinja::make_text(run, text_of(file.at(name))));
      }
      if (file.contains("additional_special_tokens")) {
        std::vector<jinja::Value> tokens;
        for (const JsonView& token : file.at("additional_special_tokens").elements()) tokens.push_back(jinja::make_text(run, text_of(token)));
        variables_.emplace("additional_special_tokens", jinja::make_list(run, std::move(tokens)));
      }
      if (file.contains("extra_special_tokens") && file.at("extra_special_tokens").json().is_object()) {
        const JsonView extra = file.at("extra_special_tokens");
        for (const auto& [name, token] : extra.json().get_ref<const nlohmann::json::object_t&>()) {
          if (extra.contains(name)) variables_.emplace(name, jinja::make_text(run, text_of(extra.at(name))));
        }
      }
    }
  }

  static jinja::Value to_value(jinja::Run& run, const ChatMessage& message, Content content, std::string_view image_token) {
    const auto text = [&](std::string_view utf8) { return jinja::make_text(run, utf8); };
    std::vector<jinja::Value> parts;
    std::string images, words;
    for (const ChatPart& part : message.parts) {
      const bool image = part.kind == ChatPart::Kind::kImage;
      std::vector<std::pair<jinja::Value, jinja::Value>> items = {{text("type"), text(image ? "image" : "text")}};
      if (!image) items.emplace_back(text("text"), text(part.text));
      parts.push_back(jinja::make_dict(run, std::move(items)));
      if (image) images += concat(image_token, '\n');
      words += part.text;
    }
    return jinja::make_dict(run, {{text("role"), text(message.role)},
                                  {text("content"), content == Content::kParts ? jinja::make_list(run, std::move(parts)) : text(images + words)}});
  }

  /// transformers' choice among several: one for tools where there are tools, else the default.
  [[nodiscard]] const Named& choose(const Variables& variables) const {
    const auto tools = variables.find("tools");
    const bool has_tools = tools != variables.end() && !tools->second.is_none();
    auto it = has_tools ? templates_.find("tool_use") : templates_.end();
    if (it == templates_.end()) it = templates_.find("default");
    if (it != templates_.end()) return *it->second;
    std::string names;
    for (const auto& [name, ignored] : templates_) names += concat(names.empty() ? "" : ", ", name);
    throw Error(ErrorKind::kMalformedFile, templates_.begin()->second->where, concat("templates named ", names), "one named default");
  }

  [[nodiscard]] std::string render(Variables variables, const jinja::CivilTime& now, jinja::Limits limits) const {
    variables.emplace("tools", jinja::None{});
    variables.emplace("documents", jinja::None{});
    variables.emplace("add_generation_prompt", false);
    variables.emplace("raise_exception", jinja::make_function([](jinja::Run& run, jinja::Arguments arguments) -> jinja::Value {
      const jinja::Parameters p(run, "raise_exception", "message", std::move(arguments));
      throw run.error(jinja::to_text(run, p.at(0)), "messages that the template accepts");
    }));
    variables.emplace("strftime_now", jinja::make_function([&now](jinja::Run& run, jinja::Arguments arguments) {
      const jinja::Parameters p(run, "strftime_now", "format", std::move(arguments));
      return jinja::make_text(run, jinja::format_time(run, p.text(0), now));
    }));
    const Named& chosen = choose(variables);
    jinja::Run run(chosen.where, limits);
    return jinja::Interpreter(run, std::move(variables)).render(chosen.block);
  }

  std::map<std::string, std::shared_ptr<const Named>> templates_;
  Variables variables_;  // the special tokens
};

}  // namespace duet
