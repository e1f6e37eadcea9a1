// drrik info: tokenizers.

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "info.h"
#include "io/json.h"
#include "text/byte_ranks.h"
#include "text/vocabulary_files.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxBytes = std::uint64_t{256} << 20;
// "BPE", and what stands around it: "Sequence" is told by its parts.
std::string type_of(const Json& parent, const char* member) {
  const auto found = parent.find(member);
  if (found == parent.end() || !found->is_object()) return "";
  const std::string type = found->value("type", std::string());
  if (type != "Sequence") return printable(type, 40);
  std::vector<std::string> parts;
  for (const char* list : {"normalizers", "pretokenizers", "processors", "decoders"}) {
    const auto inner = found->find(list);
    if (inner == found->end() || !inner->is_array()) continue;
    for (const Json& part : *inner) {
      if (part.is_object()) parts.push_back(printable(part.value("type", std::string("?")), 40));
    }
  }
  return join(parts, " + ");
}

// What encoding puts around a text: its ids with the template, and those without in their midst.
struct Around {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

Around around(const Tokenizer& tokenizer) {
  EncodeOptions plain;
  plain.add_special_tokens = false;
  const std::vector<std::int32_t> inner = tokenizer.encode("a", plain);
  const std::vector<std::int32_t> whole = tokenizer.encode("a");
  Around out;
  for (std::size_t at = 0; at + inner.size() <= whole.size(); ++at) {
    if (!std::equal(inner.begin(), inner.end(), whole.begin() + static_cast<std::ptrdiff_t>(at))) {
      continue;
    }
    out.before.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at));
    out.after.assign(whole.begin() + static_cast<std::ptrdiff_t>(at + inner.size()), whole.end());
    break;
  }
  return out;
}

std::string spelled(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  std::vector<std::string> parts;
  for (const std::int32_t id : ids) {
    parts.push_back(str(printable(tokenizer.token_text(id), 40), " (", id, ")"));
  }
  return join(parts, " ");
}

}  // namespace

bool has_tokenizer(const fs::path& folder) { return Tokenizer::is_in(folder); }

void add_tokenizer(const fs::path& path, Info& info) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const Tokenizer tokenizer = folder ? Tokenizer::from_folder(path) : Tokenizer::from_file(path);
  const fs::path file = folder ? text::find_tokenizer_file(path) : path;
  Json json = Json::object();
  Screen& screen = info.screen;
  screen.section("Tokenizer");
  std::string kind = file.filename() == "vocab.txt" ? "WordPiece" : "";
  if (file.extension() == ".model" && !text::is_tiktoken(read_file(file, kMaxBytes))) {
    kind = "SentencePiece";
  }
  json["file"] = file.filename().string();
  std::vector<std::pair<const char*, std::string>> steps;
  if (file.extension() == ".json" && file.filename() != "vocab.json") {
    const Json text = read_json_file(file, kMaxBytes);
    if (text.is_object()) {
      kind = type_of(text, "model");
      const auto model = text.find("model");
      if (kind.empty() && model != text.end() && model->is_object()) {
        kind = model->contains("merges") ? "BPE" : "WordPiece";
      }
      for (const char* step : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
        steps.emplace_back(step, type_of(text, step));
      }
    }
  }
  if (kind.empty()) kind = "BPE";
  json["kind"] = kind;
  json["vocab_size"] = tokenizer.vocab_size();
  screen.row("kind", str(kind, ", ", grouped(tokenizer.vocab_size()), " tokens, from ",
                         file.filename().string()));
  Json special = Json::object();
  std::vector<std::string> words;
  const auto add = [&](const char* name, std::optional<std::int32_t> id) {
    if (!id) return;
    special[name] = {{"id", *id}, {"text", tokenizer.token_text(*id)}};
    words.push_back(str(name, " ", printable(tokenizer.token_text(*id), 40), " (", *id, ")"));
  };
  add("bos", tokenizer.bos_id());
  add("eos", tokenizer.eos_id());
  add("pad", tokenizer.pad_id());
  add("unk", tokenizer.unk_id());
  json["special"] = special;
  screen.row("special tokens", join(words));
  std::int64_t marked = 0;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) marked += tokenizer.is_special(id);
  json["special_tokens"] = marked;
  if (marked > static_cast<std::int64_t>(words.size())) {
    screen.row("", str(grouped(marked), " are marked special in all"));
  }
  const Around put = around(tokenizer);
  json["adds_before"] = put.before;
  json["adds_after"] = put.after;
  json["adds_bos"] = !put.before.empty();
  screen.row("puts before",
             put.before.empty() ? "nothing: texts have no BOS" : spelled(tokenizer, put.before));
  screen.row("puts after", spelled(tokenizer, put.after));
  for (const auto& [step, type] : steps) {
    json[step] = type.empty() ? Json(nullptr) : Json(type);
    std::string label(step);
    std::replace(label.begin(), label.end(), '_', '-');
    screen.row(label, type);
  }
  info.json["tokenizer"] = json;
}

void tokenizer_info(const fs::path& path, Info& info) {
  info.screen.title("tokenizer", path.string());
  add_tokenizer(path, info);
  const Json tokenizer = info.json["tokenizer"];  // a copy, as new members move the old ones
  for (const auto& [key, value] : tokenizer.items()) {
    if (key != "kind") info.json[key] = value;
  }
}

}  // namespace drrik::cli
