#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "report.hpp"

/// Reports as a table for people and as JSON for programs.

using Json = nlohmann::ordered_json;

inline std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}
inline std::string percent(double share) { return fixed(100 * share, 1) + " %"; }

/// 1234567 as 1,234,567.
inline std::string grouped(std::size_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

inline void print_table(const std::vector<Scene>& scenes, const std::vector<Report>& reports) {
  const Scores baseline = commonest(scenes);
  const auto truths = truths_of(scenes);
  std::vector<std::vector<std::string>> table;
  const auto add = [&](std::string what, const auto& cell, std::string last) {
    std::vector<std::string>& row = table.emplace_back();
    row.push_back(std::move(what));
    for (const Report& report : reports) row.push_back(cell(report));
    row.push_back(std::move(last));
  };
  const auto right = [&](const std::string& key, const std::string& what) {
    const auto found = baseline.find(key);
    if (found == baseline.end()) return;
    add(duet::concat(what, " (", found->second.asked, ")"), [&](const Report& r) { return percent(r.scores.at(key).share()); },
        percent(found->second.share()));
  };
  add("right", [](const Report& r) { return r.name; }, "commonest");
  right(kCaption, kCaption);
  right(kAnswers, kAnswers);
  const std::vector<std::string> types = types_of(scenes);
  for (const std::string& type : types) right(type, "  " + type);
  add("", [](const Report&) { return ""; }, "");
  add("says yes", [](const Report&) { return ""; }, "truth");
  for (const std::string& type : types) {
    const auto& answers = truths.at(type);
    if (!is_yes_or_no(answers)) continue;
    const auto yes = answers.find("yes");
    const auto count_yes = static_cast<double>(yes == answers.end() ? 0 : yes->second);
    add("  " + type, [&](const Report& r) { return percent(r.yes.at(type).share()); },
        percent(count_yes / static_cast<double>(baseline.at(type).asked)));
  }
  if (!reports.empty() && reports.front().pointing) {
    const auto point = [&](const std::string& what, const auto& cell) {
      add("  " + what, [&](const Report& r) { return cell(*r.pointing); }, "");
    };
    add("", [](const Report&) { return ""; }, "");
    add("points at what it names", [](const Report&) { return ""; }, "");
    point("colour words", [](const PointingReport& p) { return percent(p.chosen().colours.share()); });
    point("shape words", [](const PointingReport& p) { return percent(p.chosen().shapes.share()); });
    point("both", [](const PointingReport& p) { return percent(p.chosen().all().share()); });
    point("both, mean of all layers", [](const PointingReport& p) { return percent(p.game.played.front().all().share()); });
    point("both, a random patch", [](const PointingReport& p) { return percent(p.game.random_patch()); });
    point("both, a random object", [](const PointingReport& p) { return percent(p.game.random_object()); });
    point("words", [](const PointingReport& p) { return grouped(p.game.words()); });
    point("layer, chosen elsewhere", [](const PointingReport& p) { return std::to_string(*p.chosen().choice.layer); });
  }
  add("", [](const Report&) { return ""; }, "");
  add("fusion", [](const Report& r) { return r.fusion; }, "");
  add("parameters", [](const Report& r) { return grouped(static_cast<std::size_t>(r.parameters)); }, "");
  add("image tokens in the context", [](const Report& r) { return std::to_string(r.image_tokens); }, "");
  add("KV bytes of an image", [](const Report& r) { return grouped(static_cast<std::size_t>(r.image_bytes)); }, "");
  add("image ms", [](const Report& r) { return fixed(r.image_ms, 2); }, "");
  add("prefill ms", [](const Report& r) { return fixed(r.prefill_ms, 2); }, "");
  add("decode tokens/s", [](const Report& r) { return fixed(r.tokens_per_second, 0); }, "");

  std::vector<std::size_t> widths(reports.size() + 2);
  for (const auto& row : table) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : table) {
    std::string line = row[0] + std::string(widths[0] - row[0].size(), ' ');
    for (std::size_t i = 1; i < row.size(); ++i) line += std::string(3 + widths[i] - row[i].size(), ' ') + row[i];
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << line << '\n';
  }
}

inline Json to_json(const Score& score) { return {{"right", score.right}, {"asked", score.asked}, {"share", score.share()}}; }

inline Json to_json(const Scores& scores) {
  Json json = Json::object();
  for (const auto& [key, score] : scores) json[key] = to_json(score);
  return json;
}

/// All layers and heads; null where averaged.
inline Json to_json(const PointingGame& game) {
  Json json = Json::array();
  const auto number = [](const std::optional<duet::Index>& choice) { return choice ? Json(*choice) : Json(nullptr); };
  for (const Pointing& p : game.played) {
    json.push_back({{"layer", number(p.choice.layer)},
                    {"head", number(p.choice.head)},
                    {"colours", to_json(p.colours)},
                    {"shapes", to_json(p.shapes)}});
  }
  return {{"words", game.words()}, {"random_patch", game.random_patch()}, {"random_object", game.random_object()}, {"choices", json}};
}

inline Json to_json(const PointingReport& pointing) {
  return {{"layer", *pointing.chosen().choice.layer},
          {"colours", to_json(pointing.chosen().colours)},
          {"shapes", to_json(pointing.chosen().shapes)},
          {"both", to_json(pointing.chosen().all())},
          {"here", to_json(pointing.game)},
          {"chosen_on", to_json(pointing.chosen_on)}};
}

inline void print_json(const std::vector<Scene>& scenes, const std::vector<Report>& reports) {
  Json json;
  json["scenes"] = scenes.size();
  json["truths"] = Json::object();
  for (const auto& [type, answers] : truths_of(scenes)) {
    if (type != kCaption) json["truths"][type] = answers;
  }
  json["commonest"] = to_json(commonest(scenes));
  json["models"] = Json::array();
  for (const Report& r : reports) {
    Json wrong = Json::array();
    for (const Wrong& w : r.wrong) {
      wrong.push_back({{"file", scenes[w.scene].file}, {"type", w.type}, {"question", w.question}, {"expected", w.expected}, {"given", w.given}});
    }
    json["models"].push_back({{"name", r.name},
                              {"fusion", r.fusion},
                              {"parameters", r.parameters},
                              {"prompt_tokens", r.prompt_tokens},
                              {"image_tokens", r.image_tokens},
                              {"image_kv_bytes", r.image_bytes},
                              {"milliseconds", {{"image", r.image_ms}, {"prefill", r.prefill_ms}}},
                              {"decode_tokens_per_second", r.tokens_per_second},
                              {"scores", to_json(r.scores)},
                              {"wrong", wrong}});
    if (r.pointing) json["models"].back()["pointing"] = to_json(*r.pointing);
  }
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}
