// Steps, in the order of `PreTrainedTokenizerBase._from_pretrained` and
// `TokenizersBackend.__init__` of transformers 5.23: the class; its settings; the backend, from
// tokenizer.json or from the files of its own; added tokens, named special tokens, further special
// tokens; the template.

#include "text/folder.h"

#include <algorithm>
#include <map>
#include <unordered_set>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/utf8.h"
#include "text/byte_ranks.h"
#include "text/precompiled.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_class.h"
#include "text/vocabulary_files.h"

namespace drrik::text {
namespace {

namespace fs = std::filesystem;

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

/// A JSON file of the folder, or nothing.
class JsonFile {
 public:
  explicit JsonFile(const fs::path& path) : path_(path) {
    std::error_code error;
    if (!fs::exists(path, error)) return;
    with_context(path, [&] {
      text_ = read_file(path, kMaxTokenizerFileBytes);
      root_.emplace(parse_json(parser_, text_), "");
      if (!root_->is_object()) throw_data("an object is wanted");
    });
  }
  bool present() const { return root_.has_value(); }
  const fs::path& path() const { return path_; }
  const std::string& text() const { return text_; }
  const Node& root() const { return *root_; }
  /// Whether the member is there, be it null.
  bool has(std::string_view key) const {
    simdjson::dom::element value;
    return present() && root_->object().at_key(key).get(value) == simdjson::SUCCESS;
  }
  std::optional<Node> find(std::string_view key) const {
    return present() ? root_->find(key) : std::nullopt;
  }
  /// f(*this), with the file's name in errors.
  template <typename F>
  void read(F f) const {
    if (present()) with_context(path_, [&] { f(); });
  }

 private:
  fs::path path_;
  std::string text_;
  simdjson::dom::parser parser_;
  std::optional<Node> root_;
};

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

std::string read_text(const fs::path& path) {
  return with_context(path, [&] {
    std::string text = read_file(path, kMaxTokenizerFileBytes);
    if (!is_valid_utf8(text)) throw_data("not UTF-8 at byte ", valid_utf8_prefix(text));
    return text;
  });
}

class FolderLoader {
 public:
  explicit FolderLoader(const fs::path& folder)
      : folder_(folder),
        json_(folder / "tokenizer.json"),
        config_(folder / "tokenizer_config.json"),
        map_(folder / "special_tokens_map.json"),
        added_(folder / "added_tokens.json") {}

  std::unique_ptr<Tokenizer::Impl> load();

 private:
  void choose_class();
  void read_settings();
  void read_named(const JsonFile& file);
  void read_added();
  void build();
  void build_from_json();
  void build_from_vocabulary();
  void build_from_sentencepiece(const fs::path& path, std::string_view bytes);
  void build_from_tiktoken(const fs::path& path, std::string_view bytes);
  void finish_tokens();
  void finish_template();
  std::optional<std::int32_t> id_of(SpecialName name) const {
    return named_[name] ? impl_->find_token(named_[name]->content) : std::nullopt;
  }
  void parse_into_impl(const fs::path& path, const std::string& json, const std::string& pipeline);

  fs::path folder_;
  JsonFile json_;
  JsonFile config_;
  JsonFile map_;
  JsonFile added_;
  std::string said_class_;
  const TokenizerClass* class_ = nullptr;
  ClassSettings settings_;
  std::optional<bool> add_bos_;
  std::optional<bool> add_eos_;
  std::optional<AddedToken> named_[kSpecialNames];
  std::vector<AddedToken> specific_;  // "image_token" and the like
  std::vector<AddedToken> extra_;
  bool extra_given_ = false;
  std::map<std::int32_t, AddedToken> by_id_;
  std::unique_ptr<Tokenizer::Impl> impl_;
};

void FolderLoader::choose_class() {
  const JsonFile model(folder_ / "config.json");
  ClassHints hints;
  model.read([&] {
    hints.model_type = model.root().string_or("model_type", "");
    hints.tokenizer = model.root().string_or("tokenizer_class", "");
  });
  config_.read(
      [&] { hints.tokenizer = config_.root().string_or("tokenizer_class", hints.tokenizer); });
  said_class_ = hints.tokenizer;
  hints.byte_level = json_.text().find("\"ByteLevel\"") != std::string::npos;
  class_ = find_tokenizer_class(hints);
  std::error_code error;
  const auto here = [&](const char* name) { return fs::exists(folder_ / name, error); };
  if (class_ == nullptr && !json_.present()) {
    // Files that are some class's own say by themselves what they are for.
    if (here("vocab.json") && here("merges.txt")) class_ = find_tokenizer_class("GPT2Tokenizer");
    if (class_ == nullptr && here("vocab.txt")) class_ = find_tokenizer_class("BertTokenizer");
  }
}

void FolderLoader::read_named(const JsonFile& file) {
  for (std::size_t i = 0; i < kSpecialNames; ++i) {
    if (!file.has(kSpecialKeys[i])) continue;
    const auto node = file.find(kSpecialKeys[i]);
    named_[i] = node ? parse_token(*node) : std::nullopt;
    if (named_[i] && named_[i]->content.empty()) named_[i].reset();
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto node = file.find(key);
    if (!node) continue;
    if (node->is_array()) {
      extra_.clear();
      extra_given_ = true;
      for (const Node& item : node->items()) {
        if (auto token = parse_token(item)) extra_.push_back(*std::move(token));
      }
    } else if (node->is_object()) {
      for (const auto field : node->object()) {
        if (auto token = parse_token(Node(field.value, str(key, ".", field.key)))) {
          specific_.push_back(*std::move(token));
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
      specific_.push_back(*parse_token(node));
    }
  }
}

void FolderLoader::read_settings() {
  if (class_ != nullptr) {
    for (std::size_t i = 0; i < kSpecialNames; ++i) {
      if (class_->special[i] == nullptr) continue;
      named_[i].emplace();
      named_[i]->content = class_->special[i];
      named_[i]->normalized = false;
      named_[i]->special = true;
    }
  }
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const auto node = config_.find(key);
    return node ? std::optional(node->boolean()) : std::nullopt;
  };
  config_.read([&] {
    settings_.add_prefix_space = flag("add_prefix_space");
    settings_.strip_accents = flag("strip_accents");
    settings_.do_lower_case = flag("do_lower_case").value_or(true);
    settings_.tokenize_chinese_chars = flag("tokenize_chinese_chars").value_or(true);
    settings_.legacy = flag("legacy").value_or(false);
    if (const auto node = config_.find("extra_ids")) {
      const std::int64_t count = node->integer();
      constexpr std::int64_t kMost = 100'000;
      if (count < 0 || count > kMost) node->fail(str("got ", count, ", wanted 0 to ", kMost));
      settings_.extra_ids = static_cast<int>(count);
    }
    // With a tokenizer.json its post-processor says what is put around a text.
    add_bos_ = flag("add_bos_token");
    add_eos_ = flag("add_eos_token");
    if (json_.present()) add_bos_ = add_eos_ = std::nullopt;
    read_named(config_);
  });
}

void FolderLoader::read_added() {
  const auto keep = [this](std::int32_t id, AddedToken token) { by_id_[id] = std::move(token); };
  if (config_.has("added_tokens_decoder")) {
    config_.read([&] {
      const auto node = config_.find("added_tokens_decoder");
      if (!node) return;
      for (const auto field : node->object()) {
        const Node item(field.value, str("added_tokens_decoder.", field.key));
        keep(parse_id_key(item, field.key), parse_added_token(item));
      }
    });
  } else {
    map_.read([&] {
      read_named(map_);
      for (auto& token : named_) {
        if (token) token->special = true;
      }
    });
    added_.read([&] {
      std::unordered_set<std::string> special;
      for (const auto& named : named_) {
        if (named) special.insert(named->content);
      }
      for (const AddedToken& token : extra_) special.insert(token.content);
      for (const auto field : added_.root().object()) {
        const std::string_view content = field.key;
        AddedToken token;
        token.content = std::string(content);
        token.special = special.contains(token.content);
        token.normalized = !token.special;
        keep(Node(field.value, token.content).id(), std::move(token));
      }
    });
    json_.read([&] {
      const auto list = json_.find("added_tokens");
      if (!list) return;
      for (const Node& item : list->items()) keep(item.get("id").id(), parse_added_token(item));
    });
  }
  // What is said of a token there holds for the named one of that text.
  for (auto& named : named_) {
    if (!named) continue;
    for (const auto& [id, token] : by_id_) {
      if (token.content == named->content) named = token;
    }
  }
}

void FolderLoader::parse_into_impl(const fs::path& path, const std::string& json,
                                   const std::string& pipeline) {
  with_context(path, [&] {
    simdjson::dom::parser parser;
    const Node root(parse_json(parser, json), "");
    if (pipeline.empty()) {
      impl_ = std::make_unique<Tokenizer::Impl>(root, nullptr);
      return;
    }
    simdjson::dom::parser second;
    const Node rules(parse_json(second, pipeline), "");
    impl_ = std::make_unique<Tokenizer::Impl>(root, &rules);
  });
}

/// The charsmap of a normalizer or of a step of its sequence, as base64.
std::optional<std::string> find_charsmap(const Node& root) {
  const auto normalizer = root.find("normalizer");
  if (!normalizer || !normalizer->is_object()) return std::nullopt;
  std::vector<Node> steps{*normalizer};
  if (const auto list = normalizer->find("normalizers")) steps = list->items();
  for (const Node& step : steps) {
    if (step.string_or("type", "") != "Precompiled") continue;
    if (const auto map = step.find("precompiled_charsmap")) return std::string(map->string());
  }
  return std::nullopt;
}

std::string with_charsmap(std::string pipeline, const std::string& base64) {
  const std::string nothing = R"("normalizer":null)";
  const std::size_t at = pipeline.find(nothing);
  DRRIK_ASSERT(at != std::string::npos);
  return pipeline.replace(at, nothing.size(),
                          str(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":)",
                              quote_json(base64), "}"));
}

void FolderLoader::build_from_json() {
  std::string pipeline;
  json_.read([&] {
    if (class_ == nullptr) return;
    const std::string type = model_type(json_.root().get("model"));
    if (type != class_->model) {
      log_warning(json_.path().string(), ": a ", type, " model, but ", class_->name, " has ",
                  class_->model, "; taken as it is");
      class_ = nullptr;
      return;
    }
    if (!fits(*class_, json_.text())) {
      class_ = nullptr;
      return;
    }
    pipeline = class_->pipeline(settings_);
    if (type == "Unigram") {
      if (const auto map = find_charsmap(json_.root())) {
        pipeline = with_charsmap(std::move(pipeline), *map);
      }
    }
  });
  parse_into_impl(json_.path(), json_.text(), pipeline);
}

void FolderLoader::build_from_sentencepiece(const fs::path& path, std::string_view bytes) {
  const SentencePieceModel model = with_context(path, [&] { return parse_sentencepiece(bytes); });
  if (class_ == nullptr || class_->vocab_file == nullptr ||
      !std::string_view(class_->vocab_file).ends_with(".model")) {
    // No class of its own: as TokenizersBackend reads it.
    class_ = nullptr;
    parse_into_impl(path, sentencepiece_json(model), "");
  }
  if (class_ == nullptr) {
    const auto fill = [this](SpecialName name, std::int32_t id, const std::string& piece) {
      if (named_[name] || id < 0) return;
      named_[name].emplace();
      named_[name]->content = piece;
      named_[name]->normalized = false;
      named_[name]->special = true;
    };
    fill(kBos, model.bos_id, model.bos_piece);
    fill(kEos, model.eos_id, model.eos_piece);
    fill(kUnk, model.unk_id, model.unk_piece);
  }
  std::vector<AddedToken> extra;
  for (const auto& piece : model.pieces) {
    const bool control = piece.type == SentencePieceModel::Type::kControl;
    if (!control && piece.type != SentencePieceModel::Type::kUserDefined) continue;
    AddedToken token;
    token.content = piece.text;
    token.normalized = false;
    token.special = control;
    extra.push_back(std::move(token));
  }
  if (class_ != nullptr) {
    SentencePieceModel whole = model;
    const bool unigram = std::string_view(class_->model) == "Unigram";
    if (unigram) {
      for (int i = settings_.extra_ids - 1; i >= 0; --i) {
        whole.pieces.push_back({str("<extra_id_", i, ">"), 0, SentencePieceModel::Type::kNormal});
      }
      for (int i = 0; i < settings_.extra_ids; ++i) {
        AddedToken token;
        token.content = str("<extra_id_", i, ">");
        token.normalized = false;
        token.special = true;
        extra.push_back(std::move(token));
      }
    }
    std::string pipeline = class_->pipeline(settings_);
    if (unigram && !model.charsmap.empty()) {
      pipeline = with_charsmap(std::move(pipeline), encode_base64(model.charsmap));
    }
    parse_into_impl(
        path, str("{\"model\":{", unigram ? unigram_members(whole) : bpe_members(whole), "}}"),
        pipeline);
  }
  if (!extra_given_) extra_ = std::move(extra);
}

void FolderLoader::build_from_tiktoken(const fs::path& path, std::string_view bytes) {
  // The file makes the tokenizer, whatever the class.
  class_ = nullptr;
  ByteEncoding encoding;
  std::vector<ByteToken> tokens;
  const std::string json = with_context(path, [&] {
    tokens = parse_tiktoken(bytes);
    encoding = tiktoken_encoding(path, said_class_, tokens);
    return byte_ranks_json(tokens, encoding);
  });
  parse_into_impl(path, json, "");
  // Added tokens have ids behind the file's; those between that nobody names are kept free.
  const auto end = static_cast<std::int64_t>(tokens.size() + encoding.special.size());
  std::vector<std::string> names;
  if (!by_id_.empty() && by_id_.rbegin()->first >= end) {
    constexpr std::int64_t kMostFree = 100'000;
    const std::int64_t last = by_id_.rbegin()->first;
    if (last - end >= kMostFree + static_cast<std::int64_t>(by_id_.size())) {
      throw_data(folder_.string(), ": added token '", by_id_.rbegin()->second.content, "' has id ",
                 last, ", but the tokens of ", path.filename().string(), " end at ", end);
    }
    for (std::int64_t id = end; id <= last; ++id) {
      const auto named = by_id_.find(static_cast<std::int32_t>(id));
      names.push_back(named == by_id_.end() ? str("<|reserved_token_", id, "|>")
                                            : named->second.content);
    }
  }
  for (const AddedToken& token : extra_) names.push_back(token.content);
  for (const std::string& name : names) {
    AddedToken token;
    token.content = name;
    token.normalized = false;
    token.special = true;
    impl_->added.add(std::move(token), *impl_->model, impl_->normalizer.get());
  }
}

void FolderLoader::build_from_vocabulary() {
  std::error_code error;
  const auto here = [&](const fs::path& path) { return fs::exists(path, error); };
  std::vector<std::string> wanted{"tokenizer.json"};
  if (class_ != nullptr && class_->merges_file != nullptr) {
    const fs::path vocab = folder_ / class_->vocab_file;
    const fs::path merges = folder_ / class_->merges_file;
    if (here(vocab) && here(merges)) {
      // Errors of the vocabulary's syntax are told with its own name.
      const JsonFile file(vocab);
      const std::string json = str(R"({"model":{"type":"BPE","vocab":)", file.text(),
                                   R"(,"merges":)", merges_json(read_text(merges)), "}}");
      parse_into_impl(vocab, json, class_->pipeline(settings_));
      return;
    }
    wanted.push_back(str(class_->vocab_file, " with ", class_->merges_file));
  }
  if (class_ != nullptr && std::string_view(class_->model) == "WordPiece") {
    const fs::path vocab = folder_ / class_->vocab_file;
    if (here(vocab)) {
      parse_into_impl(vocab, word_piece_json(read_text(vocab)), class_->pipeline(settings_));
      return;
    }
    wanted.emplace_back(class_->vocab_file);
  }
  std::vector<std::string> models;
  if (class_ != nullptr && class_->vocab_file != nullptr) models.emplace_back(class_->vocab_file);
  models.insert(models.end(), {"tekken.json", "tokenizer.model", "tiktoken.model", "spiece.model",
                               "sentencepiece.bpe.model"});
  for (const std::string& name : models) {
    const fs::path path = folder_ / name;
    if (!here(path)) continue;
    if (name == "tekken.json") {
      const JsonFile file(path);
      class_ = nullptr;
      parse_into_impl(path, with_context(path, [&] { return tekken_json(file.root()); }), "");
      return;
    }
    if (!name.ends_with(".model")) continue;
    const std::string bytes =
        with_context(path, [&] { return read_file(path, kMaxTokenizerFileBytes); });
    if (is_tiktoken(bytes)) {
      build_from_tiktoken(path, bytes);
    } else {
      build_from_sentencepiece(path, bytes);
    }
    return;
  }
  if (const fs::path path = find_tokenizer_file(folder_); path.extension() == ".tiktoken") {
    build_from_tiktoken(
        path, with_context(path, [&] { return read_file(path, kMaxTokenizerFileBytes); }));
    return;
  }
  if (class_ == nullptr) {
    wanted.insert(wanted.end(), {"tokenizer.model", "tekken.json", "a .tiktoken file",
                                 "vocab.json with merges.txt", "vocab.txt"});
  } else if (class_->vocab_file != nullptr && class_->merges_file == nullptr &&
             std::string_view(class_->vocab_file).ends_with(".model")) {
    wanted.emplace_back(class_->vocab_file);
  }
  throw_io(folder_.string(), ": no tokenizer here",
           class_ == nullptr ? "" : str(" for ", class_->name), "; wanted one of ", join(wanted));
}

void FolderLoader::build() {
  settings_.unk_token = named_[kUnk] ? named_[kUnk]->content : "";
  if (json_.present()) {
    build_from_json();
  } else {
    build_from_vocabulary();
  }
}

void FolderLoader::finish_tokens() {
  const auto add = [this](const AddedToken& token) {
    impl_->added.add(token, *impl_->model, impl_->normalizer.get());
  };
  const auto is_named = [this](const std::string& content) {
    return std::any_of(std::begin(named_), std::end(named_),
                       [&](const auto& named) { return named && named->content == content; });
  };
  std::vector<AddedToken> wanted;
  std::unordered_set<std::string> known;
  for (const auto& [id, token] : by_id_) {
    wanted.push_back(token);
    known.insert(token.content);
  }
  const auto add_missing = [&](const AddedToken& token) {
    if (impl_->added.find(token.content) != nullptr) return;
    if (known.insert(token.content).second) wanted.push_back(token);
  };
  for (const auto& named : named_) {
    if (named) add_missing(*named);
  }
  for (const AddedToken& token : specific_) add_missing(token);
  for (const AddedToken& token : extra_) add_missing(token);
  for (AddedToken& token : wanted) {
    if (!token.special && is_named(token.content)) token.special = true;
    add(token);
  }
  if (class_ != nullptr && std::string_view(class_->name) == "Qwen2Tokenizer") {
    const auto add_plain = [&](const AddedToken& from) {
      AddedToken token;
      token.content = from.content;
      token.normalized = false;
      token.special = true;
      add(token);
    };
    for (const auto& named : named_) {
      if (named) add_plain(*named);
    }
    for (const AddedToken& token : extra_) add_plain(token);
  }
}

void FolderLoader::finish_template() {
  PostProcessor& post = impl_->post;
  const auto put = [](std::vector<std::int32_t>& to, std::optional<std::int32_t> id) {
    to.clear();
    if (id) to.push_back(*id);
  };
  const std::optional<std::int32_t> none;
  const ClassTemplate rule = class_ == nullptr ? ClassTemplate::kKept : class_->post;
  switch (rule) {
    case ClassTemplate::kKept:
      if (!add_bos_ && !add_eos_ && impl_->has_post_processor) return;
      [[fallthrough]];
    case ClassTemplate::kFlags:
      put(post.prefix, add_bos_.value_or(false) ? id_of(kBos) : none);
      put(post.suffix, add_eos_.value_or(false) ? id_of(kEos) : none);
      return;
    case ClassTemplate::kClsSep:
      put(post.prefix, id_of(kCls));
      put(post.suffix, id_of(kSep));
      return;
    case ClassTemplate::kTextEos:
      post.prefix.clear();
      put(post.suffix, id_of(kEos));
      return;
  }
}

std::unique_ptr<Tokenizer::Impl> FolderLoader::load() {
  choose_class();
  read_settings();
  read_added();
  build();
  finish_tokens();
  finish_template();
  config_.read([&] {
    if (const auto node = config_.find("split_special_tokens")) {
      impl_->added.split_special(node->boolean());
    }
    if (const auto node = config_.find("clean_up_tokenization_spaces")) {
      impl_->clean_up = node->boolean() && impl_->model_type != "BPE";
    }
  });
  impl_->bos = id_of(kBos);
  impl_->eos = id_of(kEos);
  impl_->pad = id_of(kPad);
  impl_->unk = id_of(kUnk);
  return std::move(impl_);
}

}  // namespace

simdjson::dom::element parse_json(simdjson::dom::parser& parser, std::string_view json) {
  simdjson::dom::element root;
  const auto error = parser.parse(json.data(), json.size()).get(root);
  if (error != simdjson::SUCCESS) {
    throw_data("not a JSON file: ", simdjson::error_message(error), "; incomplete download?");
  }
  return root;
}

std::unique_ptr<Tokenizer::Impl> load_folder(const fs::path& folder) {
  return FolderLoader(folder).load();
}

}  // namespace drrik::text
