// What a server answers to the Hub's client: lists of files, Parquet lists, headers,
// addresses. The first byte chooses; nothing may name a file outside its repository.

#include <cstdlib>

#include "data/hub_dataset.h"
#include "drrik/base/error.h"
#include "drrik/hub/repo.h"
#include "hub/api.h"
#include "hub/glob.h"
#include "hub/url.h"

namespace {

void check(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.starts_with("../") ||
      path.find("/../") != std::string::npos || path.ends_with("/..")) {
    std::abort();
  }
}

void parse(int which, std::string_view text) {
  using namespace drrik;
  switch (which) {
    case 0:
      for (const auto& path : hub::parse_repo_info(text, "fuzz").files) check(path);
      break;
    case 1:
      for (const auto& entry : hub::parse_tree_page(text, "fuzz")) check(entry.path);
      break;
    case 2:
      if (const auto tree = hub::parse_tree_cache(text, "fuzz")) {
        const std::string written = hub::tree_cache_text(*tree);
        const auto again = hub::parse_tree_cache(written, "again");
        if (!again || hub::tree_cache_text(*again) != written) std::abort();
      }
      break;
    case 3:
      for (const auto& path : hub::parse_weight_index(text, "fuzz")) check(path);
      break;
    case 4:
      for (const auto& config : parse_parquet_list(text, "fuzz")) {
        for (const auto& [split, shards] : config.splits) check(config.name + "/" + split);
      }
      break;
    case 5: {
      const std::string target = hub::resolve_location("https://huggingface.co/a/b", text);
      hub::shown_url(text);
      hub::next_page(text);
      // What is shown names the same host as what is asked.
      const std::string origin = hub::origin_of(target);
      if (!origin.empty() && hub::origin_of(hub::shown_url(target)) != origin) std::abort();
      break;
    }
    default: {
      const std::size_t half = text.size() / 2;
      hub::fnmatch(text.substr(0, half), text.substr(half));
      if (is_repo_id(text)) {
        Repo repo;
        repo.id = text;
        check(repo.id);
        if (hub::percent_encode(text, "/") != text) std::abort();
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    parse(data[0] % 7, text);
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
