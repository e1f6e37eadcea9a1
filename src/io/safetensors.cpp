#include "drrik/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "drrik/base/checked.h"
#include "io/json.h"
#include "io/safetensors_types.h"

namespace drrik {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

// Sizes and offsets are unsigned integers in the reference: 3.0 and -1 are refused.
std::uint64_t unsigned_number(const Json& json, const std::string& where) {
  if (!json.is_number_unsigned()) {
    throw_data(where, " is ", json_type_name(json), " (", json_text(json),
               "), wanted a whole number >= 0");
  }
  return json.get<std::uint64_t>();
}

struct RawEntry {
  SafetensorsEntry entry;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

RawEntry parse_entry(const std::string& name, const Json& json) {
  const std::string where = "tensor '" + name + "'";
  RawEntry raw;
  raw.entry.name = name;
  raw.entry.dtype_text = get_string(json, "dtype", where);
  const SafetensorsType* type = find_safetensors_type(raw.entry.dtype_text);
  if (type == nullptr) throw_data(where, ": unknown dtype '", raw.entry.dtype_text, "'");
  raw.entry.dtype = type->dtype;

  const Json& shape = expect_array(get_member(json, "shape", where), where + ": 'shape'");
  std::uint64_t bits = type->bits;
  bool overflow = false;
  for (const Json& size : shape) {
    const std::uint64_t n = unsigned_number(size, where + ": 'shape'");
    const auto product = checked_mul(bits, n);
    overflow = overflow || !product || n > static_cast<std::uint64_t>(INT64_MAX);
    bits = product.value_or(0);
    raw.entry.shape.push_back(static_cast<std::int64_t>(n & ~(std::uint64_t{1} << 63)));
  }
  if (overflow) throw_data(where, ": shape ", json_text(shape), " overflows");
  if (bits % 8 != 0) throw_data(where, ": ", bits, " bits are not whole bytes");
  raw.entry.bytes = bits / 8;

  const Json& offsets =
      expect_array(get_member(json, "data_offsets", where), where + ": 'data_offsets'");
  if (offsets.size() != 2)
    throw_data(where, ": 'data_offsets' has ", offsets.size(), " numbers, wanted 2");
  raw.begin = unsigned_number(offsets[0], where + ": 'data_offsets'");
  raw.end = unsigned_number(offsets[1], where + ": 'data_offsets'");
  if (raw.end < raw.begin) {
    throw_data(where, ": 'data_offsets' run backwards, from ", raw.begin, " to ", raw.end);
  }
  if (raw.end - raw.begin != raw.entry.bytes) {
    throw_data(where, ": ", raw.end - raw.begin, " bytes in the file, but ", raw.entry.dtype_text,
               " ", shape_string(raw.entry.shape), " takes ", raw.entry.bytes);
  }
  return raw;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

[[noreturn]] void throw_no_weights(const std::filesystem::path& folder) {
  std::string hint;
  std::error_code error;
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (std::filesystem::exists(folder / other, error)) {
      hint = str("; it has ", other,
                 ", which is not read: save the model with safe_serialization=True");
      break;
    }
  }
  throw_data("'", folder.string(), "' has neither ", kSingleName, " nor ", kIndexName, hint);
}

std::vector<std::string> names_of(const std::vector<SafetensorsEntry>& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const auto& entry : entries) names.push_back(entry.name);
  return names;
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file) {
  if (file.size() < 8) {
    throw_data("not a safetensors file: ", file.size(),
               " bytes, wanted at least 8; incomplete download?");
  }
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  }
  if (length > kMaxHeader) {
    throw_data("safetensors header of ", length, " bytes, wanted at most ", kMaxHeader,
               "; not a safetensors file?");
  }
  if (length > file.size() - 8) {
    throw_data("safetensors header of ", length, " bytes, but the file ends at ", file.size(),
               "; incomplete download?");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8,
                              static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') {
    throw_data("safetensors header does not start with '{'; not a safetensors file?");
  }
  JsonParseOptions options;
  options.max_depth = 16;
  options.duplicates = JsonDuplicates::kRefuse;
  const Json json = parse_json(text, "safetensors header", options);

  SafetensorsHeader header;
  std::vector<RawEntry> raw;
  for (const auto& [name, value] : json.get_ref<const Json::object_t&>()) {
    if (name != "__metadata__") {
      raw.push_back(parse_entry(name, value));
      continue;
    }
    if (value.is_null()) continue;
    expect_object(value, "safetensors header: '__metadata__'");
    for (const auto& [key, text_value] : value.get_ref<const Json::object_t&>()) {
      header.metadata[key] =
          json_string(text_value, str("safetensors header: metadata '", key, "'"));
    }
  }
  std::sort(raw.begin(), raw.end(), [](const RawEntry& a, const RawEntry& b) {
    return std::tie(a.begin, a.end, a.entry.name) < std::tie(b.begin, b.end, b.entry.name);
  });
  const std::uint64_t data_begin = 8 + length;
  const std::uint64_t data_bytes = file.size() - data_begin;
  std::uint64_t position = 0;
  for (RawEntry& item : raw) {
    if (item.begin != position) {
      throw_data("tensor '", item.entry.name, "' begins at ", item.begin, ", wanted ", position,
                 item.begin < position ? " (it overlaps another)" : " (there is a hole before it)");
    }
    if (item.end > data_bytes) {
      throw_data("tensor '", item.entry.name, "': ", item.entry.bytes, " bytes at ",
                 data_begin + item.begin, ", file ends at ", file.size(), "; incomplete download?");
    }
    position = item.end;
    item.entry.offset = data_begin + item.begin;
    header.entries.push_back(std::move(item.entry));
  }
  if (position != data_bytes) {
    throw_data("tensors end at ", data_begin + position, ", but the file has ", file.size(),
               " bytes");
  }
  return header;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile out;
  out.file_ = MappedFile::open(path);
  try {
    out.header_ = parse_safetensors(out.file_->bytes());
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
  for (std::size_t i = 0; i < out.header_.entries.size(); ++i) {
    out.index_.emplace(out.header_.entries[i].name, i);
  }
  return out;
}

const SafetensorsEntry* SafetensorsFile::find_entry(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

Tensor SafetensorsFile::get(std::string_view name) const {
  const SafetensorsEntry* entry = find_entry(name);
  if (entry == nullptr) {
    throw_data(path().string(), ": no tensor '", name, "'",
               did_you_mean(name, names_of(header_.entries)));
  }
  if (!entry->dtype) {
    throw_data(path().string(), ": tensor '", name, "' is of type ", entry->dtype_text,
               ", which is not supported");
  }
  return Tensor::borrow(file_, static_cast<std::size_t>(entry->offset), *entry->dtype,
                        entry->shape);
}

std::optional<Tensor> SafetensorsFile::find(std::string_view name) const {
  if (!contains(name)) return std::nullopt;
  return get(name);
}

SafetensorsIndex SafetensorsIndex::open(const std::filesystem::path& path) {
  SafetensorsIndex out;
  out.path_ = path;
  std::filesystem::path file = path;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    file = path / kSingleName;
    if (!std::filesystem::exists(file, error)) file = path / kIndexName;
    if (!std::filesystem::exists(file, error)) throw_no_weights(path);
  }
  if (!ends_with(file.string(), ".json")) {
    out.shards_.push_back(SafetensorsFile::open(file));
    for (const auto& entry : out.shards_[0].entries()) out.where_.emplace(entry.name, 0);
    return out;
  }

  const std::string what = file.string();
  const Json index = read_json_file(file, kMaxHeader);
  const Json& weights =
      expect_object(get_member(index, "weight_map", what), what + ": 'weight_map'");
  std::map<std::string, std::size_t> shard_numbers;
  for (const auto& [name, value] : weights.get_ref<const Json::object_t&>()) {
    const std::string shard = json_string(value, str(what, ": shard of '", name, "'"));
    if (!plain_file_name(shard)) {
      throw_data(what, ": shard '", shard, "' of '", name,
                 "' is not a plain file name beside the index");
    }
    const auto [at, is_new] = shard_numbers.emplace(shard, out.shards_.size());
    if (is_new) {
      const auto shard_path = file.parent_path() / shard;
      if (!std::filesystem::exists(shard_path, error)) {
        throw_data(what, ": shard '", shard, "' (holding '", name,
                   "') does not exist; incomplete download?");
      }
      out.shards_.push_back(SafetensorsFile::open(shard_path));
    }
    if (!out.shards_[at->second].contains(name)) {
      throw_data(what, ": tensor '", name, "' is not in its shard '", shard, "'");
    }
    out.where_.emplace(name, at->second);
  }
  if (out.where_.empty()) throw_data(what, ": 'weight_map' is empty");
  return out;
}

std::vector<std::string> SafetensorsIndex::names() const {
  std::vector<std::string> out;
  out.reserve(where_.size());
  for (const auto& item : where_) out.push_back(item.first);
  return out;
}

void SafetensorsIndex::throw_absent(std::string_view name) const {
  throw_data(path_.string(), ": no tensor '", name, "'", did_you_mean(name, names()));
}

const SafetensorsEntry* SafetensorsIndex::find_entry(std::string_view name) const {
  const auto found = where_.find(name);
  return found == where_.end() ? nullptr : shards_[found->second].find_entry(name);
}

Tensor SafetensorsIndex::get(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end()) throw_absent(name);
  return shards_[found->second].get(name);
}

std::optional<Tensor> SafetensorsIndex::find(std::string_view name) const {
  if (!contains(name)) return std::nullopt;
  return get(name);
}

const std::filesystem::path& SafetensorsIndex::shard_of(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end()) throw_absent(name);
  return shards_[found->second].path();
}

std::uint64_t SafetensorsIndex::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, shard] : where_) total += shards_[shard].find_entry(name)->bytes;
  return total;
}

}  // namespace drrik
