// The table of formats: what is read and written, and which of them a path is.

#include "drrik/base/error.h"
#include "sae/format.h"

namespace drrik {

// One line a format. A folder or file is read by the first that knows it.
const std::vector<std::unique_ptr<const SaeFormat>>& sae_format_table() {
  static const auto table = [] {
    std::vector<std::unique_ptr<const SaeFormat>> formats;
    formats.push_back(make_drrik_format());
    formats.push_back(make_saelens_format());
    formats.push_back(make_sparsify_format());
    formats.push_back(make_gemma_scope_format());
    formats.push_back(make_gemma_scope_2_format());
    formats.push_back(make_llama_scope_format());
    formats.push_back(make_crosscoder_format());
    formats.push_back(make_described_format());
    formats.push_back(make_openai_format());
    formats.push_back(make_goodfire_format());
    formats.push_back(make_qwen_scope_format());
    formats.push_back(make_dictionary_learning_format());
    formats.push_back(make_circuit_tracer_format());
    formats.push_back(make_plain_format());
    return formats;
  }();
  return table;
}

LoadedSae SaeFormat::read_folder(const std::filesystem::path&) const {
  throw_data("format '", name(), "' has no folder");
}

LoadedSae SaeFormat::read_file(const TensorFile&) const {
  throw_data("format '", name(), "' has no single file");
}

}  // namespace drrik
