#include "drrik/io/safetensors.h"

namespace drrik {

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile out;
  out.file_ = MappedFile::open(path);
  try {
    out.header_ = parse_safetensors(out.file_->bytes());
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
  return out;
}

Tensor SafetensorsFile::get(std::string_view name) const {
  const SafetensorsEntry* entry = find_entry(name);
  if (entry == nullptr) {
    std::vector<std::string> names;
    names.reserve(entries().size());
    for (const SafetensorsEntry& other : entries()) names.push_back(other.name);
    throw_data(path().string(), ": no tensor '", name, "'", did_you_mean(name, names));
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

}  // namespace drrik
