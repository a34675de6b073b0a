// How often models are right about rendered scenes, side by side, and what an answer costs.
//
//   evaluate MODEL... SCENES [--pointing OTHERS] [--limit N] [--sheet wrong.png] [--json] [--threads N]
//
// Every picture is captioned and asked all its questions, each in a conversation of its own, greedily and free-running. With
// --pointing the captions are written again, with an eye on the attention that each word pays to the picture.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <new>
#include <thread>

#include "../drawing/png.hpp"
#include "../duet/load_model.hpp"
#include "../duet/progress.hpp"
#include "../duet/trace.hpp"
#include "contact_sheet.hpp"
#include "duet/io/write_file.hpp"
#include "examine.hpp"
#include "pointing.hpp"
#include "report.hpp"
#include "share_out.hpp"
#include "tell.hpp"

namespace {

namespace fs = std::filesystem;
using duet::Index;

/// All scenes, shared out among threads with a session each. The result does not depend on their number.
std::vector<Sitting> examine(const duet::Pipeline& pipeline, const std::vector<Scene>& scenes, const fs::path& folder, int num_threads,
                             const Progress& progress, const std::string& name) {
  std::vector<Sitting> sittings(scenes.size());
  const auto examiner = [&] {
    return [&, examiner = Examiner(pipeline)](std::size_t i) mutable { sittings[i] = examiner.examine(scenes[i], folder); };
  };
  share_out(scenes.size(), num_threads, examiner,
            [&](std::size_t i) { progress.say(duet::concat(name, ": scene ", i, " of ", scenes.size())); });
  return sittings;
}

/// The pointing game on all scenes.
PointingGame play(const duet::Pipeline& pipeline, const std::vector<Scene>& scenes, const fs::path& folder, int num_threads,
                  const Progress& progress, const std::string& name) {
  const duet::Image first = duet::Image::open(folder / scenes.front().file);  // all are of one size
  const auto prompt = static_cast<Index>(
      pipeline.prompts().encode_turn(std::nullopt, pipeline.prompts().plans({&first, 1}), duet::PromptEncoder::Turn::kFirst).size());
  const Index longest = longest_answer(pipeline, pipeline.model().info().context, prompt);
  std::vector<PointingGame> games(scenes.size());
  const auto player = [&] {
    return [&](std::size_t i) {
      const duet::Image picture = duet::Image::open(folder / scenes[i].file);
      games[i].play(trace(pipeline, picture, std::nullopt, longest), scenes[i], static_cast<double>(picture.width()),
                    static_cast<double>(picture.height()));
    };
  };
  share_out(scenes.size(), num_threads, player,
            [&](std::size_t i) { progress.say(duet::concat(name, ": pointing, scene ", i, " of ", scenes.size())); });
  PointingGame all;
  for (const PointingGame& game : games) all.add(game);
  return all;
}

// --- The sheet of wrong answers ------------------------------------------------------------------

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
  std::string pointing;  // where the layer is chosen
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
  std::vector<Scene> others;
  if (!options.pointing.empty()) {
    others = read_scenes(options.pointing, 0);
    require_disjoint(scenes, others, options.pointing);
  }
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
    if (!others.empty()) {
      report.pointing = {play(pipeline, scenes, folder, num_threads, progress, names[i]),
                         play(pipeline, others, options.pointing, num_threads, progress, names[i])};
    }
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
  app.add_option("--pointing", options.pointing,
                 "Also see whether attention points at what a word names, in the layer that does so most in this other folder of scenes");
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
