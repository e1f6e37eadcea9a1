// The parts beneath the tokenizer: hand-written splitters, the merge loop, normal forms, matching.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "text/added_tokens.h"
#include "text/bpe_merge.h"
#include "text/regex.h"
#include "text/splitters.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

/// Characters where split patterns decide: letters, digits, blanks, quotes of several kinds.
std::string random_text(Rng& rng, int length) {
  static const std::vector<std::string> kAlphabet = {
      "a",      "S",      "t",      "l",          "v",      "e",      "r",      "'",
      "'",      " ",      " ",      "\n",         "\r",     "\t",     "1",      "2",
      ".",      "-",      "\u00A0", "\u3000",     "\u00B2", "\u0663", "\u017F", "\u0301",
      "\u6771", "\u200B", "\u0085", "\U0001F642", "\u212A", "\u01C5", "\u2028"};
  std::string out;
  for (int i = 0; i < length; ++i) out += kAlphabet[rng.below(kAlphabet.size())];
  return out;
}

TEST(Splitters, EqualTheirPatternInTheRegexEngine) {
  Rng rng(20, 1);
  for (const KnownPattern known :
       {KnownPattern::kGpt2, KnownPattern::kLlama3, KnownPattern::kQwen2}) {
    const Regex regex(pattern_text(known));
    EXPECT_EQ(recognise(pattern_text(known)), known);
    for (int round = 0; round < 3000; ++round) {
      const std::string text = random_text(rng, 1 + round % 24);
      std::size_t at = 0;
      Regex::Match match;
      for (Regex::Scan scan(regex, text); scan.next(match); at = match.end) {
        ASSERT_EQ(match.begin, at) << text;
        const std::size_t end = known == KnownPattern::kGpt2
                                    ? match_gpt2(text, at)
                                    : match_llama3(text, at, known == KnownPattern::kQwen2 ? 1 : 3);
        ASSERT_EQ(match.end, end) << "'" << text << "' at " << at;
      }
      ASSERT_EQ(at, text.size());
    }
  }
}

TEST(Splitters, OtherPatternsAreNotTakenForKnownOnes) {
  EXPECT_EQ(recognise(std::string(pattern_text(KnownPattern::kGpt2)) + "|x"), KnownPattern::kNone);
  EXPECT_EQ(recognise(""), KnownPattern::kNone);
}

TEST(Regex, TranslatesWhatPcreReadsDifferently) {
  EXPECT_EQ(translate_oniguruma("a{,3}"), "a{0,3}");
  EXPECT_EQ(translate_oniguruma("(?:ab){2}+"), "(?:(?:ab){2})+");
  EXPECT_EQ(translate_oniguruma("{|x{a}"), "\\{|x\\{a\\}");
  EXPECT_EQ(translate_oniguruma("(?m:.)"), "(?s:.)");
  EXPECT_EQ(translate_oniguruma("[a[bc]]"), "[\\x{61}\\x{62}\\x{63}]");
  EXPECT_EQ(translate_oniguruma("[a-z&&[^b-y]]"), "[\\x{61}\\x{7A}]");
  // U+180E is white space for PCRE2, not for Oniguruma.
  EXPECT_EQ(translate_oniguruma("\\s").find("180E"), std::string::npos);
}

TEST(Regex, MalformedPatternsAreErrors) {
  for (const char* pattern : {"(", "[a", "a{3,1}", "\\", "\\p{Nope}", "\\p{L", "[z-a]",
                              "[[:nope:]]", "(?<name", "*", "\\x{110000}", "[\\", "\\q"}) {
    EXPECT_THROW(Regex{pattern}, Error) << pattern;
  }
}

TEST(Regex, EmptyMatchesAdvance) {
  const Regex regex("x*");
  std::vector<std::pair<std::size_t, std::size_t>> found;
  Regex::Match match;
  for (Regex::Scan scan(regex, "a\u6771xx"); scan.next(match);) {
    found.emplace_back(match.begin, match.end);
  }
  const std::vector<std::pair<std::size_t, std::size_t>> want = {{0, 0}, {1, 1}, {4, 6}};
  EXPECT_EQ(found, want);
}

/// The definition: again and again the adjacent pair of lowest rank, leftmost first.
std::vector<std::int32_t> merge_naively(const MergeTable& merges, std::vector<std::int32_t> ids) {
  for (;;) {
    std::size_t best = ids.size();
    std::uint64_t lowest = MergeTable::kNone;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::uint64_t found = merges.find(ids[i], ids[i + 1]);
      if (found < lowest) {
        lowest = found;
        best = i;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = static_cast<std::int32_t>(lowest & 0xFFFFFFFFu);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best + 1));
  }
}

TEST(BpeMerge, BothWaysEqualTheDefinition) {
  Rng rng(20, 2);
  for (int round = 0; round < 200; ++round) {
    // Token i of the first four is a letter; each merge makes the next token.
    MergeTable merges(60);
    for (std::int32_t next = 4; next < 40; ++next) {
      const auto pick = [&] {
        return static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(next)));
      };
      const std::int32_t left = pick();
      const std::int32_t right = pick();
      if (merges.find(left, right) == MergeTable::kNone) {
        merges.put(left, right, static_cast<std::uint32_t>(next), next);
      }
    }
    for (const std::size_t length : {0, 1, 2, 3, 17, 47, 48, 49, 300}) {
      MergeBuffers buffers;
      for (std::size_t i = 0; i < length; ++i) {
        buffers.ids.push_back(static_cast<std::int32_t>(rng.below(4)));
      }
      const std::vector<std::int32_t> ids = buffers.ids;
      const std::vector<std::int32_t> want = merge_naively(merges, ids);
      merge_symbols(merges, true, buffers);
      ASSERT_EQ(buffers.ids, want);
      buffers.ids = ids;
      merge_symbols(merges, false, buffers);
      ASSERT_EQ(buffers.ids, want);
    }
  }
}

TEST(Utf8, TheByteAlphabetGoesThereAndBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  std::string mapped;
  append_mapped(bytes, mapped);
  EXPECT_TRUE(is_valid_utf8(mapped));
  std::string back;
  EXPECT_TRUE(append_unmapped(mapped, back));
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(append_unmapped("a b", back));  // a space is not in the alphabet
  EXPECT_EQ(back, bytes);
}

TEST(Unicode, NormalFormsOfStretchesEqualThoseOfTheWhole) {
  // Normalizing piece by piece between inert characters must not see the seams.
  Rng rng(20, 3);
  const std::vector<std::string> alphabet = {"a",      "e",      " ",      "\u0301", "\u0327",
                                             "\u0323", "\u00E9", "\u1E69", "\u1100", "\u1161",
                                             "\u11A8", "\uAC00", "\u304B", "\u3099", "\uFF76",
                                             "\uFF9E", "\uFB01", "\u0344", "\u0958", "\u212B"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += alphabet[rng.below(alphabet.size())];
    for (const NormalForm form :
         {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc, NormalForm::kNfkd}) {
      std::string once = text;
      normalize(form, once);
      std::string twice = once;
      normalize(form, twice);
      ASSERT_EQ(once, twice) << text;
      // Through the other form, which rewrites every stretch.
      const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
      std::string round_trip = text;
      normalize(compat ? NormalForm::kNfkd : NormalForm::kNfd, round_trip);
      normalize(form, round_trip);
      ASSERT_EQ(once, round_trip) << text;
    }
  }
}

TEST(StringMatcher, FindsTheLeftmostThenTheLongest) {
  StringMatcher matcher;
  StringMatcher::Match match;
  EXPECT_FALSE(matcher.find("abc", 0, match));
  matcher.add("bc", 1);
  matcher.add("bcde", 2);
  matcher.add("cd", 3);
  matcher.add("e", 4);
  matcher.add("", 5);
  ASSERT_TRUE(matcher.find("abcdx", 0, match));
  EXPECT_EQ(match.value, 1);
  ASSERT_TRUE(matcher.find("abcde", 0, match));
  EXPECT_EQ(match.value, 2);
  EXPECT_EQ(match.end, 5U);
  ASSERT_TRUE(matcher.find("abcde", 2, match));
  EXPECT_EQ(match.value, 3);
  ASSERT_TRUE(matcher.find("xxe", 0, match));
  EXPECT_EQ(match.begin, 2U);
  EXPECT_FALSE(matcher.find("xb", 0, match));
}

}  // namespace
}  // namespace drrik::text
