#include "text/sentencepiece.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/utf8.h"
#include "text/piece_merges.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

/// The fields of one protocol buffer message. What is cut off, and wire types that SentencePiece
/// does not use, are errors.
class Message {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  struct Field {
    std::uint64_t number = 0;
    std::uint64_t value = 0;  // varint or fixed
    std::string_view bytes;   // of a length-delimited field
    bool delimited = false;
  };

  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const std::uint64_t key = varint();
    field = {};
    field.number = key >> 3;
    if (field.number == 0) fail("a field with number 0");
    switch (key & 7) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        field.value = fixed(8);
        return true;
      case 2: {
        const std::uint64_t length = varint();
        if (length > bytes_.size()) fail("a field that goes beyond the end");
        field.delimited = true;
        field.bytes = take(static_cast<std::size_t>(length));
        return true;
      }
      case 5:
        field.value = fixed(4);
        return true;
      default:
        fail(str("wire type ", key & 7));
    }
  }

 private:
  [[noreturn]] static void fail(const std::string& what) {
    throw_data("not a SentencePiece model: ", what, "; incomplete download?");
  }
  std::string_view take(std::size_t count) {
    const std::string_view out = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return out;
  }
  std::uint64_t varint() {
    std::uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) fail("cut off in a number");
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      out |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return out;
    }
    fail("a number of more than 64 bits");
  }
  std::uint64_t fixed(std::size_t size) {
    if (bytes_.size() < size) fail("cut off in a number");
    const std::string_view from = take(size);
    std::uint64_t out = 0;
    for (std::size_t i = size; i > 0; --i) {
      out = out << 8 | static_cast<unsigned char>(from[i - 1]);
    }
    return out;
  }

  std::string_view bytes_;
};

std::string utf8_of(std::string_view bytes, const char* what) {
  if (!is_valid_utf8(bytes)) throw_data("SentencePiece model: ", what, " is not UTF-8");
  return std::string(bytes);
}

/// An int32 as protocol buffers write it, negative ones in 64 bits.
std::int32_t int32_of(std::uint64_t value) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(value));
}

SentencePieceModel::Piece parse_piece(std::string_view bytes) {
  SentencePieceModel::Piece piece;
  Message::Field field;
  for (Message message(bytes); message.next(field);) {
    if (field.number == 1) piece.text = utf8_of(field.bytes, "a piece");
    if (field.number == 2)
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number == 3 && field.value >= 1 && field.value <= 6) {
      piece.type = static_cast<SentencePieceModel::Type>(field.value);
    }
  }
  return piece;
}

void parse_trainer(std::string_view bytes, SentencePieceModel& model) {
  Message::Field field;
  for (Message message(bytes); message.next(field);) {
    switch (field.number) {
      case 3:
        // Words (3) and characters (4) are pieces that BPE finds too, as transformers reads them.
        if (field.value < 1 || field.value > 4) {
          throw_data("SentencePiece model: type ", field.value, ", wanted 1 to 4");
        }
        model.unigram = field.value == 1;
        break;
      case 35:
        model.byte_fallback = field.value != 0;
        break;
      case 40:
        model.unk_id = int32_of(field.value);
        break;
      case 41:
        model.bos_id = int32_of(field.value);
        break;
      case 42:
        model.eos_id = int32_of(field.value);
        break;
      case 45:
        model.unk_piece = utf8_of(field.bytes, "unk_piece");
        break;
      case 46:
        model.bos_piece = utf8_of(field.bytes, "bos_piece");
        break;
      case 47:
        model.eos_piece = utf8_of(field.bytes, "eos_piece");
        break;
      default:
        break;
    }
  }
}

std::string number_of(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view bytes) {
  SentencePieceModel model;
  Message::Field field;
  for (Message message(bytes); message.next(field);) {
    if (!field.delimited) continue;
    if (field.number == 1) {
      model.pieces.push_back(parse_piece(field.bytes));
      if (!std::isfinite(model.pieces.back().score)) {
        throw_data("SentencePiece model: the score of piece ", model.pieces.size() - 1,
                   " is not a number");
      }
    }
    if (field.number == 2) parse_trainer(field.bytes, model);
    if (field.number != 3) continue;
    Message::Field inner;
    for (Message normalizer(field.bytes); normalizer.next(inner);) {
      if (inner.number == 2) model.charsmap = std::string(inner.bytes);
    }
  }
  if (model.pieces.empty()) throw_data("not a SentencePiece model: no pieces");
  if (model.pieces.size() > std::size_t{std::numeric_limits<std::int32_t>::max()} / 16) {
    throw_data("SentencePiece model: ", model.pieces.size(), " pieces");
  }
  return model;
}

std::string quote_json(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out += '"';
}

std::string unigram_members(const SentencePieceModel& model) {
  std::string out = R"("type":"Unigram","exact_scores":true,"vocab":[)";
  for (const auto& piece : model.pieces) {
    if (out.back() != '[') out += ',';
    out += str("[", quote_json(piece.text), ",", number_of(piece.score), "]");
  }
  return out += ']';
}

std::string bpe_members(const SentencePieceModel& model) {
  std::string out = R"("type":"BPE","vocab":{)";
  std::vector<std::pair<std::string_view, std::int32_t>> tokens;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const std::string& text = model.pieces[id].text;
    out += str(id > 0 ? "," : "", quote_json(text), ":", id);
    tokens.emplace_back(text, static_cast<std::int32_t>(id));
  }
  return out += str("},", merge_ids_member(tokens, CutOrder::kByPlace));
}

}  // namespace drrik::text
