#include "hub/model_files.h"

#include <array>
#include <string_view>

namespace drrik::hub {
namespace {

constexpr std::array<std::string_view, 7> kAlways = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja"};

// Only where there is no tokenizer.json, which says the same.
constexpr std::array<std::string_view, 9> kVocabularies = {
    "vocab.json",      "merges.txt",     "vocab.txt",
    "tokenizer.model", "spiece.model",   "sentencepiece.bpe.model",
    "tekken.json",     "tiktoken.model", "qwen.tiktoken"};

struct Weights {
  std::string_view file;
  std::string_view index;
};
// In order of preference.
constexpr std::array<Weights, 2> kWeights = {
    {{"model.safetensors", "model.safetensors.index.json"},
     {"pytorch_model.bin", "pytorch_model.bin.index.json"}}};

}  // namespace

ModelFiles choose_model_files(const std::function<bool(const std::string&)>& has) {
  ModelFiles out;
  const auto add = [&](std::string_view name) {
    (has(std::string(name)) ? out.small : out.absent).emplace_back(name);
  };
  for (const std::string_view name : kAlways) add(name);
  out.has_tokenizer = has("tokenizer.json");
  if (!out.has_tokenizer) {
    const std::size_t before = out.small.size();
    for (const std::string_view name : kVocabularies) add(name);
    out.has_tokenizer = out.small.size() > before;
  }
  for (const Weights& weights : kWeights) {
    if (has(std::string(weights.file))) {
      out.weights.emplace_back(weights.file);
      return out;
    }
    out.absent.emplace_back(weights.file);
    if (has(std::string(weights.index))) {
      out.index = weights.index;
      return out;
    }
    out.absent.emplace_back(weights.index);
  }
  return out;
}

}  // namespace drrik::hub
