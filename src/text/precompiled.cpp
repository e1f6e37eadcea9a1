#include "text/precompiled.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "drrik/base/error.h"
#include "text/graphemes.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

class CharacterMap {
 public:
  explicit CharacterMap(std::string_view blob);
  /// What replaces a cluster or character; nullopt: nothing does. The reference takes the shortest
  /// entry that `text` begins with, and lets it stand for all of `text`.
  std::optional<std::string_view> find(std::string_view text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string pool_;
};

std::uint32_t read_unit(std::string_view blob, std::size_t at) {
  std::uint32_t out = 0;
  for (std::size_t i = 4; i > 0; --i) out = out << 8 | static_cast<unsigned char>(blob[at + i - 1]);
  return out;
}

CharacterMap::CharacterMap(std::string_view blob) {
  if (blob.size() < 4) throw_data("precompiled charsmap: ", blob.size(), " bytes; cut off?");
  const std::size_t trie = read_unit(blob, 0);
  if (trie % 4 != 0 || trie == 0 || trie > blob.size() - 4) {
    throw_data("precompiled charsmap: a trie of ", trie, " bytes in a blob of ", blob.size());
  }
  units_.resize(trie / 4);
  for (std::size_t i = 0; i < units_.size(); ++i) units_[i] = read_unit(blob, 4 + 4 * i);
  pool_ = std::string(blob.substr(4 + trie));
  if (!is_valid_utf8(pool_)) throw_data("precompiled charsmap: replacements are not UTF-8");
}

std::optional<std::string_view> CharacterMap::find(std::string_view text) const {
  const auto offset = [](std::uint32_t unit) { return unit >> 10 << ((unit & 0x200u) >> 6); };
  std::uint32_t at = offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    at ^= byte;
    // A trie that points outside itself ends there.
    if (byte == 0 || at >= units_.size()) return std::nullopt;
    const std::uint32_t unit = units_[at];
    if ((unit & 0x800000FFu) != byte) return std::nullopt;
    at ^= offset(unit);
    if ((unit & 0x100u) == 0) continue;
    if (at >= units_.size()) return std::nullopt;
    const std::size_t begin = units_[at] & 0x7FFFFFFFu;
    if (begin > pool_.size()) return std::nullopt;
    std::string_view out = std::string_view(pool_).substr(begin);
    out = out.substr(0, out.find('\0'));
    // Only a broken map points into the middle of a character.
    if (!is_valid_utf8(out)) return std::nullopt;
    return out;
  }
  return std::nullopt;
}

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(std::string_view blob) : map_(blob) {
    for (std::size_t i = 0; i < ascii_.size(); ++i) {
      const char c = static_cast<char>(i);
      const auto found = map_.find(std::string_view(&c, 1));
      ascii_[i] = found ? std::string(*found) : std::string(1, c);
      same_[i] = ascii_[i].size() == 1 && ascii_[i][0] == c;
    }
  }

  // `at_start` stays: when the first character goes, the reference counts the next as the first.
  void apply(std::string& text, bool&) const override {
    std::size_t at = plain_prefix(text);
    if (at == text.size()) return;
    std::string out;
    out.reserve(text.size() + text.size() / 8);
    out.append(text, 0, at);
    while (at < text.size()) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const bool alone = byte < 0x80 && byte != '\r' &&
                         (at + 1 == text.size() || static_cast<unsigned char>(text[at + 1]) < 0x80);
      if (alone) {
        out += ascii_[byte];
        ++at;
        continue;
      }
      const std::size_t end = grapheme_end(text, at);
      put_cluster(std::string_view(text).substr(at, end - at), out);
      at = end;
    }
    text.swap(out);
  }

 private:
  /// Bytes at the beginning that are clusters by themselves and stay what they are.
  std::size_t plain_prefix(std::string_view text) const {
    std::size_t at = 0;
    while (at < text.size()) {
      const auto byte = static_cast<unsigned char>(text[at]);
      if (byte >= 0x80) return at > 0 ? at - 1 : 0;
      if (byte == '\r' || !same_[byte]) return at;
      ++at;
    }
    return at;
  }

  void put_cluster(std::string_view cluster, std::string& out) const {
    constexpr std::size_t kShort = 6;  // bytes; longer clusters go character by character
    if (cluster.size() < kShort) {
      if (const auto found = map_.find(cluster)) {
        out += *found;
        return;
      }
    }
    for (std::size_t at = 0; at < cluster.size();) {
      const std::string_view part = cluster.substr(at, char_length(cluster[at]));
      out += map_.find(part).value_or(part);
      at += part.size();
    }
  }

  CharacterMap map_;
  std::array<std::string, 128> ascii_;
  std::array<bool, 128> same_{};
};

}  // namespace

std::string decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::array<int, 256> value{};
  value.fill(-1);
  for (std::size_t i = 0; i < kBase64.size(); ++i) {
    value[static_cast<unsigned char>(kBase64[i])] = static_cast<int>(i);
  }
  std::string out;
  out.reserve(text.size() / 4 * 3 + 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int six = value[static_cast<unsigned char>(c)];
    if (six < 0) throw_data("base64: byte ", static_cast<int>(static_cast<unsigned char>(c)));
    bits = bits << 6 | static_cast<std::uint32_t>(six);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xFFu));
    }
  }
  return out;
}

std::string encode_base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    for (std::size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      out.push_back(i <= count ? kBase64[bits >> (18 - 6 * i) & 63u] : '=');
    }
  }
  return out;
}

std::unique_ptr<Normalizer> make_precompiled(std::string_view blob) {
  return std::make_unique<Precompiled>(blob);
}

}  // namespace drrik::text
