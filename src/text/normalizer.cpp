#include "text/normalizer.h"

#include <algorithm>
#include <functional>

#include "drrik/base/error.h"
#include "text/precompiled.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

using unicode::has;

class FormNormalizer : public Normalizer {
 public:
  explicit FormNormalizer(NormalForm form) : form_(form) {}
  void apply(std::string& text, bool&) const override { normalize(form_, text); }

 private:
  NormalForm form_;
};

/// Rewrites character by character: `put` appends what stands for it.
template <typename Put>
void map_characters(std::string& text, bool& at_start, Put put) {
  std::string out;
  out.reserve(text.size());
  std::size_t first_length = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = 0;
    const std::uint32_t code = decode_char(text.data() + at, length);
    put(code, out);
    at += length;
    if (first_length == 0) {
      first_length = length;
      if (out.empty()) at_start = false;
    }
  }
  text.swap(out);
}

/// A normalizer that is one function without options.
class FunctionNormalizer : public Normalizer {
 public:
  using Function = void (*)(std::string&, bool&);
  explicit FunctionNormalizer(Function function) : function_(function) {}
  void apply(std::string& text, bool& at_start) const override { function_(text, at_start); }

 private:
  Function function_;
};

void lowercase(std::string& text, bool& at_start) {
  map_characters(text, at_start, unicode::append_lower);
}

void strip_accents(std::string& text, bool& at_start) {
  map_characters(text, at_start, [](std::uint32_t code, std::string& out) {
    if (!has(code, unicode::kCombining)) append_utf8(code, out);
  });
}

void nmt(std::string& text, bool& at_start) {
  map_characters(text, at_start, [](std::uint32_t c, std::string& out) {
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
        c == 0x9F) {
      return;
    }
    const bool blank = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    append_utf8(blank ? ' ' : c, out);
  });
}

void map_bytes(std::string& text, bool&) {
  std::string out;
  append_mapped(text, out);
  text.swap(out);
}

class Strip : public Normalizer {
 public:
  explicit Strip(const Node& node)
      : left_(node.get("strip_left").boolean()), right_(node.get("strip_right").boolean()) {}
  void apply(std::string& text, bool& at_start) const override {
    std::size_t begin = 0;
    std::size_t end = text.size();
    std::size_t length = 0;
    while (left_ && begin < end && has(decode_char(text.data() + begin, length), unicode::kSpace)) {
      begin += length;
    }
    while (right_ && end > begin) {
      const std::size_t start = previous_char(text, end);
      if (!has(decode_char(text.data() + start, length), unicode::kSpace)) break;
      end = start;
    }
    if (begin > 0) at_start = false;
    text.erase(end);
    text.erase(0, begin);
  }

 private:
  bool left_;
  bool right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const Node& node) : prefix_(node.get("prepend").string()) {}
  void apply(std::string& text, bool&) const override {
    if (!text.empty()) text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

/// Replaces every `from` (not empty).
void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  std::size_t copied = 0;
  for (; at != std::string::npos; at = text.find(from, copied)) {
    out.append(text, copied, at - copied);
    out.append(to);
    copied = at + from.size();
  }
  out.append(text, copied);
  text.swap(out);
}

class Replace : public Normalizer {
 public:
  explicit Replace(const Node& node) : content_(node.get("content").string()) {
    const Node pattern = node.get("pattern");
    if (const auto literal = pattern.find("String")) {
      literal_ = std::string(literal->string());
      return;
    }
    regex_.emplace_back(pattern.get("Regex").string());
  }
  void apply(std::string& text, bool& at_start) const override {
    if (text.empty()) return;
    const bool nothing = content_.empty();
    if (regex_.empty()) {
      if (literal_.empty()) return;
      if (nothing && text.compare(0, literal_.size(), literal_) == 0) at_start = false;
      replace_all(text, literal_, content_);
      return;
    }
    std::string out;
    std::size_t copied = 0;
    Regex::Match match;
    for (Regex::Scan scan(regex_[0], text); scan.next(match);) {
      if (nothing && match.begin == 0 && match.end > 0) at_start = false;
      out.append(text, copied, match.begin - copied);
      out.append(content_);
      copied = match.end;
    }
    out.append(text, copied);
    text.swap(out);
  }

 private:
  std::string literal_;
  std::vector<Regex> regex_;  // none or one
  std::string content_;
};

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const Node& node)
      : clean_(node.get("clean_text").boolean()),
        chinese_(node.get("handle_chinese_chars").boolean()),
        lower_(node.get("lowercase").boolean()),
        accents_(node.boolean_or("strip_accents", lower_)) {}

  void apply(std::string& text, bool& at_start) const override {
    if (clean_) {
      map_characters(text, at_start, [](std::uint32_t c, std::string& out) {
        if (has(c, unicode::kBertOther)) return;
        append_utf8(has(c, unicode::kSpace) ? ' ' : c, out);
      });
    }
    if (chinese_) {
      map_characters(text, at_start, [](std::uint32_t c, std::string& out) {
        const bool chinese = is_chinese(c);
        if (chinese) out.push_back(' ');
        append_utf8(c, out);
        if (chinese) out.push_back(' ');
      });
    }
    if (accents_) {
      normalize(NormalForm::kNfd, text);
      map_characters(text, at_start, [](std::uint32_t c, std::string& out) {
        if (!has(c, unicode::kBertMark)) append_utf8(c, out);
      });
    }
    if (lower_) lowercase(text, at_start);
  }

 private:
  static bool is_chinese(std::uint32_t c) {
    // The start of the last-but-two block is the reference's.
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
  bool clean_;
  bool chinese_;
  bool lower_;
  bool accents_;
};

class SequenceNormalizer : public Normalizer {
 public:
  SequenceNormalizer(const Node& node, int depth) {
    for (const Node& item : node.get("normalizers").items()) {
      steps_.push_back(make_normalizer(item, depth + 1));
    }
  }
  void apply(std::string& text, bool& at_start) const override {
    for (const auto& step : steps_) step->apply(text, at_start);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

template <NormalForm form>
std::unique_ptr<Normalizer> make_form(const Node&, int) {
  return std::make_unique<FormNormalizer>(form);
}
template <FunctionNormalizer::Function function>
std::unique_ptr<Normalizer> make_function(const Node&, int) {
  return std::make_unique<FunctionNormalizer>(function);
}
template <typename T>
std::unique_ptr<Normalizer> make(const Node& node, int) {
  return std::make_unique<T>(node);
}

struct Entry {
  const char* type;
  std::unique_ptr<Normalizer> (*make)(const Node&, int depth);
};

constexpr Entry kNormalizers[] = {
    {"BertNormalizer", make<BertNormalizer>},
    {"ByteLevel", make_function<map_bytes>},
    {"Lowercase", make_function<lowercase>},
    {"NFC", make_form<NormalForm::kNfc>},
    {"NFD", make_form<NormalForm::kNfd>},
    {"NFKC", make_form<NormalForm::kNfkc>},
    {"NFKD", make_form<NormalForm::kNfkd>},
    {"Nmt", make_function<nmt>},
    {"Precompiled",
     [](const Node& node, int) {
       return make_precompiled(decode_base64(node.get("precompiled_charsmap").string()));
     }},
    {"Prepend", make<Prepend>},
    {"Replace", make<Replace>},
    {"Sequence",
     [](const Node& node, int depth) -> std::unique_ptr<Normalizer> {
       return std::make_unique<SequenceNormalizer>(node, depth);
     }},
    {"Strip", make<Strip>},
    {"StripAccents", make_function<strip_accents>},
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Node& node, int depth) {
  if (depth > kMaxSequenceDepth) node.fail("sequences nested too deeply");
  const std::string_view type = node.get("type").string();
  std::vector<std::string> known;
  for (const Entry& entry : kNormalizers) {
    if (type == entry.type) return entry.make(node, depth);
    known.emplace_back(entry.type);
  }
  node.fail(str("normalizer type '", type, "' is not known; known: ", join(known)));
}

}  // namespace drrik::text
