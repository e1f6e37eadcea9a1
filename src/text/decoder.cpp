#include "text/decoder.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

using Step = Decoder::Step;
using Tokens = std::vector<std::string>;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t copied = 0;
  if (!from.empty()) {
    for (std::size_t at = text.find(from); at != std::string_view::npos;
         at = text.find(from, copied)) {
      out.append(text.substr(copied, at - copied));
      out.append(to);
      copied = at + from.size();
    }
  }
  out.append(text.substr(copied));
  return out;
}

void append_token_bytes(std::string_view token, std::string& out) {
  if (!append_unmapped(token, out)) out.append(token);
}

void byte_level(const Step&, Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_token_bytes(token, bytes);
  tokens.assign(1, {});
  append_mended(bytes, tokens[0]);
}

std::string byte_level_piece(const Step&, std::string token) {
  std::string out;
  append_token_bytes(token, out);
  return out;
}

std::string replace_piece(const Step& step, std::string token) {
  if (step.regex.empty()) return replaced(token, step.text, step.content);
  if (token.empty()) return token;
  std::string out;
  std::size_t copied = 0;
  Regex::Match match;
  for (Regex::Scan scan(step.regex[0], token); scan.next(match);) {
    out.append(token, copied, match.begin - copied);
    out.append(step.content);
    copied = match.end;
  }
  out.append(token, copied);
  return out;
}

void replace(const Step& step, Tokens& tokens) {
  for (std::string& token : tokens) token = replace_piece(step, std::move(token));
}

/// The byte of <0xHH>, or -1.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f') digit = (c | 32) - 'a' + 10;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void byte_fallback(const Step&, Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (is_valid_utf8(run)) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), std::string(kReplacement));
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    const int byte = fallback_byte(token);
    if (byte >= 0) {
      run.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens.swap(out);
}

std::string byte_fallback_piece(const Step&, std::string token) {
  const int byte = fallback_byte(token);
  return byte < 0 ? token : std::string(1, static_cast<char>(byte));
}

void fuse(const Step&, Tokens& tokens) {
  std::string joined;
  for (const std::string& token : tokens) joined += token;
  tokens.assign(1, std::move(joined));
}

std::string same(const Step&, std::string token) { return token; }

void strip(const Step& step, Tokens& tokens) {
  for (std::string& token : tokens) {
    std::string_view left = token;
    for (std::size_t i = 0; i < step.start && left.starts_with(step.content); ++i) {
      left.remove_prefix(step.content.size());
    }
    for (std::size_t i = 0; i < step.stop && left.ends_with(step.content); ++i) {
      left.remove_suffix(step.content.size());
    }
    token = std::string(left);
  }
}

void metaspace(const Step& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = replaced(tokens[i], step.text, i == 0 && step.flag ? "" : " ");
  }
}

std::string metaspace_piece(const Step& step, std::string token) {
  return replaced(token, step.text, " ");
}

std::string word_piece_piece(const Step& step, std::string token) {
  return token.starts_with(step.text) ? token.substr(step.text.size()) : " " + token;
}

void word_piece(const Step& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) tokens[i] = word_piece_piece(step, std::move(tokens[i]));
    if (step.flag) tokens[i] = clean_up_spaces(std::move(tokens[i]), true);
  }
}

void bpe_suffix(const Step& step, Tokens& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = replaced(tokens[i], step.text, i + 1 == tokens.size() ? "" : " ");
  }
}

std::string bpe_suffix_piece(const Step& step, std::string token) {
  return replaced(token, step.text, " ");
}

std::string ctc_piece(const Step& step, std::string token) {
  token = replaced(token, step.text, "");
  return step.flag ? replaced(clean_up_spaces(std::move(token), true), step.content, " ") : token;
}

void ctc(const Step& step, Tokens& tokens) {
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  Tokens out;
  for (std::string& token : tokens) {
    token = ctc_piece(step, std::move(token));
    if (!token.empty()) out.push_back(std::move(token));
  }
  tokens.swap(out);
}

template <void (*apply)(const Step&, Tokens&), std::string (*piece)(const Step&, std::string)>
Step parse_plain(const Node&) {
  Step step;
  step.apply = apply;
  step.piece = piece;
  return step;
}

Step parse_replace(const Node& node) {
  Step step = parse_plain<replace, replace_piece>(node);
  step.content = std::string(node.get("content").string());
  const Node pattern = node.get("pattern");
  if (const auto literal = pattern.find("String")) {
    step.text = std::string(literal->string());
  } else {
    step.regex.emplace_back(pattern.get("Regex").string());
  }
  return step;
}

Step parse_strip(const Node& node) {
  Step step = parse_plain<strip, same>(node);
  append_utf8(node.get("content").character(), step.content);
  step.start = static_cast<std::size_t>(node.get("start").id());
  step.stop = static_cast<std::size_t>(node.get("stop").id());
  return step;
}

Step parse_metaspace(const Node& node) {
  Step step = parse_plain<metaspace, metaspace_piece>(node);
  append_utf8(node.get("replacement").character(), step.text);
  step.flag = parse_prepend_scheme(node) != PrependScheme::kNever;
  return step;
}

Step parse_word_piece(const Node& node) {
  Step step = parse_plain<word_piece, word_piece_piece>(node);
  step.text = std::string(node.get("prefix").string());
  step.flag = node.get("cleanup").boolean();
  return step;
}

Step parse_bpe(const Node& node) {
  Step step = parse_plain<bpe_suffix, bpe_suffix_piece>(node);
  step.text = std::string(node.get("suffix").string());
  return step;
}

Step parse_ctc(const Node& node) {
  Step step = parse_plain<ctc, ctc_piece>(node);
  step.text = std::string(node.get("pad_token").string());
  step.content = std::string(node.get("word_delimiter_token").string());
  step.flag = node.get("cleanup").boolean();
  return step;
}

struct Entry {
  const char* type;
  Step (*parse)(const Node&);
};

constexpr Entry kDecoders[] = {
    {"BPEDecoder", parse_bpe},
    {"ByteFallback", parse_plain<byte_fallback, byte_fallback_piece>},
    {"ByteLevel", parse_plain<byte_level, byte_level_piece>},
    {"CTC", parse_ctc},
    {"Fuse", parse_plain<fuse, same>},
    {"Metaspace", parse_metaspace},
    {"Replace", parse_replace},
    {"Strip", parse_strip},
    {"WordPiece", parse_word_piece},
};

}  // namespace

std::string clean_up_spaces(std::string text, bool word_piece) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) {
    if (word_piece || from != " do not") text = replaced(text, from, to);
  }
  return text;
}

Decoder::Decoder(const Node& node) : present_(true) {
  add(node, 0);
  byte_level_only_ = steps_.size() == 1 && steps_[0].apply == byte_level;
}

void Decoder::add(const Node& node, int depth) {
  if (depth > kMaxSequenceDepth) node.fail("sequences nested too deeply");
  const std::string_view type = node.get("type").string();
  if (type == "Sequence") {
    for (const Node& item : node.get("decoders").items()) add(item, depth + 1);
    return;
  }
  std::vector<std::string> known;
  for (const Entry& entry : kDecoders) {
    if (type == entry.type) {
      steps_.push_back(entry.parse(node));
      return;
    }
    known.emplace_back(entry.type);
  }
  known.emplace_back("Sequence");
  node.fail(str("decoder type '", type, "' is not known; known: ", join(known)));
}

std::string Decoder::decode(const std::vector<std::string_view>& tokens) const {
  std::string out;
  if (tokens.empty()) return out;
  if (byte_level_only_) {
    std::string bytes;
    for (const std::string_view token : tokens) append_token_bytes(token, bytes);
    append_mended(bytes, out);
    return out;
  }
  if (!present_) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) out += ' ';
      out += tokens[i];
    }
    return out;
  }
  Tokens work(tokens.begin(), tokens.end());
  for (const Step& step : steps_) step.apply(step, work);
  for (const std::string& token : work) out += token;
  return out;
}

std::string Decoder::piece(std::string_view token) const {
  std::string out(token);
  for (const Step& step : steps_) out = step.piece(step, std::move(out));
  return out;
}

}  // namespace drrik::text
