#include "text/byte_ranks.h"

#include <algorithm>
#include <unordered_map>

#include "drrik/base/error.h"
#include "text/piece_merges.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace drrik::text {

void keep_last(std::vector<ByteToken>& tokens) {
  std::unordered_map<std::string, std::size_t> place;
  std::vector<ByteToken> out;
  out.reserve(tokens.size());
  for (ByteToken& token : tokens) {
    const auto [found, is_new] = place.emplace(token.bytes, out.size());
    if (is_new) {
      out.push_back(std::move(token));
    } else {
      out[found->second].id = token.id;
    }
  }
  tokens = std::move(out);
}

std::string byte_ranks_json(const std::vector<ByteToken>& tokens, const ByteEncoding& encoding) {
  std::string out = R"({"version":"1.0","added_tokens":[)";
  for (const auto& [content, id] : encoding.special) {
    out += str(out.back() == '[' ? "" : ",", R"({"id":)", id, R"(,"content":)", quote_json(content),
               R"(,"special":true,"normalized":)",
               // Where a text is normalized, it is so before special tokens are looked for.
               encoding.nfc ? "true}" : "false}");
  }
  out += str(R"(],"normalizer":)", encoding.nfc ? R"({"type":"NFC"})" : "null",
             R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[)",
             R"({"type":"Split","pattern":{"Regex":)", quote_json(encoding.pattern),
             R"(},"behavior":"Isolated","invert":false},)",
             R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},)",
             R"("decoder":{"type":"ByteLevel"},"post_processor":)");
  if (encoding.bos.empty()) {
    out += R"({"type":"ByteLevel"})";
  } else {
    const auto bos =
        std::find_if(encoding.special.begin(), encoding.special.end(),
                     [&](const auto& special) { return special.first == encoding.bos; });
    if (bos == encoding.special.end()) throw_data("no special token '", encoding.bos, "'");
    const std::string name = quote_json(encoding.bos);
    out += str(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":)", name,
               R"(,"type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],)",
               R"("special_tokens":{)", name, R"(:{"id":)", name, R"(,"ids":[)", bos->second,
               R"(],"tokens":[)", name, "]}}}");
  }
  out += R"(,"model":{"type":"BPE","ignore_merges":true,"vocab":{)";
  struct Made {
    std::int32_t rank;
    std::string_view bytes;
    std::int32_t id;
  };
  std::vector<Made> made;
  made.reserve(tokens.size());
  std::unordered_map<std::string_view, std::int32_t> special;
  for (const auto& [content, id] : encoding.special) special[content] = id;
  std::string mapped;
  for (const ByteToken& token : tokens) {
    mapped.clear();
    append_mapped(token.bytes, mapped);
    // A token spelt like a special one is that one.
    const auto same = special.find(mapped);
    made.push_back({token.id, token.bytes, same == special.end() ? token.id : same->second});
    if (same != special.end()) continue;
    out += str(out.back() == '{' ? "" : ",", quote_json(mapped), ":", token.id);
  }
  for (const auto& [content, id] : encoding.special) {
    out += str(out.back() == '{' ? "" : ",", quote_json(content), ":", id);
  }
  std::stable_sort(made.begin(), made.end(),
                   [](const Made& a, const Made& b) { return a.rank < b.rank; });
  std::vector<std::pair<std::string_view, std::int32_t>> in_order;
  in_order.reserve(made.size());
  for (const Made& token : made) in_order.emplace_back(token.bytes, token.id);
  return out += str("},", merge_ids_member(in_order, CutOrder::kByIds), "}}");
}

}  // namespace drrik::text
