// Tokenizers from files.

#include <algorithm>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "text/byte_ranks.h"
#include "text/folder.h"
#include "text/tokenizer_impl.h"
#include "text/vocabulary_files.h"

namespace drrik {

using text::Node;

Tokenizer::Impl::Impl(const Node& root, const Node* pipeline) {
  if (!root.is_object()) root.fail("tokenizer.json: an object is wanted");
  const std::string version = root.string_or("version", "1.0");
  if (version != "1.0") throw_data("version: '", version, "', only 1.0 is known");
  const Node& rules = pipeline == nullptr ? root : *pipeline;
  if (const auto node = rules.find("normalizer")) normalizer = text::make_normalizer(*node);
  if (const auto node = rules.find("pre_tokenizer")) pre_tokenizer = text::PreTokenizer(*node);
  const Node data = root.get("model");
  model_type = text::model_type(data);
  model = text::make_model(rules.get("model"), data);
  if (const auto node = root.find("post_processor")) {
    post = text::make_post_processor(*node);
    has_post_processor = true;
  }
  if (const auto node = rules.find("decoder")) decoder = text::Decoder(*node);
  // Whoever gives the pipeline gives the added tokens too.
  if (pipeline != nullptr) return;
  if (const auto node = root.find("added_tokens")) {
    for (const Node& item : node->items()) {
      text::AddedToken token = text::parse_added_token(item);
      const std::int32_t wanted = item.get("id").id();
      const std::string content = token.content;
      added.add(std::move(token), *model, normalizer.get());
      const text::AddedToken* stored = added.find(content);
      if (stored != nullptr && stored->id != wanted) {
        log_warning(item.where(), ": token '", content, "' says id ", wanted, " but has id ",
                    stored->id);
      }
    }
  }
}

void Tokenizer::Impl::finish() {
  added.build_matchers();
  const text::Vocabulary& vocabulary = model->vocabulary();
  std::int32_t end = vocabulary.id_end();
  for (const text::AddedToken& token : added.tokens()) end = std::max(end, token.id + 1);
  decoded.assign(static_cast<std::size_t>(end), {});
  for (std::int32_t id = 0; id < vocabulary.id_end(); ++id) {
    decoded[static_cast<std::size_t>(id)] = {vocabulary.token(id), vocabulary.has(id), false};
  }
  for (const text::AddedToken& token : added.tokens()) {
    decoded[static_cast<std::size_t>(token.id)] = {token.normal_form, true, false};
  }
  // The reference goes by the text that decoding sees, not by the id.
  const auto mark = [this](std::int32_t id) {
    Decoded& entry = decoded[static_cast<std::size_t>(id)];
    entry.special = entry.present && added.is_special_text(entry.text);
  };
  for (const text::AddedToken& token : added.tokens()) {
    mark(token.id);
    if (const std::int32_t id = vocabulary.find(token.content); id >= 0) mark(id);
  }

  const auto first_known = [this](std::initializer_list<const char*> names) {
    std::optional<std::int32_t> out;
    for (const char* name : names) {
      if (!out) out = find_token(name);
    }
    return out;
  };
  if (!bos && !post.prefix.empty()) bos = post.prefix.front();
  if (!bos) bos = first_known({"<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>", "[CLS]"});
  if (!eos && !post.suffix.empty()) eos = post.suffix.back();
  if (!eos) {
    eos = first_known(
        {"</s>", "<|end_of_text|>", "<|eot_id|>", "<eos>", "<|im_end|>", "<|endoftext|>", "[SEP]"});
  }
  if (!pad) pad = first_known({"<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>"});
  if (!unk && !model->unk_token().empty()) unk = find_token(model->unk_token());
}

Tokenizer Tokenizer::from_json(std::string_view json) {
  simdjson::dom::parser parser;
  const Node root(text::parse_json(parser, json), "");
  if (text::is_tekken(root)) return from_json(text::tekken_json(root));
  auto impl = std::make_unique<Impl>(root, nullptr);
  impl->finish();
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_sentencepiece(std::string_view bytes) {
  return from_json(text::sentencepiece_json(text::parse_sentencepiece(bytes)));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  try {
    const std::string bytes = read_file(path, text::kMaxTokenizerFileBytes);
    const bool model = path.extension() == ".model";
    if (path.extension() == ".tiktoken" || (model && text::is_tiktoken(bytes))) {
      const std::vector<text::ByteToken> tokens = text::parse_tiktoken(bytes);
      return from_json(text::byte_ranks_json(tokens, text::tiktoken_encoding(path, "", tokens)));
    }
    return model ? from_sentencepiece(bytes) : from_json(bytes);
  } catch (Error& error) {
    error.add_context(path.string());
    throw;
  }
}

bool Tokenizer::is_in(const std::filesystem::path& folder) {
  return !text::find_tokenizer_file(folder).empty();
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  std::unique_ptr<Impl> impl = text::load_folder(folder);
  impl->finish();
  return Tokenizer(std::move(impl));
}

}  // namespace drrik
