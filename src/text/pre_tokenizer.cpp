#include "text/pre_tokenizer.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "text/normalizer.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

using Step = PreTokenizer::Step;
using Piece = PreText::Piece;

struct Part {
  std::size_t begin;
  std::size_t end;
  bool match;
};

// Parts of one piece, kept between calls for their memory.
std::vector<Part>& parts_buffer() {
  static thread_local std::vector<Part> parts;
  parts.clear();
  return parts;
}

/// Collects the parts a finder's matches cut a piece into.
class Cutter {
 public:
  Cutter(const Piece& piece, std::vector<Part>& parts)
      : end_(piece.end), done_(piece.begin), parts_(parts) {}
  void match(std::size_t begin, std::size_t end) {
    if (begin > done_) parts_.push_back({done_, begin, false});
    parts_.push_back({begin, end, true});
    done_ = end;
  }
  void finish() {
    if (done_ < end_) parts_.push_back({done_, end_, false});
  }

 private:
  std::size_t end_;
  std::size_t done_;
  std::vector<Part>& parts_;
};

void keep(const Piece& piece, std::size_t begin, std::size_t end, std::vector<Piece>& out) {
  if (begin < end) out.push_back({begin, end, piece.at_start && begin == piece.begin});
}

/// The reference's rules for what becomes of matches.
void arrange(SplitBehavior behavior, const Piece& piece, std::vector<Part>& parts,
             std::vector<Piece>& out) {
  bool previous = false;
  std::size_t kept = 0;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.match) keep(piece, part.begin, part.end, out);
      }
      return;
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious:
      for (const Part part : parts) {
        const bool join = behavior == SplitBehavior::kContiguous ? part.match == previous
                                                                 : part.match && !previous;
        if (join && kept > 0) {
          parts[kept - 1].end = part.end;
        } else {
          parts[kept++] = part;
        }
        previous = part.match;
      }
      parts.resize(kept);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts.begin(), parts.end());
      for (const Part part : parts) {
        if (part.match && !previous && kept > 0) {
          parts[kept - 1].begin = part.begin;
        } else {
          parts[kept++] = part;
        }
        previous = part.match;
      }
      parts.resize(kept);
      std::reverse(parts.begin(), parts.end());
      break;
  }
  for (const Part& part : parts) keep(piece, part.begin, part.end, out);
}

/// Cuts every piece at the matches that `find(piece, cutter)` reports.
template <typename Find>
void cut_pieces(PreText& work, SplitBehavior behavior, bool invert, Find find) {
  work.next_pieces.clear();
  for (const Piece& piece : work.pieces) {
    if (piece.begin == piece.end) continue;
    std::vector<Part>& parts = parts_buffer();
    Cutter cutter(piece, parts);
    find(piece, cutter);
    cutter.finish();
    if (invert) {
      for (Part& part : parts) part.match = !part.match;
    }
    arrange(behavior, piece, parts, work.next_pieces);
  }
  work.pieces.swap(work.next_pieces);
}

/// Each character for which `is_match` holds is a match.
template <typename Predicate>
void cut_characters(PreText& work, SplitBehavior behavior, Predicate is_match) {
  cut_pieces(work, behavior, false, [&](const Piece& piece, Cutter& cutter) {
    for (std::size_t at = piece.begin; at < piece.end;) {
      std::size_t length = 0;
      const std::uint32_t code = decode_char(work.text.data() + at, length);
      if (is_match(code)) cutter.match(at, at + length);
      at += length;
    }
  });
}

std::size_t match_known(KnownPattern pattern, std::string_view text, std::size_t at) {
  switch (pattern) {
    case KnownPattern::kGpt2:
      return match_gpt2(text, at);
    case KnownPattern::kLlama3:
      return match_llama3(text, at, 3);
    case KnownPattern::kQwen2:
      return match_llama3(text, at, 1);
    case KnownPattern::kNone:
      break;
  }
  return text.size();
}

void cut_by_pattern(const Step& step, PreText& work) {
  cut_pieces(work, step.behavior, step.invert, [&](const Piece& piece, Cutter& cutter) {
    const std::string_view text =
        std::string_view(work.text).substr(piece.begin, piece.end - piece.begin);
    if (step.known != KnownPattern::kNone) {
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = match_known(step.known, text, at);
        cutter.match(piece.begin + at, piece.begin + end);
        at = end;
      }
      return;
    }
    Regex::Match match;
    for (Regex::Scan scan(step.regex[0], text); scan.next(match);) {
      cutter.match(piece.begin + match.begin, piece.begin + match.end);
    }
  });
}

/// Rewrites every piece: `rewrite(piece, bytes, out)` appends the new text.
template <typename Rewrite>
void rewrite_pieces(PreText& work, Rewrite rewrite) {
  work.next_text.clear();
  work.next_text.reserve(work.text.size() + work.pieces.size());
  for (Piece& piece : work.pieces) {
    const std::size_t begin = work.next_text.size();
    rewrite(piece, std::string_view(work.text).substr(piece.begin, piece.end - piece.begin),
            work.next_text);
    piece.begin = begin;
    piece.end = work.next_text.size();
  }
  work.text.swap(work.next_text);
}

void apply_byte_level(const Step& step, PreText& work) {
  if (step.add_prefix_space) {
    rewrite_pieces(work, [](const Piece&, std::string_view piece, std::string& out) {
      if (!piece.starts_with(' ')) out.push_back(' ');
      out.append(piece);
    });
  }
  if (step.use_regex) cut_by_pattern(step, work);
}

void apply_byte_map(const Step&, PreText& work) {
  rewrite_pieces(work, [](const Piece&, std::string_view piece, std::string& out) {
    append_mapped(piece, out);
  });
}

void apply_metaspace(const Step& step, PreText& work) {
  rewrite_pieces(work, [&step](const Piece& piece, std::string_view text, std::string& out) {
    const bool wanted = step.scheme == PrependScheme::kAlways ||
                        (step.scheme == PrependScheme::kFirst && piece.at_start);
    const bool marked = text.starts_with(' ') || text.starts_with(step.mark);
    if (wanted && !marked && !text.empty()) out.append(step.mark);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t space = std::min(text.find(' ', at), text.size());
      out.append(text.substr(at, space - at));
      if (space < text.size()) out.append(step.mark);
      at = space + 1;
    }
  });
  if (!step.split) return;
  const std::string& mark = step.mark;
  cut_pieces(work, SplitBehavior::kMergedWithNext, false, [&](const Piece& piece, Cutter& cutter) {
    for (std::size_t at = piece.begin;; at += mark.size()) {
      at = work.text.find(mark, at);
      if (at == std::string::npos || at >= piece.end) break;
      cutter.match(at, at + mark.size());
    }
  });
}

bool is_space(std::uint32_t code) { return unicode::has(code, unicode::kSpace); }
bool is_punctuation(std::uint32_t code) { return unicode::has(code, unicode::kPunctuation); }

void apply_whitespace_split(const Step&, PreText& work) {
  cut_characters(work, SplitBehavior::kRemoved, is_space);
}

void apply_bert(const Step&, PreText& work) {
  cut_characters(work, SplitBehavior::kRemoved, is_space);
  cut_characters(work, SplitBehavior::kIsolated, is_punctuation);
}

void apply_punctuation(const Step& step, PreText& work) {
  cut_characters(work, step.behavior, is_punctuation);
}

void apply_digits(const Step& step, PreText& work) {
  cut_characters(work, step.behavior,
                 [](std::uint32_t code) { return unicode::has(code, unicode::kNumeric); });
}

void apply_delimiter(const Step& step, PreText& work) {
  cut_characters(work, SplitBehavior::kRemoved,
                 [&step](std::uint32_t code) { return code == step.delimiter; });
}

/// Runs of word characters and runs of what is neither word nor space.
void apply_whitespace(const Step&, PreText& work) {
  cut_pieces(work, SplitBehavior::kRemoved, true, [&](const Piece& piece, Cutter& cutter) {
    enum Kind { kSpace, kWord, kRest };
    Kind run = kSpace;
    std::size_t begin = piece.begin;
    for (std::size_t at = piece.begin; at < piece.end;) {
      std::size_t length = 0;
      const std::uint32_t p = unicode::properties(decode_char(work.text.data() + at, length));
      const Kind kind =
          (p & unicode::kRustWord) != 0 ? kWord : ((p & unicode::kSpace) != 0 ? kSpace : kRest);
      if (kind != run) {
        if (run != kSpace) cutter.match(begin, at);
        begin = at;
        run = kind;
      }
      at += length;
    }
    if (run != kSpace) cutter.match(begin, piece.end);
  });
}

void apply_fixed_length(const Step& step, PreText& work) {
  cut_pieces(work, SplitBehavior::kIsolated, false, [&](const Piece& piece, Cutter& cutter) {
    std::size_t begin = piece.begin;
    std::size_t count = 0;
    for (std::size_t at = piece.begin; at < piece.end;) {
      at += char_length(work.text[at]);
      if (++count == step.length) {
        cutter.match(begin, at);
        begin = at;
        count = 0;
      }
    }
  });
}

/// A piece for every stretch of one script. What comes before the first character of a script
/// belongs to none and is dropped, as the reference does.
void apply_scripts(const Step&, PreText& work) {
  work.next_pieces.clear();
  for (const Piece& piece : work.pieces) {
    std::uint32_t last = 0;
    std::size_t begin = piece.end;
    for (std::size_t at = piece.begin; at < piece.end;) {
      std::size_t length = 0;
      const std::uint32_t now = unicode::script(decode_char(work.text.data() + at, length));
      if (now != 0 && now != last) {
        if (last != 0) keep(piece, begin, at, work.next_pieces);
        begin = at;
        last = now;
      }
      at += length;
    }
    if (last != 0) keep(piece, begin, piece.end, work.next_pieces);
  }
  work.pieces.swap(work.next_pieces);
}

SplitBehavior parse_behavior(const Node& node) {
  static constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [name, behavior] : kNames) {
    if (node.string() == name) return behavior;
  }
  node.fail(str("behavior '", node.string(),
                "' is not known; known: Removed, Isolated, MergedWithPrevious, MergedWithNext, "
                "Contiguous"));
}

Step parse_byte_level(const Node& node) {
  Step step;
  step.byte_level = true;
  step.apply = apply_byte_level;
  step.add_prefix_space = node.get("add_prefix_space").boolean();
  step.use_regex = node.boolean_or("use_regex", true);
  step.known = KnownPattern::kGpt2;
  return step;
}

Step parse_split(const Node& node) {
  Step step;
  step.apply = cut_by_pattern;
  step.behavior = parse_behavior(node.get("behavior"));
  step.invert = node.get("invert").boolean();
  const Node pattern = node.get("pattern");
  if (const auto literal = pattern.find("String")) {
    step.regex.push_back(Regex::literal(literal->string()));
    return step;
  }
  const Node regex = pattern.get("Regex");
  step.known = recognise(regex.string());
  if (step.known == KnownPattern::kNone) step.regex.emplace_back(regex.string());
  return step;
}

Step parse_metaspace(const Node& node) {
  Step step;
  step.apply = apply_metaspace;
  append_utf8(node.get("replacement").character(), step.mark);
  step.scheme = parse_prepend_scheme(node);
  step.split = node.boolean_or("split", true);
  return step;
}

Step parse_punctuation(const Node& node) {
  Step step;
  step.apply = apply_punctuation;
  if (const auto behavior = node.find("behavior")) step.behavior = parse_behavior(*behavior);
  return step;
}

Step parse_digits(const Node& node) {
  Step step;
  step.apply = apply_digits;
  step.behavior = node.get("individual_digits").boolean() ? SplitBehavior::kIsolated
                                                          : SplitBehavior::kContiguous;
  return step;
}

Step parse_delimiter(const Node& node) {
  Step step;
  step.apply = apply_delimiter;
  step.delimiter = node.get("delimiter").character();
  return step;
}

Step parse_fixed_length(const Node& node) {
  Step step;
  step.apply = apply_fixed_length;
  const auto length = node.find("length");
  step.length = length ? static_cast<std::size_t>(length->id()) : 5;
  if (step.length == 0) length->fail("a length of at least 1 is wanted");
  return step;
}

template <void (*apply)(const Step&, PreText&)>
Step parse_plain(const Node&) {
  Step step;
  step.apply = apply;
  return step;
}

struct Entry {
  const char* type;
  Step (*parse)(const Node&);
};

constexpr Entry kPreTokenizers[] = {
    {"BertPreTokenizer", parse_plain<apply_bert>},
    {"ByteLevel", parse_byte_level},
    {"CharDelimiterSplit", parse_delimiter},
    {"Digits", parse_digits},
    {"FixedLength", parse_fixed_length},
    {"Metaspace", parse_metaspace},
    {"Punctuation", parse_punctuation},
    {"Split", parse_split},
    {"UnicodeScripts", parse_plain<apply_scripts>},
    {"Whitespace", parse_plain<apply_whitespace>},
    {"WhitespaceSplit", parse_plain<apply_whitespace_split>},
};

}  // namespace

PrependScheme parse_prepend_scheme(const Node& node) {
  PrependScheme scheme = PrependScheme::kAlways;
  if (const auto member = node.find("prepend_scheme")) {
    const std::string_view name = member->string();
    if (name == "first") {
      scheme = PrependScheme::kFirst;
    } else if (name == "never") {
      scheme = PrependScheme::kNever;
    } else if (name != "always") {
      member->fail(str("'", name, "' is not always, first or never"));
    }
  } else if (!node.boolean_or("add_prefix_space", true)) {
    scheme = PrependScheme::kNever;
  }
  return scheme;
}

PreTokenizer::PreTokenizer(const Node& node) {
  add(node, 0);
  if (steps_.empty() || !steps_.back().byte_level) return;
  // The mapping of the last step is left to the model, which reads bytes as they are.
  const Step& last = steps_.back();
  yields_bytes_ = true;
  if (last.add_prefix_space) return;
  if (steps_.size() == 1 && last.use_regex) fast_ = last.known;
  if (steps_.size() == 2 && !last.use_regex && steps_[0].behavior == SplitBehavior::kIsolated &&
      !steps_[0].byte_level) {
    fast_ = steps_[0].known;
  }
}

void PreTokenizer::add(const Node& node, int depth) {
  if (depth > kMaxSequenceDepth) node.fail("sequences nested too deeply");
  const std::string_view type = node.get("type").string();
  std::vector<std::string> known;
  if (type == "Sequence") {
    for (const Node& item : node.get("pretokenizers").items()) add(item, depth + 1);
    return;
  }
  for (const Entry& entry : kPreTokenizers) {
    if (type == entry.type) {
      if (!steps_.empty() && steps_.back().byte_level) {
        steps_.emplace_back().apply = apply_byte_map;
      }
      steps_.push_back(entry.parse(node));
      return;
    }
    known.emplace_back(entry.type);
  }
  known.emplace_back("Sequence");
  node.fail(str("pre-tokenizer type '", type, "' is not known; known: ", join(known)));
}

void PreTokenizer::apply(PreText& work) const {
  for (const Step& step : steps_) step.apply(step, work);
}

}  // namespace drrik::text
