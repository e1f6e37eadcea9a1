// Tokenizers from files.

#include <algorithm>
#include <filesystem>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "text/tokenizer_impl.h"

namespace drrik {
namespace {

using text::Node;
namespace fs = std::filesystem;

// simdjson's own limit is 4 GiB; a tokenizer file has some megabytes.
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;

simdjson::dom::element parse(simdjson::dom::parser& parser, std::string_view json) {
  simdjson::dom::element root;
  const auto error = parser.parse(json.data(), json.size()).get(root);
  if (error != simdjson::SUCCESS) {
    throw_data("not a JSON file: ", simdjson::error_message(error), "; incomplete download?");
  }
  return root;
}

/// Runs f, naming the file in its errors.
template <typename F>
auto with_context(const fs::path& path, F f) {
  try {
    return f();
  } catch (Error& error) {
    error.add_context(path.string());
    throw;
  }
}

/// "text" or {"content": "text", ...}; nullopt for null.
std::optional<std::string> token_content(const Node& node) {
  if (node.is_string()) return std::string(node.string());
  if (node.is_object()) return std::string(node.get("content").string());
  return std::nullopt;
}

}  // namespace

Tokenizer::Impl::Impl(const Node& root) {
  if (!root.is_object()) root.fail("tokenizer.json: an object is wanted");
  const std::string version = root.string_or("version", "1.0");
  if (version != "1.0") throw_data("version: '", version, "', only 1.0 is known");
  if (const auto node = root.find("normalizer")) normalizer = text::make_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) pre_tokenizer = text::PreTokenizer(*node);
  model = text::make_model(root.get("model"), root.get("model"));
  if (const auto node = root.find("post_processor")) {
    post = text::make_post_processor(*node);
    has_post_processor = true;
  }
  if (const auto node = root.find("decoder")) decoder = text::Decoder(*node);
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
  auto impl = std::make_unique<Impl>(Node(parse(parser, json), ""));
  impl->finish();
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_file(const fs::path& path) {
  return with_context(path, [&] { return from_json(read_file(path, kMaxFileBytes)); });
}

Tokenizer Tokenizer::from_folder(const fs::path& folder) {
  const fs::path main = folder / "tokenizer.json";
  if (!fs::exists(main)) {
    throw_io(folder.string(), ": no tokenizer.json here; other tokenizer files are not read");
  }
  auto impl = with_context(main, [&] {
    const std::string json = read_file(main, kMaxFileBytes);
    simdjson::dom::parser parser;
    return std::make_unique<Impl>(Node(parse(parser, json), ""));
  });

  // Names of special tokens; tokenizer_config.json has the last word.
  std::optional<std::string> names[4];
  static constexpr const char* kKeys[4] = {"bos_token", "eos_token", "pad_token", "unk_token"};
  struct Flags {
    std::optional<bool> add_bos;
    std::optional<bool> add_eos;
    std::string tokenizer_class;
  } flags;
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const fs::path path = folder / name;
    if (!fs::exists(path)) continue;
    with_context(path, [&] {
      const std::string json = read_file(path, kMaxFileBytes);
      simdjson::dom::parser parser;
      const Node root(parse(parser, json), "");
      for (int i = 0; i < 4; ++i) {
        if (const auto node = root.find(kKeys[i])) names[i] = token_content(*node);
      }
      if (const auto node = root.find("add_bos_token")) flags.add_bos = node->boolean();
      if (const auto node = root.find("add_eos_token")) flags.add_eos = node->boolean();
      flags.tokenizer_class = root.string_or("tokenizer_class", flags.tokenizer_class);
      if (const auto node = root.find("added_tokens_decoder")) {
        // Tokens that tokenizer.json lacks, in the order of their ids.
        std::vector<std::pair<std::int64_t, text::AddedToken>> missing;
        for (const auto field : node->object()) {
          const Node item(field.value, str(node->where(), ".", field.key));
          text::AddedToken token = text::parse_added_token(item);
          if (impl->added.find(token.content) != nullptr) continue;
          std::int64_t id = 0;
          for (const char c : field.key) {
            if (c < '0' || c > '9' || id > INT32_MAX) item.fail("the key is not an id");
            id = id * 10 + (c - '0');
          }
          missing.emplace_back(id, std::move(token));
        }
        std::stable_sort(missing.begin(), missing.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        for (auto& entry : missing) {
          impl->added.add(std::move(entry.second), *impl->model, impl->normalizer.get());
        }
      }
    });
  }
  std::optional<std::int32_t>* slots[4] = {&impl->bos, &impl->eos, &impl->pad, &impl->unk};
  for (int i = 0; i < 4; ++i) {
    if (names[i] && !names[i]->empty()) *slots[i] = impl->find_token(*names[i]);
  }
  // These classes build their post-processor from the flags; others leave the file's alone.
  const bool flags_rule = !impl->has_post_processor ||
                          flags.tokenizer_class.starts_with("LlamaTokenizer") ||
                          flags.tokenizer_class.starts_with("GemmaTokenizer");
  if (flags_rule && flags.add_bos) {
    impl->post.prefix.clear();
    if (*flags.add_bos && impl->bos) impl->post.prefix.push_back(*impl->bos);
  }
  if (flags_rule && flags.add_eos) {
    impl->post.suffix.clear();
    if (*flags.add_eos && impl->eos) impl->post.suffix.push_back(*impl->eos);
  }
  impl->finish();
  return Tokenizer(std::move(impl));
}

}  // namespace drrik
