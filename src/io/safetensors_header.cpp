// The header of a safetensors file, read as it is parsed: a header may have 100 MB, and a tree of
// it would take many times that.

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

#include "drrik/base/checked.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "io/safetensors_types.h"

namespace drrik {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kMaxRank = 64;
constexpr std::size_t kMaxMetadata = 1 << 16;
constexpr int kMaxDepth = 16;
constexpr std::size_t kShown = 60;  // of a wrong value, in messages
constexpr const char* kWhat = "safetensors header";

/// Takes nlohmann's parser events. Levels: 1 the header's members, 2 a tensor's or the metadata's,
/// 3 a list of numbers; what is unknown inside a tensor is skipped, as the reference does.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, SafetensorsHeader& header) : text_(text), header_(header) {}

  bool null() {
    if (skipped_ == 0 && depth_ == 1 && in_metadata_) return true;
    return value("null", true);
  }
  bool boolean(bool flag) { return value(flag ? "true" : "false"); }
  bool number_integer(Json::number_integer_t number) { return value(std::to_string(number)); }
  bool number_float(Json::number_float_t /*number*/, const std::string& text) {
    return value(std::string_view(text).substr(0, kShown));
  }
  bool binary(Json::binary_t& /*value*/) { return false; }

  bool number_unsigned(Json::number_unsigned_t number) {
    if (skipped_ > 0 || depth_ != 3) return value(std::to_string(number));
    if (field_ == Field::kShape) {
      if (entry_.shape.size() == kMaxRank) {
        throw_data(where(), ": 'shape' has more than ", kMaxRank, " axes");
      }
      overflow_ = overflow_ || number > static_cast<std::uint64_t>(INT64_MAX);
      entry_.shape.push_back(static_cast<std::int64_t>(number & ~(std::uint64_t{1} << 63)));
    } else {
      if (offset_count_ < 2) offsets_[offset_count_] = number;
      ++offset_count_;
    }
    return true;
  }

  bool string(std::string& text) {
    if (skipped_ > 0 || depth_ != 2) return value("\"" + text.substr(0, kShown) + "\"");
    if (in_metadata_) {
      if (header_.metadata.size() == kMaxMetadata) {
        throw_data(kWhat, ": more than ", kMaxMetadata, " members in '__metadata__'");
      }
      if (!header_.metadata.emplace(std::move(key_), std::move(text)).second) {
        throw_data(kWhat, ": a member of '__metadata__' occurs twice");
      }
      return true;
    }
    if (field_ == Field::kDType) {
      type_ = find_safetensors_type(text);
      if (type_ == nullptr) throw_data(where(), ": unknown dtype '", text.substr(0, kShown), "'");
      return true;
    }
    return value("\"" + text.substr(0, kShown) + "\"");
  }

  bool start_object(std::size_t /*size*/) {
    if (skipping()) return open_skipped();
    if (depth_ == 1) {
      if (!in_metadata_) {
        entry_ = {};
        entry_.name = std::move(key_);
        seen_ = 0;
        type_ = nullptr;
        overflow_ = false;
        offset_count_ = 0;
      }
    } else if (depth_ > 1) {
      return value("an object");
    }
    ++depth_;
    return true;
  }
  bool end_object() {
    if (skipped_ > 0) return --skipped_, true;
    if (--depth_ == 1 && !in_metadata_) finish_entry();
    return true;
  }
  bool start_array(std::size_t /*size*/) {
    if (skipping()) return open_skipped();
    if (depth_ != 2 || in_metadata_ || field_ == Field::kDType) return value("an array");
    ++depth_;
    return true;
  }
  bool end_array() {
    if (skipped_ > 0) return --skipped_, true;
    --depth_;
    return true;
  }

  bool key(std::string& name) {
    if (skipped_ > 0) return true;
    if (depth_ == 1) {
      in_metadata_ = name == "__metadata__";
      if (in_metadata_ && std::exchange(had_metadata_, true)) {
        throw_data(kWhat, ": member '__metadata__' occurs twice in one object");
      }
    } else if (!in_metadata_) {
      field_ = name == "dtype"          ? Field::kDType
               : name == "shape"        ? Field::kShape
               : name == "data_offsets" ? Field::kOffsets
                                        : Field::kOther;
      const unsigned bit = 1U << static_cast<unsigned>(field_);
      if (field_ != Field::kOther && (seen_ & bit) != 0) {
        throw_data(where(), ": member '", name, "' occurs twice in one object");
      }
      seen_ |= bit;
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) {
    throw_json_syntax(text_, kWhat, position, error);
  }

 private:
  enum class Field : std::uint8_t { kDType, kShape, kOffsets, kOther };

  std::string where() const { return "tensor '" + entry_.name + "'"; }
  bool skipping() const {
    return skipped_ > 0 || (depth_ == 2 && !in_metadata_ && field_ == Field::kOther);
  }
  bool open_skipped() {
    if (++skipped_ > kMaxDepth) throw_data(kWhat, ": nested deeper than ", kMaxDepth, " levels");
    return true;
  }

  /// A value where none of its kind belongs, or one that is skipped.
  bool value(std::string_view shown, bool missing = false) const {
    if (skipping()) return true;
    if (depth_ == 0) throw_data(kWhat, " is ", shown, ", wanted an object");
    if (depth_ == 1) {
      throw_data(in_metadata_ ? std::string("safetensors header: '__metadata__'")
                              : "tensor '" + key_ + "'",
                 " is ", shown, ", wanted an object");
    }
    if (in_metadata_) {
      throw_data("safetensors header: metadata '", key_, "' is ", shown, ", wanted a string");
    }
    if (depth_ == 3) {
      throw_data(where(), ": '", key_, "' is ", shown, ", wanted a whole number >= 0");
    }
    if (missing) throw_data(where(), ": '", key_, "' is null");
    throw_data(where(), ": '", key_, "' is ", shown, ", wanted ",
               field_ == Field::kDType ? "a string" : "an array");
  }

  void finish_entry() {
    constexpr const char* kNames[] = {"dtype", "shape", "data_offsets"};
    for (unsigned i = 0; i < 3; ++i) {
      if ((seen_ & (1U << i)) == 0) throw_data(where(), ": '", kNames[i], "' is missing");
    }
    std::uint64_t bits = type_->bits;
    for (const std::int64_t size : entry_.shape) {
      const auto product = checked_mul(bits, static_cast<std::uint64_t>(size));
      overflow_ = overflow_ || !product;
      bits = product.value_or(0);
    }
    if (overflow_) throw_data(where(), ": shape ", shape_string(entry_.shape), " overflows");
    if (bits % 8 != 0) throw_data(where(), ": ", bits, " bits are not whole bytes");
    entry_.bytes = bits / 8;
    entry_.dtype = type_->dtype;
    entry_.dtype_text = type_->name;
    if (offset_count_ != 2) {
      throw_data(where(), ": 'data_offsets' has ", offset_count_, " numbers, wanted 2");
    }
    const auto [begin, end] = offsets_;
    if (end < begin) {
      throw_data(where(), ": 'data_offsets' run backwards, from ", begin, " to ", end);
    }
    if (end - begin != entry_.bytes) {
      throw_data(where(), ": ", end - begin, " bytes in the file, but ", entry_.dtype_text, " ",
                 shape_string(entry_.shape), " takes ", entry_.bytes);
    }
    entry_.offset = begin;
    entry_.shape.shrink_to_fit();
    header_.entries.push_back(std::move(entry_));
  }

  std::string_view text_;
  SafetensorsHeader& header_;
  int depth_ = 0;
  int skipped_ = 0;  // levels open inside a member that is skipped
  bool in_metadata_ = false;
  bool had_metadata_ = false;
  std::string key_;
  SafetensorsEntry entry_;
  Field field_ = Field::kOther;
  unsigned seen_ = 0;  // bits of Field
  const SafetensorsType* type_ = nullptr;
  bool overflow_ = false;
  std::size_t offset_count_ = 0;
  std::array<std::uint64_t, 2> offsets_{};
};

void index_names(SafetensorsHeader& header) {
  header.by_name.resize(header.entries.size());
  std::iota(header.by_name.begin(), header.by_name.end(), 0U);
  std::sort(header.by_name.begin(), header.by_name.end(), [&](std::uint32_t a, std::uint32_t b) {
    return header.entries[a].name < header.entries[b].name;
  });
  for (std::size_t i = 1; i < header.by_name.size(); ++i) {
    const std::string& name = header.entries[header.by_name[i]].name;
    if (name == header.entries[header.by_name[i - 1]].name) {
      throw_data(kWhat, ": member '", name, "' occurs twice in one object");
    }
  }
}

}  // namespace

std::uint64_t safetensors_header_end(std::span<const std::byte> start) {
  if (start.size() < 8) {
    throw_data("not a safetensors file: ", start.size(),
               " bytes, wanted at least 8; incomplete download?");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    length |= std::to_integer<std::uint64_t>(start[i]) << (8 * i);
  }
  const std::string_view text(reinterpret_cast<const char*>(start.data()),
                              std::min<std::size_t>(start.size(), 32));
  if (text.starts_with("version https://git-lfs")) {
    throw_data("a pointer of Git LFS, not the file itself; fetch it with 'git lfs pull'");
  }
  if (length > kMaxHeader) {
    throw_data("safetensors header of ", length, " bytes, wanted at most ", kMaxHeader,
               "; not a safetensors file?");
  }
  return 8 + length;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> file) {
  return parse_safetensors(file, file.size());
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> start, std::uint64_t file_bytes) {
  const std::uint64_t data_begin = safetensors_header_end(start);
  const std::uint64_t length = data_begin - 8;
  if (data_begin > std::min<std::uint64_t>(start.size(), file_bytes)) {
    throw_data("safetensors header of ", length, " bytes, but the file ends at ",
               std::min<std::uint64_t>(start.size(), file_bytes), "; incomplete download?");
  }
  const std::string_view text(reinterpret_cast<const char*>(start.data()) + 8,
                              static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') {
    throw_data("safetensors header does not start with '{'; not a safetensors file?");
  }
  SafetensorsHeader header;
  HeaderReader reader(text, header);
  Json::sax_parse(text.begin(), text.end(), &reader);

  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
            });
  index_names(header);
  const std::uint64_t data_bytes = file_bytes - data_begin;
  std::uint64_t position = 0;
  for (SafetensorsEntry& entry : header.entries) {
    if (entry.offset != position) {
      throw_data(
          "tensor '", entry.name, "' begins at ", entry.offset, ", wanted ", position,
          entry.offset < position ? " (it overlaps another)" : " (there is a hole before it)");
    }
    if (entry.bytes > data_bytes - position) {
      throw_data("tensor '", entry.name, "': ", entry.bytes, " bytes at ",
                 data_begin + entry.offset, ", file ends at ", file_bytes,
                 "; incomplete download?");
    }
    position += entry.bytes;
    entry.offset += data_begin;
  }
  if (position != data_bytes) {
    throw_data("tensors end at ", data_begin + position, ", but the file has ", file_bytes,
               " bytes");
  }
  return header;
}

const SafetensorsEntry* SafetensorsHeader::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name.begin(), by_name.end(), name,
      [&](std::uint32_t i, std::string_view wanted) { return entries[i].name < wanted; });
  if (found == by_name.end() || entries[*found].name != name) return nullptr;
  return &entries[*found];
}

}  // namespace drrik
