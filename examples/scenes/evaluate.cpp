// How often models are right about rendered scenes, side by side, and what an answer costs.
//
//   evaluate MODEL... SCENES [--limit N] [--sheet wrong.png] [--json] [--threads N]
//
// Every picture is captioned and asked all its questions, each in a conversation of its own, greedily and free-running.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <mutex>
#include <new>
#include <thread>

#include "../drawing/png.hpp"
#include "../duet/load_model.hpp"
#include "../duet/progress.hpp"
#include "contact_sheet.hpp"
#include "duet/io/write_file.hpp"
#include "duet/pipeline/pipeline.hpp"
#include "truth.hpp"

namespace {

namespace fs = std::filesystem;
using duet::Index;
using Json = nlohmann::ordered_json;

constexpr const char* kCaption = "caption";   // what is asked beside the types of questions
constexpr const char* kAnswers = "answers";   // all questions together

// --- Asking --------------------------------------------------------------------------------------

struct Answer {
  std::string text;
  Index prompt_tokens = 0, image_tokens = 0, memory_rows = 0, new_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
};

/// What a model said about one scene.
struct Sitting {
  double image_ms = 0;
  Answer caption;
  std::vector<Answer> answers;  // one for each question
};

template <class Work>
double milliseconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/// One thread's side of an examination: a session and the scratch memory of the encoder.
class Examiner {
 public:
  explicit Examiner(const duet::Pipeline& pipeline)
      : pipeline_(&pipeline), session_(pipeline.model().start({})), workspace_(pipeline.model().compute()) {}

  [[nodiscard]] Sitting examine(const Scene& scene, const fs::path& folder) {
    const duet::Image picture = duet::Image::open(folder / scene.file);
    Sitting sitting;
    duet::ImageRows rows;
    sitting.image_ms = milliseconds([&] { rows = pipeline_->model().encode(pipeline_->preprocess({&picture, 1}), workspace_); });
    sitting.caption = ask(std::nullopt, rows);
    for (const Question& question : scene.questions) sitting.answers.push_back(ask(question.text, rows));
    return sitting;
  }

 private:
  /// Without a question the picture is captioned.
  Answer ask(std::optional<std::string_view> question, const duet::ImageRows& rows) {
    constexpr Index kLongest = 64;  // where the checkpoint does not say
    const std::vector<duet::TokenId> ids = pipeline_->encode_turn(question, 1, duet::Pipeline::Turn::kFirst);
    const duet::Prompt prompt = pipeline_->make_prompt(ids, 0, rows.rows.rows());
    duet::Sampler sampler = pipeline_->make_sampler({.temperature = 0.0f});
    for (const duet::TokenId id : ids) sampler.see(id);
    session_->clear();
    std::span<const float> logits;
    Answer answer;
    answer.prompt_tokens = prompt.size();
    answer.image_tokens = static_cast<Index>(prompt.image_rows.size());
    answer.prefill_ms = milliseconds([&] { logits = session_->prefill(prompt, rows); });
    answer.memory_rows = session_->num_image_rows();
    const Index room = session_->max_length() - session_->length() + 1;
    const Index longest = std::min(room, pipeline_->defaults().max_new_tokens.value_or(kLongest));
    duet::Reply reply;
    answer.decode_ms = milliseconds([&] {
      reply = duet::generate(*session_, logits, sampler, longest, pipeline_->defaults().eos_token_ids, pipeline_->tokenizer(), {}, {});
    });
    answer.new_tokens = static_cast<Index>(reply.ids.size());
    answer.text = reply.text.starts_with(' ') ? reply.text.substr(1) : reply.text;  // the space belongs to the prompt
    return answer;
  }

  const duet::Pipeline* pipeline_;
  std::unique_ptr<duet::AnySession> session_;
  duet::Workspace workspace_;
};

/// All scenes, shared out among threads with a session each. The result does not depend on their number.
std::vector<Sitting> examine(const duet::Pipeline& pipeline, const std::vector<Scene>& scenes, const fs::path& folder, int num_threads,
                             const Progress& progress, const std::string& name) {
  std::vector<Sitting> sittings(scenes.size());
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&](bool reports) {
    try {
      Examiner examiner(pipeline);
      for (std::size_t i = next++; i < scenes.size(); i = next++) {
        sittings[i] = examiner.examine(scenes[i], folder);
        if (reports && i % 20 < 2) progress.say(duet::concat(name, ": scene ", i, " of ", scenes.size()));
      }
    } catch (...) {
      next = scenes.size();  // the others stop after their scene
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < num_threads; ++i) others.emplace_back(work, false);
    work(true);
  }
  if (failure) std::rethrow_exception(failure);
  return sittings;
}

// --- Counting ------------------------------------------------------------------------------------

struct Score {
  std::size_t right = 0, asked = 0;
  [[nodiscard]] double share() const { return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked); }
};

using Scores = std::map<std::string, Score>;  // by what was asked

struct Wrong {
  std::size_t scene;
  std::string type, question, expected, given;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

struct Report {
  std::string name, fusion;
  Index parameters = 0, image_tokens = 0, prompt_tokens = 0, image_bytes = 0;
  double image_ms = 0, prefill_ms = 0, tokens_per_second = 0;  // medians
  Scores scores, yes;  // yes: how often that was said
  std::vector<Wrong> wrong;
};

/// The types of question in the scenes, in their order there.
std::vector<std::string> types_of(const std::vector<Scene>& scenes) {
  std::vector<std::string> types;
  for (const Scene& scene : scenes) {
    for (const Question& question : scene.questions) {
      if (std::ranges::find(types, question.type) == types.end()) types.push_back(question.type);
    }
  }
  return types;
}

/// The truths of each type, counted. Every true caption of a scene counts as one.
std::map<std::string, std::map<std::string, std::size_t>> truths_of(const std::vector<Scene>& scenes) {
  std::map<std::string, std::map<std::string, std::size_t>> counts;
  for (const Scene& scene : scenes) {
    for (const std::string& caption : scene.captions) ++counts[kCaption][caption];
    for (const Question& question : scene.questions) ++counts[question.type][question.answer];
  }
  return counts;
}

bool is_yes_or_no(const std::map<std::string, std::size_t>& answers) {
  return std::ranges::all_of(answers, [](const auto& answer) { return answer.first == "yes" || answer.first == "no"; });
}

/// Who always gives the commonest answer of a type.
Scores commonest(const std::vector<Scene>& scenes) {
  Scores scores;
  for (const auto& [type, answers] : truths_of(scenes)) {
    Score& score = scores[type];
    for (const auto& [answer, count] : answers) {
      score.right = std::max(score.right, count);
      score.asked += count;
    }
    if (type == kCaption) {
      score.asked = scenes.size();
      continue;
    }
    scores[kAnswers].right += score.right;
    scores[kAnswers].asked += score.asked;
  }
  return scores;
}

void count(const std::vector<Scene>& scenes, const std::vector<Sitting>& sittings, Report& report) {
  std::vector<double> image_ms, prefill_ms, speeds;
  const auto judge = [&](std::size_t scene, const Answer& answer, bool right, const char* all, const std::string& type,
                         const std::string& question, const std::string& expected) {
    for (const std::string& key : {std::string(all), type}) {
      Score& score = report.scores[key];
      ++score.asked;
      score.right += right ? 1 : 0;
      if (type == all) break;
    }
    ++report.yes[type].asked;
    report.yes[type].right += answer.text == "yes" ? 1 : 0;
    if (!right) report.wrong.push_back({scene, type, question, expected, answer.text});
    prefill_ms.push_back(answer.prefill_ms);
    if (answer.new_tokens > 0 && answer.decode_ms > 0) speeds.push_back(1e3 * static_cast<double>(answer.new_tokens) / answer.decode_ms);
  };
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    const Scene& scene = scenes[i];
    image_ms.push_back(sittings[i].image_ms);
    const Answer& caption = sittings[i].caption;
    judge(i, caption, is_true_caption(caption.text, scene), kCaption, kCaption, "", scene.captions.front());
    for (std::size_t k = 0; k < scene.questions.size(); ++k) {
      const Question& question = scene.questions[k];
      const Answer& answer = sittings[i].answers[k];
      judge(i, answer, answer.text == question.answer, kAnswers, question.type, question.text, question.answer);
    }
  }
  report.image_tokens = sittings.front().caption.image_tokens;
  report.prompt_tokens = sittings.front().caption.prompt_tokens;
  report.image_ms = median(std::move(image_ms));
  report.prefill_ms = median(std::move(prefill_ms));
  report.tokens_per_second = median(std::move(speeds));
}

// --- Telling -------------------------------------------------------------------------------------

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}
std::string percent(double share) { return fixed(100 * share, 1) + " %"; }

/// 1234567 as 1,234,567.
std::string grouped(std::size_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

void print_table(const std::vector<Scene>& scenes, const std::vector<Report>& reports) {
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

Json to_json(const Scores& scores) {
  Json json = Json::object();
  for (const auto& [key, score] : scores) json[key] = {{"right", score.right}, {"asked", score.asked}, {"share", score.share()}};
  return json;
}

void print_json(const std::vector<Scene>& scenes, const std::vector<Report>& reports) {
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
  }
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

/// Wrong answers, up to `most`: of each model and type in turn, so that every kind of mistake is seen.
std::vector<std::pair<const Report*, const Wrong*>> chosen(const std::vector<Report>& reports, std::size_t most) {
  std::map<std::pair<std::size_t, std::string>, std::vector<const Wrong*>> kinds;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    for (const Wrong& wrong : reports[i].wrong) kinds[{i, wrong.type}].push_back(&wrong);
  }
  std::map<std::pair<std::size_t, std::string>, std::size_t> shares;
  std::size_t taken = 0;
  for (bool more = true; more && taken < most;) {
    more = false;
    for (const auto& [kind, list] : kinds) {
      std::size_t& share = shares[kind];
      if (share == list.size() || taken == most) continue;
      ++share;
      ++taken;
      more = true;
    }
  }
  std::vector<std::pair<const Report*, const Wrong*>> result;
  for (const auto& [kind, list] : kinds) {
    for (std::size_t i = 0; i < shares[kind]; ++i) result.emplace_back(&reports[kind.first], list[i]);
  }
  return result;
}

void write_sheet(const fs::path& path, const std::vector<Scene>& scenes, const std::vector<Report>& reports, const fs::path& folder) {
  constexpr std::size_t kMost = 80;
  std::vector<Exhibit> exhibits;
  for (const auto& [report, wrong] : chosen(reports, kMost)) {
    const Scene& scene = scenes[wrong->scene];
    exhibits.push_back({duet::Image::open(folder / scene.file), duet::concat(report->name, ", ", scene.file, ", ", wrong->type),
                        wrong->question, wrong->type == kCaption ? "e.g. " + wrong->expected : wrong->expected, wrong->given});
  }
  std::string heading = duet::concat("Wrong about ", scenes.size(), " scenes:");
  std::size_t all = 0;
  for (const Report& report : reports) {
    const Score captions = report.scores.at(kCaption), answers = report.scores.contains(kAnswers) ? report.scores.at(kAnswers) : Score{};
    heading += duet::concat(' ', report.name, " in ", captions.asked - captions.right, " captions and ", answers.asked - answers.right,
                            " of ", answers.asked, " answers;");
    all += report.wrong.size();
  }
  heading += duet::concat(' ', exhibits.size() == all ? "all" : std::to_string(exhibits.size()), " shown.");
  const Canvas canvas = contact_sheet(heading, exhibits);
  duet::write_file(path, encode_png({canvas.data(), 3 * canvas.width() * canvas.height()}, canvas.width(), canvas.height()));
}

// --- The program ---------------------------------------------------------------------------------

struct Options {
  std::vector<std::string> folders;  // models, then scenes
  std::size_t limit = 0;
  int threads = 0;
  bool json = false;
  std::string sheet;
};

/// What tells the models apart: the folder's name, or the whole path where two share it.
std::vector<std::string> names_of(const std::vector<std::string>& models) {
  std::vector<std::string> names;
  const auto short_name = [](const std::string& model) {
    const fs::path path = fs::path(model).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).filename().string();
  };
  for (const std::string& model : models) {
    const std::string name = short_name(model);
    const auto same = std::ranges::count_if(models, [&](const std::string& other) { return short_name(other) == name; });
    names.push_back(same == 1 && !name.empty() && name != "." && name != ".." ? name : model);
  }
  return names;
}

void evaluate(const Options& options) {
  const std::vector<std::string> models(options.folders.begin(), options.folders.end() - 1);
  const std::vector<std::string> names = names_of(models);
  const fs::path folder = options.folders.back();
  const std::vector<Scene> scenes = read_scenes(folder, options.limit);
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int num_threads = options.threads > 0 ? options.threads : cores;
  const Progress progress("loading");
  std::vector<Report> reports;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const duet::Pipeline pipeline(load_model(models[i], {.threads = 1}));  // each session works on the thread that asks
    const duet::ModelInfo& info = pipeline.model().info();
    Report report;
    report.name = names[i];
    report.fusion = info.fusion;
    report.parameters = info.parameters;
    const std::vector<Sitting> sittings = examine(pipeline, scenes, folder, num_threads, progress, names[i]);
    count(scenes, sittings, report);
    // Keys and values of the image's rows, which are rows of the text's cache (method A) or of a memory of their own (method B).
    const Answer& caption = sittings.front().caption;
    const Index rows = caption.image_tokens + caption.memory_rows;
    report.image_bytes = rows * 2 * info.num_hidden_layers * info.num_key_value_heads * info.head_dim * Index{sizeof(float)};
    reports.push_back(std::move(report));
  }
  progress.clear();
  if (!options.sheet.empty()) write_sheet(options.sheet, scenes, reports, folder);
  if (options.json) {
    print_json(scenes, reports);
  } else {
    print_table(scenes, reports);
  }
}

}  // namespace

int main(int argc, char** argv) {
  enum Exit : int { kWell = 0, kBadInput = 1, kUsage = 2 };
  CLI::App app("How often models are right about rendered scenes, side by side, and what an answer costs", "evaluate");
  Options options;
  app.add_option("FOLDER", options.folders, "MODEL... SCENES: checkpoint folders, and last a folder that render.py wrote")
      ->required()
      ->expected(-2);
  app.add_option("--limit", options.limit, "Only the first N scenes")->check(CLI::Range(1, 1'000'000'000));
  app.add_option("--sheet", options.sheet, "A PNG file for pictures with wrong answers");
  app.add_option("--threads", options.threads, "Threads, each with a session of its own; 0: one per core")->check(CLI::Range(0, 1024));
  app.add_flag("--json", options.json, "Print one JSON object, wrong answers included");
  try {
    app.parse(argc, argv);
    evaluate(options);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kWell : kUsage;
  } catch (const std::bad_alloc&) {
    std::cerr << "evaluate: not enough memory\n";
    return kBadInput;
  } catch (const std::exception& e) {
    std::cerr << "evaluate: " << e.what() << '\n';
    return kBadInput;
  }
  return kWell;
}
