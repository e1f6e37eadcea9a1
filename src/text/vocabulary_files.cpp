#include "text/vocabulary_files.h"

#include <algorithm>
#include <system_error>

#include "drrik/base/error.h"
#include "text/precompiled.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {

std::filesystem::path find_tokenizer_file(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const char* name : kTokenizerFiles) {
    if (fs::exists(folder / name, error)) return folder / name;
  }
  fs::path first;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".tiktoken") continue;
    if (first.empty() || at->path() < first) first = at->path();
  }
  return first;
}

std::string word_piece_json(std::string_view text) {
  std::string out = R"({"model":{"type":"WordPiece","vocab":{)";
  std::size_t id = 0;
  for (std::size_t begin = 0; begin < text.size(); ++id) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    while (!line.empty()) {
      const std::size_t last = previous_char(line, line.size());
      std::size_t length = 0;
      if (!unicode::has(decode_char(line.data() + last, length), unicode::kSpace)) break;
      line = line.substr(0, last);
    }
    if (id > 0) out += ',';
    out += str(quote_json(line), ":", id);
  }
  return out += "}}}";
}

std::string merges_json(std::string_view text) {
  std::string out = "[";
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    if (line.empty() || line.starts_with("#version")) continue;
    if (out.size() > 1) out += ',';
    out += quote_json(line);
  }
  return out += ']';
}

std::string sentencepiece_json(const SentencePieceModel& model) {
  std::string charsmap;
  if (!model.charsmap.empty()) {
    charsmap = str(R"({"type":"Precompiled","precompiled_charsmap":)",
                   quote_json(encode_base64(model.charsmap)), "},");
  }
  const char* fallback = model.byte_fallback ? "true" : "false";
  std::string members = model.unigram ? unigram_members(model) : bpe_members(model);
  if (model.unigram) {
    members += str(",\"unk_id\":", model.unk_id);
  } else {
    members += str(R"(,"fuse_unk":true,"unk_token":)", quote_json(model.unk_piece));
  }
  return str(R"({"version":"1.0","normalizer":{"type":"Sequence","normalizers":[)", charsmap,
             R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},)",
             R"("decoder":{"type":"Sequence","decoders":[)",
             R"({"type":"Replace","pattern":{"String":"\u2581"},"content":" "})",
             model.byte_fallback ? R"(,{"type":"ByteFallback"},{"type":"Fuse"})" : "",
             R"(]},"model":{)", members, ",\"byte_fallback\":", fallback, "}}");
}

}  // namespace drrik::text
