#include "drrik/io/gguf.h"

#include <bit>
#include <cstring>
#include <set>
#include <string_view>

#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;  // the default, which need not be written
constexpr std::string_view kArchitecture = "general.architecture";

template <typename T>
void append(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_text(std::string& out, std::string_view text) {
  append<std::uint64_t>(out, text.size());
  out.append(text);
}

// ggml's numbers of the types of values.
struct AppendValue {
  std::string& out;
  void operator()(std::uint32_t v) const { tagged(4, v); }
  void operator()(std::int32_t v) const { tagged(5, v); }
  void operator()(float v) const { tagged(6, v); }
  void operator()(bool v) const { tagged(7, static_cast<std::uint8_t>(v)); }
  void operator()(std::uint64_t v) const { tagged(10, v); }
  void operator()(const std::string& v) const {
    append<std::uint32_t>(out, 8);
    append_text(out, v);
  }
  template <typename T>
  void tagged(std::uint32_t type, T v) const {
    append(out, type);
    append(out, v);
  }
};

// And of the types of tensors.
std::uint32_t type_number(const NamedTensor& item) {
  switch (item.tensor->dtype()) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 30;
    default:
      throw_usage("gguf: tensor '", item.name, "' is ", dtype_name(item.tensor->dtype()),
                  ", wanted float32, float16 or bfloat16");
  }
}

std::uint64_t aligned(std::uint64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

void append_tensor(std::string& out, const NamedTensor& item, std::uint64_t offset) {
  constexpr std::size_t kMostName = 63;
  constexpr std::int64_t kMostAxes = 4;
  const std::vector<std::int64_t>& shape = item.tensor->shape();
  if (item.name.size() > kMostName) {
    throw_usage("gguf: tensor name '", item.name, "' is longer than ", kMostName, " bytes");
  }
  if (shape.empty() || item.tensor->rank() > kMostAxes) {
    throw_usage("gguf: tensor '", item.name, "' has shape ", shape_string(shape),
                ", wanted 1 to 4 axes");
  }
  append_text(out, item.name);
  append<std::uint32_t>(out, static_cast<std::uint32_t>(shape.size()));
  for (auto axis = shape.rbegin(); axis != shape.rend(); ++axis) {
    append<std::uint64_t>(out, static_cast<std::uint64_t>(*axis));
  }
  append(out, type_number(item));
  append(out, offset);
}

}  // namespace

void write_gguf(const std::filesystem::path& path, const std::map<std::string, GgufValue>& metadata,
                std::span<const NamedTensor> tensors) {
  std::string header = "GGUF";
  append(header, kVersion);
  append<std::uint64_t>(header, tensors.size());
  append<std::uint64_t>(header, metadata.size());
  const auto entry = [&](const std::string& key, const GgufValue& value) {
    append_text(header, key);
    std::visit(AppendValue{header}, value);
  };
  const auto first = metadata.find(std::string(kArchitecture));
  if (first != metadata.end()) entry(first->first, first->second);
  for (const auto& [key, value] : metadata) {
    if (key != kArchitecture) entry(key, value);
  }
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const NamedTensor& item : tensors) {
    if (!names.insert(item.name).second) {
      throw_usage("gguf: tensor name '", item.name, "' is given twice");
    }
    append_tensor(header, item, offset);
    offset += aligned(item.tensor->bytes());
  }
  header.resize(aligned(header.size()));

  AtomicFile file(path);
  file.write(header);
  for (const NamedTensor& item : tensors) {
    file.write(std::span(item.tensor->raw(), item.tensor->bytes()));
    file.write(std::string(aligned(item.tensor->bytes()) - item.tensor->bytes(), '\0'));
  }
  file.commit();
}

}  // namespace drrik
