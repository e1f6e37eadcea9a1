#include <cstring>
#include <set>

#include "drrik/io/npy.h"
#include "io/npy_layout.h"
#include "io/zip.h"

namespace drrik {

std::map<std::string, Tensor> read_npz(const std::filesystem::path& path,
                                       const NpyOptions& options) {
  constexpr std::string_view kEnding = ".npy";
  const auto file = MappedFile::open(path);
  std::map<std::string, Tensor> out;
  try {
    const ZipReader zip(file->bytes());
    for (const ZipEntry& entry : zip.entries()) {
      std::string name = entry.name;
      if (name.size() <= kEnding.size() ||
          std::string_view(name).substr(name.size() - kEnding.size()) != kEnding) {
        throw_data("member '", name, "' is not an npy array");
      }
      name.resize(name.size() - kEnding.size());
      try {
        const auto bytes = zip.read(entry);
        out.emplace(std::move(name), npy_tensor(bytes, parse_npy(bytes, options)));
      } catch (Error& error) {
        throw error.add_context("member '" + entry.name + "'");
      }
    }
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
  return out;
}

void write_npz(const std::filesystem::path& path, std::span<const NamedTensor> arrays) {
  std::set<std::string_view> names;
  AtomicFile file(path);
  ZipWriter zip(file);
  for (const auto& [name, tensor] : arrays) {
    if (!names.insert(name).second) throw_usage("npz: array name '", name, "' is given twice");
    const std::string header = npy_header(tensor->dtype(), tensor->shape());
    std::vector<std::byte> content(header.size() + tensor->bytes());
    std::memcpy(content.data(), header.data(), header.size());
    if (tensor->bytes() > 0) {
      std::memcpy(content.data() + header.size(), tensor->raw(), tensor->bytes());
    }
    zip.add(name + ".npy", content);
  }
  zip.finish();
  file.commit();
}

}  // namespace drrik
