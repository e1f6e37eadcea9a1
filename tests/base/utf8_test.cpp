#include "drrik/base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace drrik {
namespace {

TEST(Utf8, BrokenSequencesAreMendedAndRefused) {
  // Expected: Python's bytes.decode("utf-8", "replace").
  const std::string r = "\xEF\xBF\xBD";
  const std::pair<std::string, std::string> cases[] = {
      {"ok", "ok"},
      {"\xC0\xAF", r + r},
      {"\xE0\x80\xAF", r + r + r},
      {"\xED\xA0\x80", r + r + r},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\x98\x80", "\U0001F600"},
      {"\xF0\x9F\x98x", r + "x"},
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"a\x80\xE4\xB8\xADz", "a" + r + "\u4e2dz"},
      {"\xE4\xB8", r},
  };
  for (const auto& [broken, wanted] : cases) {
    EXPECT_EQ(mend_utf8(broken), wanted);
    EXPECT_TRUE(is_valid_utf8(mend_utf8(broken)));
    EXPECT_EQ(is_valid_utf8(broken), broken == wanted);
  }
}

TEST(Utf8, TheMaximalBrokenPartIsOneCharacter) {
  const auto lossy = [](std::string_view bytes) {
    std::string out;
    append_mended(bytes, out);
    return out;
  };
  // The Unicode standard's example of maximal subparts (section 3.9, table 3-8) among them.
  EXPECT_EQ(lossy("a\xF1\x80\x80\xE1\x80\xC2"
                  "b\x80"
                  "c\x80\xBF"
                  "d"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(lossy("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_EQ(lossy("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(lossy("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(lossy("\xF0\x9F\x99"), "\uFFFD");
  EXPECT_EQ(lossy("ok \u6771"), "ok \u6771");
  EXPECT_EQ(valid_utf8_prefix("a\u6771\xE6\x9D"), 4U);
}

TEST(Utf8, CharactersOfEveryLengthAreWritten) {
  std::string out;
  for (const std::uint32_t code : {0x41u, 0xE9u, 0x6771u, 0x1F642u}) append_utf8(code, out);
  EXPECT_EQ(out, "A\u00E9\u6771\U0001F642");
}

}  // namespace
}  // namespace drrik
