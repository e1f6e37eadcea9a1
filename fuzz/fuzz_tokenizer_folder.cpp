// The files around a tokenizer from arbitrary bytes. The first byte says which files; zero bytes
// separate them.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/text/tokenizer.h"

namespace {

namespace fs = std::filesystem;

const std::vector<std::vector<const char*>>& layouts() {
  static const std::vector<std::vector<const char*>> names = {
      {"vocab.txt", "tokenizer_config.json"},
      {"vocab.json", "merges.txt", "tokenizer_config.json"},
      {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"},
      {"tokenizer.json", "tokenizer_config.json", "config.json"},
      {"tokenizer.model", "tokenizer_config.json", "added_tokens.json"},
      {"qwen.tiktoken", "tokenizer_config.json"},
      {"tekken.json", "tokenizer_config.json"},
  };
  return names;
}

void write(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  drrik::set_log_level(drrik::LogLevel::kOff);
  if (size == 0) return 0;
  // One folder a process: libFuzzer's workers are processes.
  static const fs::path folder =
      fs::temp_directory_path() / ("drrik_fuzz_" + std::to_string(getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto& names = layouts()[data[0] % layouts().size()];
  if (data[0] % layouts().size() == 2) {
    write(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2, "Ġa": 3, "Ġ": 4})");
    write(folder / "merges.txt", "a b\nĠ a\n");
  }
  for (const char* name : names) {
    const std::size_t end = rest.find('\0');
    write(folder / name, rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  try {
    const drrik::Tokenizer tokenizer = drrik::Tokenizer::from_folder(folder);
    const std::vector<std::int32_t> ids =
        tokenizer.encode("The 1st \xC3\xA9t\xC3\xA9 <s> ab\n a'll");
    tokenizer.decode(ids);
  } catch (const drrik::Error&) {
  }
  return 0;
}
