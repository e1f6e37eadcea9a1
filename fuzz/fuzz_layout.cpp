// The front matter of a dataset's README.md, and its patterns against some names.

#include <cstdlib>
#include <string>

#include "data/layout.h"
#include "drrik/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  drrik::LayoutFiles files;
  files.paths = {"a.csv", "data/train-00000-of-00001.parquet", "dev/x.jsonl", "en/test_1.txt",
                 "x/y/z.json"};
  files.readme = text.substr(0, 4) == "---\n" ? text : "---\n" + text + "\n---\n";
  try {
    const drrik::Layout layout = drrik::resolve_layout(files, "");
    for (const auto& split : layout.splits) {
      if (split.files.size() > files.paths.size()) std::abort();
    }
    drrik::split_files(layout, "train");
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  const std::size_t half = size / 2;
  drrik::glob_match(text.substr(0, half), text.substr(half));
  return 0;
}
