#include "load_model.hpp"

#include "duet/zoo/load_any.hpp"

std::shared_ptr<const duet::AnyModel> load_model(const std::filesystem::path& folder, const duet::LoadOptions& options) {
  return duet::load_any(folder, options);
}
