// Texts for pictures: cleaned, cut, wrapped.

#include "viz/text_layout.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cmath>
#include <cstdlib>
#include <iterator>

#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "viz/gnuplot.h"
#include "viz/ticks.h"

namespace drrik::detail {
namespace {

bool valid_utf8(const std::string& text) {
  std::size_t at = 0;
  while (at < text.size()) {
    utf8proc_int32_t code = 0;
    const auto used = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (used <= 0) return false;
    at += static_cast<std::size_t>(used);
  }
  return true;
}

TEST(TextLayout, CleansWhatCouldDisturb) {
  EXPECT_EQ(clean_text("plain {a}_b^c"), "plain {a}_b^c");
  EXPECT_EQ(clean_text("a\nb\r\nc\rd\u2028e"), "a\u21B5b\u21B5c\u21B5d\u21B5e");
  EXPECT_EQ(clean_text("a\tb\x01\x1b[0m"), "a b  [0m");
  EXPECT_EQ(clean_text("a\u202Eb\u200Bc\uFEFFd"), "abcd");
  EXPECT_EQ(clean_text("\xff\xc3 \xe6\x97"), "\uFFFD\uFFFD \uFFFD\uFFFD");
  EXPECT_EQ(clean_text("\u65E5\u672C"), "\u65E5\u672C");
  EXPECT_EQ(clean_text(std::string(100, 'x'), 10), std::string(10, 'x'));
  // Combining marks stay, but not a pile of them.
  EXPECT_EQ(clean_text("e\u0301"), "e\u0301");
  std::string pile = "e";
  for (int i = 0; i < 50; ++i) pile += "\u0301";
  EXPECT_EQ(clean_text(pile).size(), 1U + 4U * 2U);
}

TEST(TextLayout, CountsColumns) {
  EXPECT_EQ(text_columns("abc"), 3);
  EXPECT_EQ(text_columns("\u65E5\u672C"), 4);
  EXPECT_EQ(text_columns("e\u0301"), 1);
  EXPECT_EQ(head_columns("\u65E5\u672Cx", 3), "\u65E5");
  EXPECT_EQ(tail_columns("x\u65E5\u672C", 2), "\u672C");
  EXPECT_EQ(head_columns("abc", 0), "");
  EXPECT_EQ(tail_columns("abc", 0), "");
}

TEST(TextLayout, ElidesAtAWord) {
  EXPECT_EQ(elide("short", 10), "short");
  EXPECT_EQ(elide("one two three four", 12), "one two \u2026");
  EXPECT_EQ(elide("unbreakableunbreakable", 8), "unbreak\u2026");
}

TEST(TextLayout, KeepsTheTokenInSight) {
  const std::string words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu ";
  const RowLabel label{words + words, "TOKEN", " " + words + words};
  for (std::int64_t columns = 8; columns < 300; ++columns) {
    const RowLabel fitted = fit_label(label, columns);
    EXPECT_EQ(fitted.token, columns - 2 >= 5 ? "TOKEN" : fitted.token);
    EXPECT_LE(text_columns(fitted.before + fitted.token + fitted.after), columns) << columns;
  }
  // What one side does not need goes to the other.
  const RowLabel start = fit_label({"", "TOKEN", " " + words}, 40);
  EXPECT_GT(text_columns(start.after), 20);
  // A label without a token is cut at its end.
  EXPECT_EQ(fit_label({"one two three four", "", ""}, 12).before, "one two \u2026");
  // A token that cleans to nothing is still seen.
  EXPECT_EQ(fit_label({"a", "\u200B", "b"}, 12).token, "\uFFFD");
}

TEST(TextLayout, WrapsWithinColumns) {
  const RowLabel label{"The quick brown fox ", "jumps", " over the lazy dog and runs away"};
  const auto lines = wrap_label(label, 16);
  std::string joined;
  std::string marked;
  for (const LabelLine& line : lines) {
    joined += line.text;
    marked += line.text.substr(static_cast<std::size_t>(line.mark_begin),
                               static_cast<std::size_t>(line.mark_end - line.mark_begin));
  }
  EXPECT_EQ(joined, label.before + label.token + label.after);
  EXPECT_EQ(marked, "jumps");
  // Where a character may be wider than a column, the token stands in guillemets.
  const auto wide = wrap_label({"\u65E5", "\u672C", "\u8A9E"}, 20);
  ASSERT_EQ(wide.size(), 1U);
  EXPECT_EQ(wide[0].text, "\u65E5\u00AB\u672C\u00BB\u8A9E");
  EXPECT_EQ(wide[0].mark_begin, wide[0].mark_end);
}

TEST(TextLayout, LeavesNoEllipsisAlone) {
  std::string words;
  for (int i = 0; i < 60; ++i)
    words += "word" + std::string(static_cast<std::size_t>(i % 7), 'x') + " ";
  for (std::int64_t columns = 10; columns < 80; ++columns) {
    for (std::int64_t length = 20; length < 200; length += 7) {
      const RowLabel label = fit_label({words, "token", " " + words}, length);
      for (const LabelLine& line : layout_label(label, columns, 20)) {
        ASSERT_NE(line.text, "\u2026") << columns;
        ASSERT_LE(text_columns(line.text), columns + 1);
      }
    }
  }
  EXPECT_EQ(wrap_label({"\u2026", "", ""}, 10).size(), 1U);
}

TEST(TextLayout, MarksNoBlanksAroundTheToken) {
  const auto lines = wrap_label({"walked", " down ", "the"}, 40);
  EXPECT_EQ(lines[0].mark_begin, 7);
  EXPECT_EQ(lines[0].mark_end, 11);
  const auto blank = wrap_label({"walked", "  ", "the"}, 40);
  EXPECT_EQ(blank[0].mark_end - blank[0].mark_begin, 2);
}

// Beside right-to-left letters the marks would be ordered with what surrounds them, "«" to one side
// of a word and "»" to the other of the next, were the token not isolated.
TEST(TextLayout, KeepsTheMarksAtATokenAmongRightToLeftText) {
  const std::string shalom = "\u05E9\u05DC\u05D5\u05DD";
  const auto line = [](const RowLabel& label) { return wrap_label(label, 60).at(0).text; };
  EXPECT_EQ(line({"The word " + shalom + " ", "123", " means"}),
            "The word " + shalom + " \u2068\u00AB123\u00BB\u2069 means");
  // Blanks around the token stay outside, unless there is nothing else.
  EXPECT_EQ(line({shalom, " abc ", shalom}), shalom + " \u2068\u00ABabc\u00BB\u2069 " + shalom);
  EXPECT_EQ(line({shalom, "  ", shalom}), shalom + "\u2068\u00AB  \u00BB\u2069" + shalom);
  EXPECT_EQ(line({"\u65E5", " \u672C", ""}), "\u65E5 \u00AB\u672C\u00BB");
  // A token over several lines is isolated on each.
  const auto count = [](const std::string& text, const char* part) {
    int n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
      ++n;
    }
    return n;
  };
  for (std::int64_t columns = 4; columns < 40; ++columns) {
    std::string joined;
    for (const LabelLine& part : wrap_label(
             {shalom + " one two ", "12" + shalom + shalom + "34", " three " + shalom}, columns)) {
      EXPECT_EQ(count(part.text, "\u2068"), count(part.text, "\u2069")) << part.text;
      EXPECT_LE(part.text.find("\u2068"), part.text.find("\u2069")) << part.text;
      EXPECT_LE(text_columns(part.text), columns + 1);
      joined += part.text;
    }
    EXPECT_EQ(count(joined, "\u00AB"), 1);
    EXPECT_EQ(count(joined, "\u00BB"), 1);
  }
  EXPECT_EQ(as_paragraph(shalom + " abc"), "\u2068" + shalom + " abc\u2069");
  EXPECT_EQ(as_paragraph("abc \u65E5"), "abc \u65E5");
  // Neither is taken for something that no font can draw; those of the text itself are left out.
  EXPECT_EQ(drawable_text("\u2068a\u2069\u00E9"), "\u2068a\u2069\u00E9");
  EXPECT_EQ(clean_text("\u2068a\u2069"), "a");
}

TEST(TextLayout, HoldsAnyBytes) {
  Rng rng(11);
  for (int round = 0; round < 3000; ++round) {
    RowLabel label;
    for (std::string* part : {&label.before, &label.token, &label.after}) {
      const std::uint64_t length = rng.below(40);
      for (std::uint64_t i = 0; i < length; ++i) {
        static const char* const pieces[] = {"a",      " ",      "\n",   "\xff",   "\xe6", "\u65E5",
                                             "\u0301", "\u202E", "word", "\u05D0", "\x01", "'"};
        *part += pieces[rng.below(std::size(pieces))];
      }
    }
    const auto columns = static_cast<std::int64_t>(4 + rng.below(30));
    const auto most = static_cast<std::int64_t>(1 + rng.below(4));
    const auto lines = layout_label(label, columns, most);
    EXPECT_LE(static_cast<std::int64_t>(lines.size()), most);
    for (const LabelLine& line : lines) {
      EXPECT_TRUE(valid_utf8(line.text));
      EXPECT_LE(text_columns(line.text), columns + 1);  // A blank may hang over.
      EXPECT_EQ(line.text.find('\n'), std::string::npos);
      EXPECT_LE(line.mark_begin, line.mark_end);
    }
  }
}

TEST(GnuplotString, CannotBeEnded) {
  EXPECT_EQ(gnuplot_string("a 1.5"), "\"a 1.5\"");
  EXPECT_EQ(gnuplot_string("'\"\\`@$"), "\"\\0047\\0042\\134\\140\\100\\0044\"");
  EXPECT_EQ(gnuplot_string("a\nb"), "\"a b\"");
  EXPECT_EQ(gnuplot_string(std::string_view("\0", 1)), "\" \"");
}

// What follows an escape must not be read as part of it: every mark before every mark and digit.
TEST(GnuplotString, ReadsBackAsItWas) {
  if (std::system("gnuplot --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "gnuplot is not installed: its strings are NOT tested";
  }
  std::string script = "set encoding utf8\nset print 'out.txt'\n";
  std::string wanted;
  for (char first = 0x20; first < 0x7F; ++first) {
    std::string text = "x";
    for (char second = 0x20; second < 0x7F; ++second) text += {first, second};
    text += first;
    for (const char* part : {"\u00E9", "\u65E5", "77", "7", "0", "000"}) text += part + str(first);
    script += "print " + gnuplot_string(text) + "\n";
    wanted += text + "\n";
  }
  EXPECT_EQ(run_gnuplot(script, "out.txt"), wanted);
}

TEST(FontList, IsParsed) {
  const auto ranges = parse_font_list(
      "TrueType|False|20-7e a0\nCFF|False|7f-9f 3041-3043\nType 1|False|e000\n"
      "TrueType|True|1f600\nbroken line\nTrueType|False|zz 100-50 5-\n||\n");
  const std::vector<std::pair<std::int32_t, std::int32_t>> wanted = {{0x20, 0xa0},
                                                                     {0x3041, 0x3043}};
  // "5-" has no end: it is the one character.
  ASSERT_EQ(ranges.size(), 3U);
  EXPECT_EQ(ranges[0], (std::pair<std::int32_t, std::int32_t>{5, 5}));
  EXPECT_EQ(ranges[1], wanted[0]);
  EXPECT_EQ(ranges[2], wanted[1]);
  EXPECT_TRUE(parse_font_list("").empty());
}

TEST(FontList, UndrawableBecomesABox) {
  EXPECT_EQ(drawable_text("plain"), "plain");
  EXPECT_EQ(drawable_text("\u00E9\u21B5"), "\u00E9\u21B5");
  // A private plane that no font has.
  EXPECT_EQ(drawable_text("a\U000F1234z"), "a\u25A1z");
}

TEST(Ticks, AreRoundAndInside) {
  for (const double high : {1e-30, 0.003, 0.7, 1.0, 9.3, 123.0, 5e6, 3e38}) {
    const auto ticks = linear_ticks(0, high, 5);
    ASSERT_GE(ticks.size(), 2U) << high;
    ASSERT_LE(ticks.size(), 8U) << high;
    EXPECT_EQ(ticks.front().label, "0");
    EXPECT_LE(ticks.back().at, high * (1 + 1e-9));
  }
  EXPECT_TRUE(linear_ticks(1, 1, 5).empty());
  EXPECT_EQ(integer_ticks(0, 1.08, 5).back().label, "1");
  EXPECT_EQ(log_ticks(1e-4, 1, 9).front().label, "10\u207B\u2074");
  EXPECT_EQ(log_ticks(1, 20000, 9).back().label, "10\u2074");
}

TEST(Ticks, RoundBelowIsNear) {
  for (double value = 1e-30; value < 1e30; value *= 1.0037) {
    const double round = round_below(value);
    ASSERT_LE(round, value * (1 + 1e-12));
    ASSERT_GT(round, value * 0.4 * (1 - 1e-12));
    EXPECT_EQ(linear_ticks(-round, round, 2).size(), 3U) << value;
  }
  EXPECT_DOUBLE_EQ(round_below(0.45), 0.2);
  EXPECT_DOUBLE_EQ(round_below(5), 5);
}

TEST(Numbers, ReadWell) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(with_commas(-1234), "-1,234");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(4.5), "4.50");
  EXPECT_EQ(short_number(0.99999), "1.00");
  EXPECT_EQ(short_number(99.99), "100");
  EXPECT_EQ(short_number(12345), "12,345");
  EXPECT_EQ(short_number(7.89e30), "7.89e+30");
  EXPECT_EQ(short_number(-0.0123), "\u22120.0123");
  EXPECT_EQ(short_number(std::nan("")), "n/a");
  EXPECT_EQ(percent(0), "0 %");
  EXPECT_EQ(percent(1), "100 %");
  EXPECT_EQ(percent(0.1234), "12.3 %");
  EXPECT_EQ(percent(0.0002), "0.02 %");
  EXPECT_EQ(percent(1e-7), "1e-05 %");
  EXPECT_EQ(counted(1, "row"), "1 row");
  EXPECT_EQ(counted(2000, "row"), "2,000 rows");
}

}  // namespace
}  // namespace drrik::detail
