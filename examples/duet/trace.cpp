#include "trace.hpp"

#include "duet/zoo/model_of.hpp"
#include "duet/zoo/with_model.hpp"

duet::AttentionTrace trace(const duet::Pipeline& pipeline, const duet::Image& picture, std::optional<std::string_view> question,
                           duet::Index max_new_tokens, duet::KeyValueFormat kv_format) {
  const duet::AnyModel& model = pipeline.model();
  return duet::with_family(model.folder().config(), [&](auto tag) -> duet::AttentionTrace {
    using Family = typename decltype(tag)::type;
    if constexpr (requires { typename Family::Model::FusionPolicy; }) {
      if (const auto* typed = dynamic_cast<const duet::ModelOf<Family>*>(&model)) {
        return duet::trace_attention(typed->model(), pipeline, picture, question, max_new_tokens, kv_format);
      }
    }
    throw duet::Error(duet::ErrorKind::kUnsupportedModel, duet::concat("config.json: model_type ", model.info().model_type),
                      duet::concat("fusion ", model.info().fusion), "a model that writes about pictures");
  });
}
