#include "text/model.h"

#include "drrik/base/error.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

struct Entry {
  const char* type;
  std::unique_ptr<Model> (*make)(const Node& options, const Node& data);
};

constexpr Entry kModels[] = {
    {"BPE", make_bpe},
    {"Unigram", make_unigram},
    {"WordLevel", make_word_level},
    {"WordPiece", make_word_piece},
};

}  // namespace

void Model::encode_bytes(std::string_view piece, ModelWorkspace& workspace,
                         std::vector<std::int32_t>& out) const {
  workspace.mapped.clear();
  append_mapped(piece, workspace.mapped);
  encode(workspace.mapped, workspace, out);
}

std::string model_type(const Node& data) {
  const std::string type = data.string_or("type", "");
  if (!type.empty()) return type;
  // The reference takes the first model whose members fit.
  if (data.find("merges")) return "BPE";
  if (data.find("max_input_chars_per_word") || data.find("continuing_subword_prefix")) {
    return "WordPiece";
  }
  const std::optional<Node> vocab = data.find("vocab");
  return vocab && vocab->is_array() ? "Unigram" : "WordLevel";
}

std::unique_ptr<Model> make_model(const Node& options, const Node& data) {
  const std::string wanted = model_type(data);
  std::vector<std::string> known;
  for (const Entry& entry : kModels) {
    if (wanted == entry.type) return entry.make(options, data);
    known.emplace_back(entry.type);
  }
  options.fail(str("model type '", wanted, "' is not known; known: ", join(known)));
}

}  // namespace drrik::text
