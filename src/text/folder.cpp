// Steps, in the order of `PreTrainedTokenizerBase._from_pretrained` and
// `TokenizersBackend.__init__` of transformers 5.23: the class, its settings and tokens
// (folder_settings.h); the backend, from tokenizer.json or from the files of its own; added tokens,
// named special tokens, further special tokens; the template.

#include "text/folder.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/utf8.h"
#include "text/byte_ranks.h"
#include "text/folder_settings.h"
#include "text/json_file.h"
#include "text/precompiled.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_class.h"
#include "text/vocabulary_files.h"

namespace drrik::text {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  return with_context(path, [&] {
    std::string text = read_file(path, kMaxTokenizerFileBytes);
    if (!is_valid_utf8(text)) throw_data("not UTF-8 at byte ", valid_utf8_prefix(text));
    return text;
  });
}

class FolderBuilder {
 public:
  explicit FolderBuilder(const fs::path& folder) : said_(folder), class_(said_.tokenizer_class) {}

  std::unique_ptr<Tokenizer::Impl> build();

 private:
  void build_model();
  void build_from_json();
  void build_from_vocabulary();
  void build_from_sentencepiece(const fs::path& path, std::string_view bytes);
  void build_from_tiktoken(const fs::path& path, std::string_view bytes);
  void finish_tokens();
  void finish_template();
  std::optional<std::int32_t> id_of(SpecialName name) const {
    return said_.named[name] ? impl_->find_token(said_.named[name]->content) : std::nullopt;
  }
  void parse_into_impl(const fs::path& path, const std::string& json, const std::string& pipeline);

  FolderSettings said_;
  const TokenizerClass* class_;  // nullptr where the files make the tokenizer, whatever the class
  std::unique_ptr<Tokenizer::Impl> impl_;
};

void FolderBuilder::parse_into_impl(const fs::path& path, const std::string& json,
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

void FolderBuilder::build_from_json() {
  std::string pipeline;
  said_.json.read([&] {
    if (class_ == nullptr) return;
    const std::string type = model_type(said_.json.root().get("model"));
    if (type != class_->model) {
      log_warning(said_.json.path().string(), ": a ", type, " model, but ", class_->name, " has ",
                  class_->model, "; taken as it is");
      class_ = nullptr;
      return;
    }
    if (!fits(*class_, said_.json.text())) {
      class_ = nullptr;
      return;
    }
    pipeline = class_->pipeline(said_.settings);
    if (type == "Unigram") {
      if (const auto map = find_charsmap(said_.json.root())) {
        pipeline = with_charsmap(std::move(pipeline), *map);
      }
    }
  });
  parse_into_impl(said_.json.path(), said_.json.text(), pipeline);
}

void FolderBuilder::build_from_sentencepiece(const fs::path& path, std::string_view bytes) {
  const SentencePieceModel model = with_context(path, [&] { return parse_sentencepiece(bytes); });
  if (class_ == nullptr || class_->vocab_file == nullptr ||
      !std::string_view(class_->vocab_file).ends_with(".model")) {
    // No class of its own: as TokenizersBackend reads it.
    class_ = nullptr;
    parse_into_impl(path, sentencepiece_json(model), "");
  }
  if (class_ == nullptr) {
    const auto fill = [this](SpecialName name, std::int32_t id, const std::string& piece) {
      if (said_.named[name] || id < 0) return;
      said_.named[name].emplace();
      said_.named[name]->content = piece;
      said_.named[name]->normalized = false;
      said_.named[name]->special = true;
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
      for (int i = said_.settings.extra_ids - 1; i >= 0; --i) {
        whole.pieces.push_back({str("<extra_id_", i, ">"), 0, SentencePieceModel::Type::kNormal});
      }
      for (int i = 0; i < said_.settings.extra_ids; ++i) {
        AddedToken token;
        token.content = str("<extra_id_", i, ">");
        token.normalized = false;
        token.special = true;
        extra.push_back(std::move(token));
      }
    }
    std::string pipeline = class_->pipeline(said_.settings);
    if (unigram && !model.charsmap.empty()) {
      pipeline = with_charsmap(std::move(pipeline), encode_base64(model.charsmap));
    }
    parse_into_impl(
        path, str("{\"model\":{", unigram ? unigram_members(whole) : bpe_members(whole), "}}"),
        pipeline);
  }
  if (!said_.extra_given) said_.extra = std::move(extra);
}

void FolderBuilder::build_from_tiktoken(const fs::path& path, std::string_view bytes) {
  // The file makes the tokenizer, whatever the class.
  class_ = nullptr;
  ByteEncoding encoding;
  std::vector<ByteToken> tokens;
  const std::string json = with_context(path, [&] {
    tokens = parse_tiktoken(bytes);
    encoding = tiktoken_encoding(path, said_.said_class, tokens);
    return byte_ranks_json(tokens, encoding);
  });
  parse_into_impl(path, json, "");
  // Added tokens have ids behind the file's; those between that nobody names are kept free.
  const auto end = static_cast<std::int64_t>(tokens.size() + encoding.special.size());
  std::vector<std::string> names;
  if (!said_.by_id.empty() && said_.by_id.rbegin()->first >= end) {
    constexpr std::int64_t kMostFree = 100'000;
    const std::int64_t last = said_.by_id.rbegin()->first;
    if (last - end >= kMostFree + static_cast<std::int64_t>(said_.by_id.size())) {
      throw_data(said_.folder.string(), ": added token '", said_.by_id.rbegin()->second.content,
                 "' has id ", last, ", but the tokens of ", path.filename().string(), " end at ",
                 end);
    }
    for (std::int64_t id = end; id <= last; ++id) {
      const auto named = said_.by_id.find(static_cast<std::int32_t>(id));
      names.push_back(named == said_.by_id.end() ? str("<|reserved_token_", id, "|>")
                                                 : named->second.content);
    }
  }
  for (const AddedToken& token : said_.extra) names.push_back(token.content);
  for (const std::string& name : names) {
    AddedToken token;
    token.content = name;
    token.normalized = false;
    token.special = true;
    impl_->added.add(std::move(token), *impl_->model, impl_->normalizer.get());
  }
}

void FolderBuilder::build_from_vocabulary() {
  std::error_code error;
  const auto here = [&](const fs::path& path) { return fs::exists(path, error); };
  std::vector<std::string> wanted{"tokenizer.json"};
  if (class_ != nullptr && class_->merges_file != nullptr) {
    const fs::path vocab = said_.folder / class_->vocab_file;
    const fs::path merges = said_.folder / class_->merges_file;
    if (here(vocab) && here(merges)) {
      // Errors of the vocabulary's syntax are told with its own name.
      const JsonFile file(vocab);
      const std::string json = str(R"({"model":{"type":"BPE","vocab":)", file.text(),
                                   R"(,"merges":)", merges_json(read_text(merges)), "}}");
      parse_into_impl(vocab, json, class_->pipeline(said_.settings));
      return;
    }
    wanted.push_back(str(class_->vocab_file, " with ", class_->merges_file));
  }
  if (class_ != nullptr && std::string_view(class_->model) == "WordPiece") {
    const fs::path vocab = said_.folder / class_->vocab_file;
    if (here(vocab)) {
      parse_into_impl(vocab, word_piece_json(read_text(vocab)), class_->pipeline(said_.settings));
      return;
    }
    wanted.emplace_back(class_->vocab_file);
  }
  std::vector<std::string> models;
  if (class_ != nullptr && class_->vocab_file != nullptr) models.emplace_back(class_->vocab_file);
  models.insert(models.end(), {"tekken.json", "tokenizer.model", "tiktoken.model", "spiece.model",
                               "sentencepiece.bpe.model"});
  for (const std::string& name : models) {
    const fs::path path = said_.folder / name;
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
  if (const fs::path path = find_tokenizer_file(said_.folder); path.extension() == ".tiktoken") {
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
  throw_io(said_.folder.string(), ": no tokenizer here",
           class_ == nullptr ? "" : str(" for ", class_->name), "; wanted one of ", join(wanted));
}

void FolderBuilder::build_model() {
  said_.settings.unk_token = said_.named[kUnk] ? said_.named[kUnk]->content : "";
  if (said_.json.present()) {
    build_from_json();
  } else {
    build_from_vocabulary();
  }
}

void FolderBuilder::finish_tokens() {
  const auto add = [this](const AddedToken& token) {
    impl_->added.add(token, *impl_->model, impl_->normalizer.get());
  };
  const auto is_named = [this](const std::string& content) {
    return std::any_of(std::begin(said_.named), std::end(said_.named),
                       [&](const auto& named) { return named && named->content == content; });
  };
  std::vector<AddedToken> wanted;
  std::unordered_set<std::string> known;
  for (const auto& [id, token] : said_.by_id) {
    wanted.push_back(token);
    known.insert(token.content);
  }
  const auto add_missing = [&](const AddedToken& token) {
    if (impl_->added.find(token.content) != nullptr) return;
    if (known.insert(token.content).second) wanted.push_back(token);
  };
  for (const auto& named : said_.named) {
    if (named) add_missing(*named);
  }
  for (const AddedToken& token : said_.specific) add_missing(token);
  for (const AddedToken& token : said_.extra) add_missing(token);
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
    for (const auto& named : said_.named) {
      if (named) add_plain(*named);
    }
    for (const AddedToken& token : said_.extra) add_plain(token);
  }
}

void FolderBuilder::finish_template() {
  PostProcessor& post = impl_->post;
  const auto put = [](std::vector<std::int32_t>& to, std::optional<std::int32_t> id) {
    to.clear();
    if (id) to.push_back(*id);
  };
  const std::optional<std::int32_t> none;
  const ClassTemplate rule = class_ == nullptr ? ClassTemplate::kKept : class_->post;
  switch (rule) {
    case ClassTemplate::kKept:
      if (!said_.add_bos && !said_.add_eos && impl_->has_post_processor) return;
      [[fallthrough]];
    case ClassTemplate::kFlags:
      put(post.prefix, said_.add_bos.value_or(false) ? id_of(kBos) : none);
      put(post.suffix, said_.add_eos.value_or(false) ? id_of(kEos) : none);
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

std::unique_ptr<Tokenizer::Impl> FolderBuilder::build() {
  build_model();
  finish_tokens();
  finish_template();
  said_.config.read([&] {
    if (const auto node = said_.config.find("split_special_tokens")) {
      impl_->added.split_special(node->boolean());
    }
    if (const auto node = said_.config.find("clean_up_tokenization_spaces")) {
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
  return FolderBuilder(folder).build();
}

}  // namespace drrik::text
