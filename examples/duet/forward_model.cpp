#include "load_model.hpp"

#include "duet/zoo/forward_any.hpp"

std::vector<duet::NamedTensor> forward_model(const duet::AnyModel& model, const duet::ReferenceInputs& inputs,
                                             duet::Index max_new_tokens, duet::KeyValueFormat kv_format) {
  return duet::forward_any(model, inputs, max_new_tokens, kv_format);
}
