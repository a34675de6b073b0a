#include "duet/zoo/score_any.hpp"

#include "load_model.hpp"

std::vector<double> score_model(const duet::AnyModel& model, const duet::Prompt& prompt, const duet::ImageRows& rows, duet::Index first) {
  return duet::score_any(model, prompt, rows, first);
}
