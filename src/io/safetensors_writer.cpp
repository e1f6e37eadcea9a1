#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <utility>

#include "drrik/base/file.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "io/safetensors_types.h"

namespace drrik {
namespace {

constexpr std::array<SafetensorsType, 22> kTypes = {{
    {"BOOL", 8, DType::kBool},
    {"F4", 4, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
    {"U8", 8, DType::kU8},
    {"I8", 8, DType::kI8},
    {"F8_E5M2", 8, DType::kF8E5M2},
    {"F8_E4M3", 8, DType::kF8E4M3},
    {"F8_E8M0", 8, DType::kF8E8M0},
    {"F8_E4M3FNUZ", 8, DType::kF8E4M3Fnuz},
    {"F8_E5M2FNUZ", 8, DType::kF8E5M2Fnuz},
    {"I16", 16, DType::kI16},
    {"U16", 16, DType::kU16},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32},
    {"U32", 32, DType::kU32},
    {"F32", 32, DType::kF32},
    {"C64", 64, std::nullopt},
    {"F64", 64, DType::kF64},
    {"I64", 64, DType::kI64},
    {"U64", 64, DType::kU64},
}};

void refuse_shared_bytes(std::span<const NamedTensor> tensors) {
  std::vector<const NamedTensor*> order;
  for (const auto& item : tensors) {
    if (item.tensor->bytes() > 0) order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return std::less<>()(a->tensor->raw(), b->tensor->raw());
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const NamedTensor& before = *order[i - 1];
    if (std::less<>()(order[i]->tensor->raw(), before.tensor->raw() + before.tensor->bytes())) {
      throw_usage("tensors '", before.name, "' and '", order[i]->name,
                  "' share memory; write tied tensors once");
    }
  }
}

}  // namespace

const SafetensorsType* find_safetensors_type(std::string_view name) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const SafetensorsType& type) { return type.name == name; });
  return found == kTypes.end() ? nullptr : &*found;
}

int safetensors_rank(DType dtype) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const SafetensorsType& type) { return type.dtype == dtype; });
  return static_cast<int>(found - kTypes.begin());
}

std::string_view safetensors_type_name(DType dtype) {
  return kTypes.at(static_cast<std::size_t>(safetensors_rank(dtype))).name;
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> order;
  std::set<std::string_view> names;
  for (const auto& item : tensors) {
    if (item.name == "__metadata__") throw_usage("'__metadata__' cannot name a tensor");
    if (!names.insert(item.name).second) {
      throw_usage("tensor name '", item.name, "' is given twice");
    }
    order.push_back(&item);
  }
  refuse_shared_bytes(tensors);
  // Wider types first, so that every tensor is aligned for its type.
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const int rank_a = safetensors_rank(a->tensor->dtype());
    const int rank_b = safetensors_rank(b->tensor->dtype());
    return rank_a != rank_b ? rank_a > rank_b : a->name < b->name;
  });
  // Appended as text, member by member: the header's own order is part of the format.
  std::string header = "{";
  if (!metadata.empty()) {
    Json values = Json::object();
    for (const auto& [key, value] : metadata) values[key] = value;
    header += "\"__metadata__\":" + json_text(values);
  }
  std::uint64_t position = 0;
  for (const NamedTensor* item : order) {
    const std::uint64_t end = position + item->tensor->bytes();
    Json entry = {{"dtype", safetensors_type_name(item->tensor->dtype())},
                  {"shape", item->tensor->shape()},
                  {"data_offsets", {position, end}}};
    if (header.size() > 1) header += ',';
    header += json_text(Json(item->name)) + ":" + json_text(entry);
    position = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');

  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) {
    length[i] = static_cast<std::byte>((header.size() >> (8 * i)) & 0xFFU);
  }
  AtomicFile file(path);
  file.write(length);
  file.write(header);
  for (const NamedTensor* item : order) {
    file.write(std::span(item->tensor->raw(), item->tensor->bytes()));
  }
  file.commit();
}

}  // namespace drrik
