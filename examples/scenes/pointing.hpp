#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "duet/pipeline/attention_trace.hpp"
#include "score.hpp"
#include "truth.hpp"

/// The pointing game: while a model writes a colour or a shape, does its attention on the picture peak at the object that has it?

/// The patches of a picture: cells of one size, row by row from the top left.
struct PatchGrid {
  std::size_t rows = 0, cols = 0;
  double width = 0, height = 0;  ///< of the picture in pixels

  [[nodiscard]] std::size_t size() const { return rows * cols; }

  /// The rule of the game: a patch points at what its centre lies in.
  [[nodiscard]] bool points_into(std::size_t patch, const Box& box) const {
    const double x = (static_cast<double>(patch % cols) + 0.5) * width / static_cast<double>(cols);
    const double y = (static_cast<double>(patch / cols) + 0.5) * height / static_cast<double>(rows);
    return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
  }
  /// How many patches would be right: chance is their share of all.
  [[nodiscard]] std::size_t count_in(const Box& box) const {
    std::size_t count = 0;
    for (std::size_t patch = 0; patch < size(); ++patch) count += points_into(patch, box) ? 1 : 0;
    return count;
  }
};

/// A colour or a shape in a caption, and whose it is.
struct NamingWord {
  std::size_t word;  ///< its place in the caption
  const SceneObject* object;
  bool is_colour;  ///< or else a shape
};

/// The words of a caption that name an object of the scene: a colour with the shape behind it, where an object has both. No two
/// objects of a scene share both, so it is one object. Colours and shapes of nothing in the scene have no right place to point at.
inline std::vector<NamingWord> naming_words(std::span<const std::string> caption, const Scene& scene) {
  std::vector<NamingWord> words;
  for (std::size_t i = 0; i + 1 < caption.size(); ++i) {
    for (const SceneObject& object : scene.objects) {
      if (caption[i] != object.colour || caption[i + 1] != object.shape) continue;
      words.push_back({i, &object, true});
      words.push_back({i + 1, &object, false});
    }
  }
  return words;
}

/// How often one choice of layers and heads points at what is named.
struct Pointing {
  duet::HeatChoice choice;
  Score colours, shapes;

  [[nodiscard]] Score all() const { return {colours.right + shapes.right, colours.asked + shapes.asked}; }
};

/// One model's game on some scenes.
struct PointingGame {
  std::vector<Pointing> played;  ///< all layers and heads averaged, every layer with its heads averaged, every head
  Score patches;                 ///< of all words: the patches that would be right, among all
  double objects = 0;            ///< of all words: the one right object's share among the scene's

  [[nodiscard]] std::size_t words() const { return played.empty() ? 0 : played.front().all().asked; }
  /// How often a random patch would be right, by the same rule.
  [[nodiscard]] double random_patch() const { return patches.share(); }
  /// How often a random object of the scene would be right: who points at objects and does not know which.
  [[nodiscard]] double random_object() const { return words() == 0 ? 0.0 : objects / static_cast<double>(words()); }
  /// The layer that is right most often, as a place in `played`; the first of equals.
  [[nodiscard]] std::size_t best_layer() const {
    std::size_t best = played.size();
    for (std::size_t i = 0; i < played.size(); ++i) {
      const bool is_layer = played[i].choice.layer && !played[i].choice.head;
      if (is_layer && (best == played.size() || played[i].all().right > played[best].all().right)) best = i;
    }
    return best;
  }

  /// Counts the words of one caption. The patches must cover the picture: nothing cropped away, nothing added.
  void play(const duet::AttentionTrace& trace, const Scene& scene, double width, double height) {
    if (played.empty()) {
      played.push_back({});
      for (duet::Index layer = 0; layer < trace.num_layers; ++layer) played.push_back({{layer, {}}, {}, {}});
      for (duet::Index layer = 0; layer < trace.num_layers; ++layer) {
        for (duet::Index head = 0; head < trace.num_heads; ++head) played.push_back({{layer, head}, {}, {}});
      }
    }
    const PatchGrid grid{static_cast<std::size_t>(trace.rows), static_cast<std::size_t>(trace.cols), width, height};
    std::vector<std::string> caption;
    for (const duet::AttentionTrace::Word& word : trace.words) caption.push_back(word.text);
    for (const NamingWord& naming : naming_words(caption, scene)) {
      patches.add({grid.count_in(naming.object->box), grid.size()});
      objects += 1.0 / static_cast<double>(scene.objects.size());
      for (Pointing& pointing : played) {
        const std::vector<float> heat = trace.heat(trace.words[naming.word], pointing.choice);
        const auto peak = static_cast<std::size_t>(std::ranges::max_element(heat) - heat.begin());
        Score& score = naming.is_colour ? pointing.colours : pointing.shapes;
        ++score.asked;
        score.right += grid.points_into(peak, naming.object->box) ? 1 : 0;
      }
    }
  }

  /// Adds a game of the same model on other scenes.
  void add(const PointingGame& other) {
    if (played.empty()) played.resize(other.played.size());
    patches.add(other.patches);
    objects += other.objects;
    for (std::size_t i = 0; i < other.played.size(); ++i) {
      played[i].choice = other.played[i].choice;
      played[i].colours.add(other.played[i].colours);
      played[i].shapes.add(other.played[i].shapes);
    }
  }
};

/// A game, and the one whose best layer it is reported with: chosen and reported on the same words, a layer would look too good.
struct PointingReport {
  PointingGame game, chosen_on;

  [[nodiscard]] const Pointing& chosen() const { return game.played[chosen_on.best_layer()]; }
};

/// Errors  kInvalidArgument when a scene is in both folders
inline void require_disjoint(const std::vector<Scene>& scenes, const std::vector<Scene>& others, const std::string& where) {
  for (const Scene& other : others) {
    const auto same = std::ranges::find(scenes, other.objects, &Scene::objects);
    if (same == scenes.end()) continue;
    throw duet::Error(duet::ErrorKind::kInvalidArgument, where, duet::concat("the scene ", same->file, " that is also reported on"),
                      "scenes of another seed");
  }
}
