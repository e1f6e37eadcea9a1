#include "data/arrow_plugin.h"

#include <dlfcn.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "drrik/base/error.h"
#include "drrik/base/system.h"
#include "drrik/data/source.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

struct Loaded {
  const ColumnarPlugin* plugin = nullptr;
  std::string why;  ///< It is not there.
};

// The folder of the program or library that this code is part of.
fs::path own_folder() {
  Dl_info info{};
  std::error_code error;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) {
    return {};
  }
  // A program's name here is how it was called; a shared library's is its path.
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path object = info.dli_fname;
  const bool library = object.filename().string().find(".so") != std::string::npos;
  return library || error ? fs::absolute(object, error).parent_path() : program.parent_path();
}

Loaded load_from(const fs::path& path) {
  // Local: Arrow's symbols are nobody else's business. Never closed: its threads and statics live.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return {nullptr, why == nullptr ? "it cannot be loaded" : why};
  }
  const auto entry = reinterpret_cast<ColumnarPluginEntry>(dlsym(library, kColumnarPluginEntry));
  if (entry == nullptr) return {nullptr, str("'", path.string(), "' is no plug-in of drrik")};
  const ColumnarPlugin* plugin = entry();
  if (std::strcmp(plugin->version, version()) != 0) {
    return {nullptr, str("'", path.string(), "' belongs to drrik ", plugin->version, ", this is ",
                         version())};
  }
  return {plugin, {}};
}

Loaded load() {
  const fs::path own = own_folder();
  // In the build tree beside the program; installed in <libdir>/drrik; else where the linker's
  // search path (RUNPATH of a program that links an installed libdrrik) leads.
  const fs::path places[] = {own / kColumnarPluginFile,
                             own / ".." / DRRIK_LIBDIR / "drrik" / kColumnarPluginFile,
                             own / "drrik" / kColumnarPluginFile};
  std::error_code error;
  for (const fs::path& place : places) {
    if (!own.empty() && fs::exists(place, error)) return load_from(place);
  }
  return load_from(kColumnarPluginFile);
}

const Loaded& loaded() {
  static const Loaded once = load();
  return once;
}

}  // namespace

const ColumnarPlugin& arrow_plugin() {
  const Loaded& got = loaded();
  if (got.plugin == nullptr) {
    throw_data(
        "Parquet and Arrow files need Arrow's C++ library, which this drrik was built "
        "without or does not find (",
        got.why,
        "); run ./quickstart --build again where pip can fetch pyarrow, or install Arrow "
        "and Parquet for C++ and build again, or convert the file to JSON Lines");
  }
  return *got.plugin;
}

bool arrow_available() { return loaded().plugin != nullptr; }

}  // namespace drrik
