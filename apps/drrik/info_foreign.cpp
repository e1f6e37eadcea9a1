// drrik info: what drrik knows and does not read.

#include <fstream>

#include "drrik/base/error.h"
#include "drrik/io/weight_files.h"
#include "info.h"
#include "io/json.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

void say(const fs::path& path, const char* kind, const char* words, const std::string& reason,
         Info& info) {
  info.json["kind"] = kind;
  info.json["supported"] = false;
  info.json["reason"] = reason;
  info.screen.title(words, path.string());
  info.screen.note(reason);
}

std::string first_bytes(const fs::path& file, std::size_t count) {
  std::ifstream in(file, std::ios::binary);
  std::string out(count, '\0');
  in.read(out.data(), static_cast<std::streamsize>(count));
  out.resize(static_cast<std::size_t>(in.gcount()));
  return out;
}

bool is_gguf(const fs::path& file) {
  std::error_code error;
  return fs::is_regular_file(file, error) && first_bytes(file, 4) == "GGUF";
}

void adapter(const fs::path& folder, Info& info) {
  std::string base;
  std::string method;
  std::error_code error;
  if (fs::exists(folder / "adapter_config.json", error)) {
    const Json json = read_json_file(folder / "adapter_config.json", std::uint64_t{16} << 20);
    const std::string what = (folder / "adapter_config.json").string();
    base = get_string(json, "base_model_name_or_path", what, "");
    method = get_string(json, "peft_type", what, "");
    if (const auto rank = find_int(json, "r", what)) info.json["rank"] = *rank;
  }
  info.json["base_model"] = base;
  info.json["method"] = method;
  say(folder, "adapter", "adapter", foreign_weights(folder), info);
  info.screen.section("Adapter");
  info.screen.row("method", printable(method));
  info.screen.row("base model", printable(base));
}

}  // namespace

bool foreign_info(const fs::path& path, Info& info) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (!is_gguf(path)) return false;
    say(path, "gguf", "GGUF file",
        "GGUF files are not read; use the HuggingFace folder the file was made from", info);
    return true;
  }
  if (fs::exists(path / "model_index.json", error)) {
    say(path, "diffusers", "diffusers pipeline", foreign_weights(path), info);
    return true;
  }
  if (fs::exists(path / "config.json", error)) return false;
  if (fs::exists(path / "adapter_config.json", error) ||
      fs::exists(path / "adapter_model.safetensors", error)) {
    adapter(path, info);
    return true;
  }
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".gguf") continue;
    say(path, "gguf", "folder of GGUF files", foreign_weights(path), info);
    return true;
  }
  for (const char* name : {"params.json", "consolidated.safetensors", "consolidated.00.pth",
                           "tf_model.h5", "flax_model.msgpack"}) {
    if (!fs::exists(path / name, error)) continue;
    say(path, "foreign", "another program's model", foreign_weights(path), info);
    return true;
  }
  return false;
}

}  // namespace drrik::cli
