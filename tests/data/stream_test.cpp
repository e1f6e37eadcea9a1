#include "data/byte_stream.h"
#include "data/data_testing.h"
#include "data/line_reader.h"
#include "drrik/base/rng.h"

namespace drrik {
namespace {

using testing::bytes_of;
using testing::expect_data_error;
using testing::rows_of;
using testing::Texts;

std::string all_of(std::string_view bytes) {
  const auto stream = open_byte_stream(bytes_of(bytes));
  std::string out;
  char buffer[1000];
  while (const std::size_t n = stream->read(buffer)) out.append(buffer, n);
  EXPECT_EQ(stream->consumed(), bytes.size());
  return out;
}

Texts lines_of(const std::string& bytes, Newlines newlines, std::size_t most,
               std::size_t max_bytes = 1 << 20) {
  LineReader reader(std::make_unique<testing::DrippingStream>(bytes, most), newlines, max_bytes);
  Texts out;
  std::string_view line;
  while (reader.next(line)) {
    out.emplace_back(line);
    EXPECT_EQ(reader.line_number(), static_cast<std::int64_t>(out.size()));
  }
  return out;
}

TEST(ByteStream, UndoesCompression) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += str("line ", i, "\n");
  EXPECT_EQ(all_of(text), text);
  EXPECT_EQ(all_of(testing::gzip(text)), text);
  EXPECT_EQ(all_of(testing::zstd(text)), text);
  EXPECT_EQ(all_of(""), "");
  EXPECT_EQ(all_of("x"), "x");
  EXPECT_EQ(all_of(testing::gzip("")), "");
  EXPECT_EQ(all_of(testing::zstd("")), "");
  for (const auto compress : {testing::bzip2, testing::xz, testing::lz4}) {
    const std::string whole = compress(text);
    EXPECT_LT(whole.size(), text.size() / 2 + 1000);
    EXPECT_EQ(all_of(whole), text);
    EXPECT_EQ(all_of(compress("")), "");
  }
  for (const auto compress : {testing::bzip2, testing::xz, testing::lz4}) {
    EXPECT_EQ(all_of(compress("one ") + compress("") + compress("two")), "one two");
  }
  // Several members or frames follow each other, as `cat a.gz b.gz` makes them.
  EXPECT_EQ(all_of(testing::gzip("one ") + testing::gzip("") + testing::gzip("two")), "one two");
  EXPECT_EQ(all_of(testing::zstd("one ") + testing::zstd("two")), "one two");
  EXPECT_EQ(all_of(testing::gzip("one") + std::string(512, '\0')), "one");
}

TEST(ByteStream, AZstdFrameHasTheSizeItsHeaderSays) {
  // 69 bytes in a frame that says 12552. zstd 1.5.4 notices only when it is given that much room.
  const char frame[] = "\x28\xB5\x2F\xFD\x60\x08\x30\x2A\x02\x00\x80\x01\x00\x00";
  const std::string bytes(frame, sizeof(frame) - 1);
  for (const std::size_t room : {61U, 1000U, 65536U}) {
    expect_data_error("damaged", [&] {
      const auto stream = open_byte_stream(bytes_of(bytes));
      std::vector<char> buffer(room);
      while (stream->read(buffer) > 0) {
      }
    });
  }
}

TEST(ByteStream, RefusesDamage) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += str("line ", i * i, "\n");
  for (const std::string& whole : {testing::gzip(text), testing::zstd(text), testing::bzip2(text),
                                   testing::xz(text), testing::lz4(text)}) {
    for (const std::size_t n : {whole.size() - 1, whole.size() / 2, std::size_t{12}}) {
      expect_data_error("ends in the middle", [&] { all_of(whole.substr(0, n)); });
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x55);
    // zstd frames carry no checksum by default: damage may be told by the structure only.
    if (whole.substr(0, 4) != "\x28\xB5\x2F\xFD") {
      expect_data_error("damaged", [&] { all_of(flipped); });
    }
  }
  expect_data_error("unknown bytes", [&] { all_of(testing::gzip("x") + "junk"); });
  expect_data_error("damaged", [&] { all_of(testing::zstd("x") + "junk"); });
}

TEST(ByteStream, NamesFormatsItDoesNotRead) {
  for (const auto& [bytes, part] : std::vector<std::pair<std::string, const char*>>{
           {"PAR1....", "Parquet"}, {"ARROW1..", "Arrow"}, {"\xFF\xFEt\0", "UTF-16"}}) {
    expect_data_error(part, [&] { open_byte_stream(bytes_of(bytes)); });
    expect_data_error(part, [&] { open_byte_stream(bytes_of(testing::gzip(bytes))); });
  }
  EXPECT_EQ(all_of("BZh is how a text may begin"), "BZh is how a text may begin");
}

TEST(ByteStream, ChecksZipArchives) {
  const std::string whole = testing::zip("some text, some text, some text");
  const std::size_t at = whole.find("some");
  ASSERT_NE(at, std::string::npos);
  std::string flipped = whole;
  flipped[at] = 'S';
  expect_data_error("CRC-32", [&] { all_of(flipped); });
  expect_data_error("zip", [&] { all_of(whole.substr(0, whole.size() - 3)); });
  expect_data_error("a zip archive of 2 files", [&] { all_of(testing::zip_of("a", 2)); });
  expect_data_error("a zip archive of 0 files", [&] { all_of(testing::zip_of("a", 0)); });
}

TEST(LineReader, CutsUnixAndUniversalLines) {
  const std::string text = "a\n\r\nb\rc\r\n\n\rd";
  for (const std::size_t most : {1U, 2U, 3U, 100U}) {
    EXPECT_EQ(lines_of(text, Newlines::kUnix, most), (Texts{"a", "", "b\rc", "", "\rd"}));
    EXPECT_EQ(lines_of(text, Newlines::kUniversal, most), (Texts{"a", "", "b", "c", "", "", "d"}));
  }
  EXPECT_EQ(lines_of("", Newlines::kUniversal, 1), Texts{});
  EXPECT_EQ(lines_of("\r", Newlines::kUniversal, 1), Texts{""});
  EXPECT_EQ(lines_of("x\r", Newlines::kUniversal, 1), Texts{"x"});
  EXPECT_EQ(lines_of("\xEF\xBB\xBFx\n", Newlines::kUnix, 1), Texts{"x"});
  EXPECT_EQ(lines_of("\xEF\xBB\xBF", Newlines::kUnix, 1), Texts{});
}

TEST(LineReader, AgreesWithANaiveSplitOnRandomText) {
  for (int seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(static_cast<std::uint64_t>(seed));
    std::string text;
    const auto size = rng.below(300);
    for (std::uint64_t i = 0; i < size; ++i) text += "ab\n\r"[rng.below(4)];
    Texts wanted;
    std::string line;
    bool open = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
      open = true;
      if (text[i] != '\n' && text[i] != '\r') {
        line += text[i];
        continue;
      }
      if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
      wanted.push_back(line);
      line.clear();
      open = false;
    }
    if (open) wanted.push_back(line);
    EXPECT_EQ(lines_of(text, Newlines::kUniversal, 1 + rng.below(7)), wanted);
  }
}

TEST(LineReader, HoldsLongLinesUpToItsBound) {
  const std::string big(3 << 20, 'x');
  EXPECT_EQ(lines_of(big + "\n" + big + "\ny", Newlines::kUniversal, 1 << 20, 4 << 20),
            (Texts{big, big, "y"}));
  expect_data_error("line 2",
                    [&] { lines_of("y\n" + big + "\n", Newlines::kUniversal, 1 << 20, 1 << 20); });
}

// Found by fuzzing: neither the bound nor its message may depend on where the stream's pieces end.
TEST(LineReader, BoundsLinesAlikeInEveryPiece) {
  for (const auto newlines : {Newlines::kUnix, Newlines::kUniversal}) {
    for (const std::size_t most : {1, 3, 1 << 20}) {
      EXPECT_EQ(lines_of("1234567890\r\nx\n", newlines, most, 10), (Texts{"1234567890", "x"}));
      for (const char* end : {"", "\n", "\r\n"}) {
        expect_data_error("line 2 has more than 10 bytes",
                          [&] { lines_of(str("x\n12345678901", end), newlines, most, 10); });
      }
    }
  }
}

TEST(Text, SamplesByLineParagraphAndDocument) {
  const std::string file = "one\n\n  \ntwo \nthree\n\n\n\nfour";
  RowOptions options;
  EXPECT_EQ(rows_of(open_text, file, options), (Texts{"one", "two ", "three", "four"}));
  options.sample_by = SampleBy::kParagraph;
  EXPECT_EQ(rows_of(open_text, file, options), (Texts{"one", "two \nthree", "four"}));
  options.sample_by = SampleBy::kDocument;
  EXPECT_EQ(rows_of(open_text, file, options), (Texts{file}));
  EXPECT_EQ(rows_of(open_text, "\n\nx", options), (Texts{"\n\nx"}));
  EXPECT_TRUE(rows_of(open_text, "\n \n", options).empty());
  options.max_row_bytes = 10;
  expect_data_error("more than 10", [&] { rows_of(open_text, "12345\n12345\n1\n", options); });
}

}  // namespace
}  // namespace drrik
