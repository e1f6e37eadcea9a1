// SentencePiece models that are broken or hostile: errors, never crashes or quadratic time.

#include "text/sentencepiece.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/text/tokenizer.h"
#include "text_test_util.h"

namespace drrik::text {
namespace {

using text_test::data_path;

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out += static_cast<char>(value);
}

std::string field(std::uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}

std::string number(std::uint64_t number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}

std::string piece(const std::string& text, float score, std::uint64_t type = 1) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return field(1, field(1, text) + varint(2 << 3 | 5) + bits + number(3, type));
}

std::string refusal(const std::string& bytes) {
  try {
    Tokenizer::from_sentencepiece(bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    return error.what();
  }
  return "none";
}

TEST(SentencePiece, FieldsAreRead) {
  const std::string bytes = piece("<unk>", 0, 2) + piece("a", -1.5F) + piece("ab", -2) +
                            piece("b", -3) + piece("<s>", 0, 3) +
                            field(2, number(3, 2) + number(35, 1) + number(40, 0) + number(41, 4) +
                                         number(43, ~std::uint64_t{0}) + field(46, "<s>")) +
                            field(3, field(1, "identity")) + field(9, "unknown fields") +
                            number(100, 7);
  const SentencePieceModel model = parse_sentencepiece(bytes);
  ASSERT_EQ(model.pieces.size(), 5U);
  EXPECT_EQ(model.pieces[1].text, "a");
  EXPECT_EQ(model.pieces[1].score, -1.5F);
  EXPECT_EQ(model.pieces[4].type, SentencePieceModel::Type::kControl);
  EXPECT_FALSE(model.unigram);
  EXPECT_TRUE(model.byte_fallback);
  EXPECT_EQ(model.bos_id, 4);
  EXPECT_EQ(Tokenizer::from_sentencepiece(bytes).encode("abab"), (std::vector<std::int32_t>{2, 2}));
}

TEST(SentencePiece, EveryTruncationIsRefusedOrRead) {
  const std::string whole = read_file(data_path("sentencepiece_bpe.model"));
  const std::string last = refusal(whole);
  EXPECT_EQ(last, "none");
  std::size_t refused = 0;
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    // Between two pieces the rest is a smaller model.
    if (refusal(whole.substr(0, length)) != "none") ++refused;
  }
  EXPECT_GT(refused, whole.size() / 7 * 3 / 4);
}

TEST(SentencePiece, WrongFieldsAreNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "no pieces"},
      {"{\"version\": \"1.0\"}", "not a SentencePiece model"},
      {piece("a", 0) + field(2, number(3, 5)), "type 5"},
      {piece("a", std::numeric_limits<float>::quiet_NaN()), "score of piece 0"},
      {piece("\xFF", 0), "not UTF-8"},
      {varint(1 << 3 | 2) + varint(1'000'000'000'000) + "x", "beyond the end"},
      {std::string(11, '\xFF'), "64 bits"},
      {varint(1 << 3 | 3), "wire type 3"},
      {std::string(1, '\0'), "number 0"},
      {piece("a", 0) + field(3, field(2, "xy")), "charsmap"},
      {piece("a", 0) + field(3, field(2, std::string("\xFF\xFF\xFF\x7F", 4) + "abcd")), "charsmap"},
      {piece("a", 0) + field(2, number(40, 7)), "id 7 is not one of"},
  };
  for (const auto& [bytes, message] : cases) {
    EXPECT_NE(refusal(bytes).find(message), std::string::npos) << message << ": " << refusal(bytes);
  }
}

TEST(SentencePiece, LongPiecesTakeLinearTime) {
  // All ways to cut a piece of a million bytes, each compared with the vocabulary, would take days.
  const std::string bytes = piece("<unk>", 0, 2) + piece("a", -1) + piece("aa", -1) +
                            piece(std::string(1'000'000, 'a'), -1) + field(2, number(3, 2));
  const Tokenizer tokenizer = Tokenizer::from_sentencepiece(bytes);
  EXPECT_EQ(tokenizer.encode("aaa").size(), 2U);
}

TEST(SentencePiece, AllCutsIntoPiecesAreMergesInTheOrderOfThePieces) {
  SentencePieceModel model;
  for (const char* text : {"a", "b", "ab", "ba", "aba", "ab"})
    model.pieces.push_back({text, 0, {}});
  // The second "ab" is the one that counts.
  EXPECT_EQ(bpe_members(model),
            R"("type":"BPE","vocab":{"a":0,"b":1,"ab":2,"ba":3,"aba":4,"ab":5},)"
            R"("merge_ids":[1,0,3,0,3,4,5,0,4,0,1,5])");
}

}  // namespace
}  // namespace drrik::text
