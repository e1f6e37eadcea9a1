// Any text as a hook's name, for models of every wiring: a point that the model has, which its own
// names lead back to, or Error(usage).

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/model/hook_names.h"
#include "drrik/model/model.h"

namespace {

std::vector<drrik::ModelConfig> make_configs() {
  const char* const texts[] = {
      R"({"model_type":"llama","vocab_size":9,"hidden_size":4,"num_hidden_layers":3,"num_attention_heads":1,
          "intermediate_size":5})",
      R"({"model_type":"gpt2","vocab_size":9,"n_embd":4,"n_layer":3,"n_head":1})",
      R"({"model_type":"gpt_neox","vocab_size":9,"hidden_size":4,"num_hidden_layers":3,"num_attention_heads":1,
          "intermediate_size":5})",
      R"({"model_type":"olmo2","vocab_size":9,"hidden_size":4,"num_hidden_layers":3,"num_attention_heads":1,
          "intermediate_size":5})",
      R"({"model_type":"bert","vocab_size":9,"hidden_size":4,"num_hidden_layers":3,"num_attention_heads":1,
          "intermediate_size":5})",
      R"({"model_type":"opt","vocab_size":9,"hidden_size":4,"num_hidden_layers":3,"num_attention_heads":1,
          "ffn_dim":5})"};
  std::vector<drrik::ModelConfig> out;
  for (const char* text : texts) out.push_back(drrik::parse_model_config(text, "config.json"));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<drrik::ModelConfig> configs = make_configs();
  const std::string_view name(reinterpret_cast<const char*>(data), size);
  for (const drrik::ModelConfig& config : configs) {
    try {
      const drrik::NamedHook named = drrik::parse_hook(name, config);
      if (!drrik::has_hook(config, named.point)) __builtin_trap();
      const drrik::Hook hook{named.point, named.layer.value_or(0)};
      if (hook.layer < 0 || hook.layer >= config.n_layers) __builtin_trap();
      if (drrik::parse_hook(drrik::module_path(hook, config), config).layer != hook.layer) {
        __builtin_trap();
      }
      const std::string lens = drrik::transformer_lens_name(hook, config);
      if (!lens.empty() && drrik::parse_hook(lens, config).point != hook.point) __builtin_trap();
    } catch (const drrik::Error& error) {
      if (error.kind() != drrik::ErrorKind::kUsage) __builtin_trap();
    }
  }
  return 0;
}
