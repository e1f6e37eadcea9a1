// `*.tiktoken`: a line a token, its bytes as base64, a space, its rank.

#include <algorithm>
#include <array>
#include <optional>

#include "drrik/base/error.h"
#include "text/byte_ranks.h"
#include "text/precompiled.h"
#include "text/splitters.h"

namespace drrik::text {
namespace {

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r';
}

bool is_base64(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '/';
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Line {
  std::string_view bytes;  // base64
  std::string_view rank;
};

/// The two fields of a line, or nothing.
std::optional<Line> split_line(std::string_view line) {
  const auto strip = [&] {
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
  };
  while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
  strip();
  const auto* const end = std::find_if(line.begin(), line.end(), is_blank);
  Line out;
  out.bytes = line.substr(0, static_cast<std::size_t>(end - line.begin()));
  line.remove_prefix(out.bytes.size());
  strip();
  out.rank = line;
  std::string_view digits = out.bytes;
  while (digits.ends_with('=')) digits.remove_suffix(1);
  if (out.bytes.empty() || !std::all_of(digits.begin(), digits.end(), is_base64)) return {};
  if (out.rank.empty() || !std::all_of(out.rank.begin(), out.rank.end(), is_digit)) return {};
  return out;
}

// A number of ten digits is more than any rank.
constexpr std::size_t kMaxDigits = 9;

// Groups of capitals and of small letters apart, as OpenAI's o200k_base cuts.
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Named {
  std::string_view file;  // without .tiktoken
  KnownPattern known;     // kNone: kO200k
  std::array<std::pair<const char*, std::int32_t>, 5> special;
};

// Source: tiktoken 0.14, tiktoken_ext/openai_public.py; its patterns for r50k_base, p50k_base and
// cl100k_base are ways to write GPT-2's and Llama 3's.
constexpr Named kNamed[] = {
    {"r50k_base", KnownPattern::kGpt2, {{{"<|endoftext|>", 50256}}}},
    {"p50k_base", KnownPattern::kGpt2, {{{"<|endoftext|>", 50256}}}},
    {"cl100k_base",
     KnownPattern::kLlama3,
     {{{"<|endoftext|>", 100257},
       {"<|fim_prefix|>", 100258},
       {"<|fim_middle|>", 100259},
       {"<|fim_suffix|>", 100260},
       {"<|endofprompt|>", 100276}}}},
    {"o200k_base", KnownPattern::kNone, {{{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}}},
};

ByteEncoding qwen(std::int32_t next) {
  constexpr int kExtra = 205;
  ByteEncoding out;
  out.pattern = pattern_text(KnownPattern::kQwen2);
  out.nfc = true;
  for (const char* name : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    out.special.emplace_back(name, next++);
  }
  for (int i = 0; i < kExtra; ++i) out.special.emplace_back(str("<|extra_", i, "|>"), next++);
  return out;
}

}  // namespace

bool is_tiktoken(std::string_view bytes) {
  return split_line(bytes.substr(0, bytes.find('\n'))).has_value();
}

std::vector<ByteToken> parse_tiktoken(std::string_view bytes) {
  std::vector<ByteToken> out;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', begin), bytes.size());
    const std::string_view text = bytes.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (std::all_of(text.begin(), text.end(), is_blank)) continue;
    const std::optional<Line> line = split_line(text);
    if (!line || line->rank.size() > kMaxDigits) {
      throw_data("tiktoken file, line ", number, ": wanted a token as base64, a space and its rank",
                 begin > bytes.size() ? "; incomplete download?" : "");
    }
    ByteToken token;
    token.bytes = decode_base64(line->bytes);
    for (const char c : line->rank) token.id = token.id * 10 + (c - '0');
    out.push_back(std::move(token));
  }
  if (out.empty()) throw_data("tiktoken file: no tokens");
  keep_last(out);
  return out;
}

ByteEncoding tiktoken_encoding(const std::filesystem::path& path, std::string_view class_name,
                               const std::vector<ByteToken>& tokens) {
  const std::string stem = path.stem().string();
  if (class_name == "QWenTokenizer" || (class_name.empty() && stem == "qwen")) {
    return qwen(static_cast<std::int32_t>(tokens.size()));
  }
  ByteEncoding out;
  if (path.extension() == ".model") {
    out.pattern = pattern_text(KnownPattern::kLlama3);
    return out;
  }
  std::string known = "qwen";
  for (const Named& named : kNamed) {
    known += str(", ", named.file);
    if (stem != named.file) continue;
    out.pattern = named.known == KnownPattern::kNone ? kO200k : pattern_text(named.known);
    for (const auto& [content, id] : named.special) {
      if (content != nullptr) out.special.emplace_back(content, id);
    }
    return out;
  }
  throw_data("a tiktoken file holds tokens but not how text is cut, and none is known for ",
             class_name.empty() ? "" : str("class '", class_name, "' and "), "file '", stem,
             "'; known are QWenTokenizer and files named ", known, ". A tokenizer.json holds both");
}

}  // namespace drrik::text
