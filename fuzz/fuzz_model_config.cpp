// Any bytes as config.json: a configuration that holds together, or Error(data).

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "drrik/base/error.h"
#include "drrik/model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const drrik::ModelConfig config = drrik::parse_model_config(text, "config.json");
    config.validate();
    if (config.parameter_count() < 1) __builtin_trap();
    for (std::int64_t layer : {std::int64_t{0}, config.n_layers - 1}) {
      if (config.window(layer) < 0) __builtin_trap();
    }
    if (config.positions == drrik::PositionKind::kRotary) {
      for (const drrik::RopeOptions* rope :
           {&config.rope, config.local_rope ? &*config.local_rope : &config.rope}) {
        for (const std::int64_t length : {std::int64_t{1}, config.max_positions}) {
          const auto pairs = drrik::rope_inverse_frequencies(*rope, length).size();
          if (static_cast<std::int64_t>(2 * pairs) > config.head_dim) __builtin_trap();
        }
      }
    }
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) __builtin_trap();
  }
  return 0;
}
