#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "duet/io/json.hpp"

/// What render.py wrote about its pictures, and which captions are true of them.

/// Edges in pixels; y points down.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  bool operator==(const Box&) const = default;
};

struct SceneObject {
  std::string shape, colour, size;
  double x = 0, y = 0;  ///< the centre in pixels; y points down
  Box box;              ///< of the outline
  bool operator==(const SceneObject&) const = default;
};

struct Question {
  std::string type, text, answer;
};

struct Scene {
  std::string file;
  std::vector<SceneObject> objects;
  std::vector<std::string> captions;  ///< all true ones
  std::vector<Question> questions;
};

/// Whether `caption` is one of the grammar in README.md, names every object of the scene once, with its size, colour and shape,
/// and tells for each further object a relation that holds.
inline bool is_true_caption(std::string_view caption, const Scene& scene) {
  constexpr double kMargin = 8.0;  // pixels between two centres along the relation's axis
  // Takes `word` and the space or end behind it off the caption.
  const auto take = [&](std::string_view word) {
    if (!caption.starts_with(word)) return false;
    if (caption.size() == word.size()) {
      caption = {};
      return true;
    }
    if (caption[word.size()] != ' ' || caption.size() == word.size() + 1) return false;
    caption.remove_prefix(word.size() + 1);
    return true;
  };
  std::vector<bool> named(scene.objects.size());
  const auto take_object = [&]() -> const SceneObject* {
    for (std::size_t i = 0; i < named.size(); ++i) {
      const SceneObject& o = scene.objects[i];
      if (named[i] || !take(duet::concat("a ", o.size, ' ', o.colour, ' ', o.shape))) continue;
      named[i] = true;
      return &o;
    }
    return nullptr;
  };
  const SceneObject* const first = take_object();
  if (first == nullptr) return false;
  for (std::size_t i = 1; i < named.size(); ++i) {
    if (i > 1 && !take("and")) return false;
    const bool left = take("left of"), right = !left && take("right of");
    const bool above = !left && !right && take("above"), below = !left && !right && !above && take("below");
    if (!left && !right && !above && !below) return false;
    const SceneObject* const other = take_object();
    if (other == nullptr) return false;
    const double distance = left ? other->x - first->x : right ? first->x - other->x : above ? other->y - first->y : first->y - other->y;
    if (distance < kMargin) return false;
  }
  return caption.empty();
}

/// The first `limit` scenes of a folder that render.py wrote; all of them for 0.
/// Errors  kFileNotReadable; kMalformedFile; kInvalidArgument for a line that lacks something, or contradicts itself
inline std::vector<Scene> read_scenes(const std::filesystem::path& folder, std::size_t limit) {
  const std::string lines = duet::read_text_file(folder / "scenes.jsonl");
  std::vector<Scene> scenes;
  for (std::size_t begin = 0, number = 1; begin < lines.size() && (limit == 0 || scenes.size() < limit); ++number) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    const std::string where = duet::concat("scenes.jsonl, line ", number);
    const nlohmann::json line = duet::parse_json(std::string_view(lines).substr(begin, end - begin), where);
    const duet::JsonView json(line, where);
    Scene scene;
    scene.file = json.get<std::string>("file");
    for (const duet::JsonView& o : json.at("objects").elements()) {
      const auto centre = o.get<std::vector<double>>("centre");
      if (centre.size() != 2) throw duet::Error(duet::ErrorKind::kInvalidArgument, o.where(), "another centre", "x and y");
      const auto bbox = o.get<std::vector<double>>("bbox");
      if (bbox.size() != 4 || bbox[0] > bbox[2] || bbox[1] > bbox[3]) {
        throw duet::Error(duet::ErrorKind::kInvalidArgument, o.where(), "another bbox", "left, top, right and bottom");
      }
      scene.objects.push_back({o.get<std::string>("shape"), o.get<std::string>("colour"), o.get<std::string>("size"), centre[0],
                               centre[1], {bbox[0], bbox[1], bbox[2], bbox[3]}});
    }
    scene.captions = json.get<std::vector<std::string>>("captions");
    for (const duet::JsonView& q : json.at("questions").elements()) {
      scene.questions.push_back({q.get<std::string>("type"), q.get<std::string>("question"), q.get<std::string>("answer")});
    }
    if (scene.captions.empty()) throw duet::Error(duet::ErrorKind::kInvalidArgument, where, "no caption", "at least one");
    for (const std::string& caption : scene.captions) {
      if (!is_true_caption(caption, scene)) {
        throw duet::Error(duet::ErrorKind::kInvalidArgument, where, duet::concat('"', caption, '"'), "captions that the objects bear out");
      }
    }
    scenes.push_back(std::move(scene));
    begin = end + 1;
  }
  if (scenes.empty()) throw duet::Error(duet::ErrorKind::kInvalidArgument, (folder / "scenes.jsonl").string(), "no scenes", "at least one");
  return scenes;
}
