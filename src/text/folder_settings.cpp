#include "text/folder_settings.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace drrik::text {
namespace {

namespace fs = std::filesystem;

/// A token of the configuration: "text", or an object with flags.
std::optional<AddedToken> parse_token(const Node& node) {
  AddedToken token;
  if (node.is_string()) {
    token.content = std::string(node.string());
    token.normalized = false;
    token.special = true;
    return token;
  }
  if (node.is_object()) return parse_added_token(node);
  return std::nullopt;
}

std::int32_t parse_id_key(const Node& where, std::string_view key) {
  std::int64_t id = 0;
  for (const char c : key) {
    if (c < '0' || c > '9' || id > INT32_MAX) where.fail(str("'", key, "' is not an id"));
    id = id * 10 + (c - '0');
  }
  if (key.empty() || id > INT32_MAX) where.fail(str("'", key, "' is not an id"));
  return static_cast<std::int32_t>(id);
}

}  // namespace

FolderSettings::FolderSettings(const fs::path& of)
    : folder(of),
      json(of / "tokenizer.json"),
      config(of / "tokenizer_config.json"),
      map_(of / "special_tokens_map.json"),
      added_(of / "added_tokens.json") {
  choose_class();
  read_settings();
  read_added();
}

void FolderSettings::choose_class() {
  const JsonFile model(folder / "config.json");
  ClassHints hints;
  model.read([&] {
    hints.model_type = model.root().string_or("model_type", "");
    hints.tokenizer = model.root().string_or("tokenizer_class", "");
  });
  config.read(
      [&] { hints.tokenizer = config.root().string_or("tokenizer_class", hints.tokenizer); });
  said_class = hints.tokenizer;
  hints.byte_level = json.text().find("\"ByteLevel\"") != std::string::npos;
  tokenizer_class = find_tokenizer_class(hints);
  std::error_code error;
  const auto here = [&](const char* name) { return fs::exists(folder / name, error); };
  if (tokenizer_class == nullptr && !json.present()) {
    // Files that are some class's own say by themselves what they are for.
    if (here("vocab.json") && here("merges.txt"))
      tokenizer_class = find_tokenizer_class("GPT2Tokenizer");
    if (tokenizer_class == nullptr && here("vocab.txt"))
      tokenizer_class = find_tokenizer_class("BertTokenizer");
  }
}

void FolderSettings::read_named(const JsonFile& file) {
  for (std::size_t i = 0; i < kSpecialNames; ++i) {
    if (!file.has(kSpecialKeys[i])) continue;
    const auto node = file.find(kSpecialKeys[i]);
    named[i] = node ? parse_token(*node) : std::nullopt;
    if (named[i] && named[i]->content.empty()) named[i].reset();
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto node = file.find(key);
    if (!node) continue;
    if (node->is_array()) {
      extra.clear();
      extra_given = true;
      for (const Node& item : node->items()) {
        if (auto token = parse_token(item)) extra.push_back(*std::move(token));
      }
    } else if (node->is_object()) {
      for (const auto field : node->object()) {
        if (auto token = parse_token(Node(field.value, str(key, ".", field.key)))) {
          specific.push_back(*std::move(token));
        }
      }
    }
  }
  for (const auto field : file.root().object()) {
    const std::string_view key = field.key;
    const auto* known = std::find(kSpecialKeys.begin(), kSpecialKeys.end(), key);
    if (!key.ends_with("_token") || known != kSpecialKeys.end()) continue;
    const Node node(field.value, std::string(key));
    if (node.is_string() || (node.is_object() && node.find("content"))) {
      specific.push_back(*parse_token(node));
    }
  }
}

void FolderSettings::read_settings() {
  if (tokenizer_class != nullptr) {
    for (std::size_t i = 0; i < kSpecialNames; ++i) {
      if (tokenizer_class->special[i] == nullptr) continue;
      named[i].emplace();
      named[i]->content = tokenizer_class->special[i];
      named[i]->normalized = false;
      named[i]->special = true;
    }
  }
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const auto node = config.find(key);
    return node ? std::optional(node->boolean()) : std::nullopt;
  };
  config.read([&] {
    settings.add_prefix_space = flag("add_prefix_space");
    settings.strip_accents = flag("strip_accents");
    settings.do_lower_case = flag("do_lower_case").value_or(true);
    settings.tokenize_chinese_chars = flag("tokenize_chinese_chars").value_or(true);
    settings.legacy = flag("legacy").value_or(false);
    if (const auto node = config.find("extra_ids")) {
      const std::int64_t count = node->integer();
      constexpr std::int64_t kMost = 100'000;
      if (count < 0 || count > kMost) node->fail(str("got ", count, ", wanted 0 to ", kMost));
      settings.extra_ids = static_cast<int>(count);
    }
    // With a tokenizer.json its post-processor says what is put around a text.
    add_bos = flag("add_bos_token");
    add_eos = flag("add_eos_token");
    if (json.present()) add_bos = add_eos = std::nullopt;
    read_named(config);
  });
}

void FolderSettings::read_added() {
  const auto keep = [this](std::int32_t id, AddedToken token) { by_id[id] = std::move(token); };
  if (config.has("added_tokens_decoder")) {
    config.read([&] {
      const auto node = config.find("added_tokens_decoder");
      if (!node) return;
      for (const auto field : node->object()) {
        const Node item(field.value, str("added_tokens_decoder.", field.key));
        keep(parse_id_key(item, field.key), parse_added_token(item));
      }
    });
  } else {
    map_.read([&] {
      read_named(map_);
      for (auto& token : named) {
        if (token) token->special = true;
      }
    });
    added_.read([&] {
      std::unordered_set<std::string> special;
      for (const auto& one : named) {
        if (one) special.insert(one->content);
      }
      for (const AddedToken& token : extra) special.insert(token.content);
      for (const auto field : added_.root().object()) {
        const std::string_view content = field.key;
        AddedToken token;
        token.content = std::string(content);
        token.special = special.contains(token.content);
        token.normalized = !token.special;
        keep(Node(field.value, token.content).id(), std::move(token));
      }
    });
    json.read([&] {
      const auto list = json.find("added_tokens");
      if (!list) return;
      for (const Node& item : list->items()) keep(item.get("id").id(), parse_added_token(item));
    });
  }
  // What is said of a token there holds for the named one of that text.
  for (auto& one : named) {
    if (!one) continue;
    for (const auto& [id, token] : by_id) {
      if (token.content == one->content) one = token;
    }
  }
}

}  // namespace drrik::text
