// Every #include "drrik/<room>/..." (and "<room>/..." of private headers) against the table of
// rooms: a room includes itself and what may stand below it, nothing else.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// Direct permissions, as docs/architecture.md lists them; what a permitted room may use is
// permitted too.
const std::map<std::string, std::vector<std::string>> kMayUse = {
    {"base", {}},
    {"tensor", {"base"}},
    {"ops", {"tensor"}},
    {"io", {"tensor"}},
    {"hub", {"io"}},
    {"text", {"io"}},
    {"data", {"io", "hub"}},
    {"model", {"ops", "io", "text"}},
    {"activations", {"model", "data"}},
    {"sae", {"ops", "io"}},
    {"train", {"sae", "activations"}},
    {"eval", {"model", "sae", "activations"}},
    {"steer", {"model", "sae"}},
    {"viz", {"eval", "sae", "activations"}},
    {"serve", {"steer", "viz"}},
    {"config", {"io", "hub"}},
};

std::set<std::string> closure(const std::string& room) {
  std::set<std::string> all = {room};
  std::vector<std::string> open = {room};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    for (const std::string& below : kMayUse.at(next)) {
      if (all.insert(below).second) open.push_back(below);
    }
  }
  return all;
}

// The room an include line names, or "" when it names none of ours.
std::string included_room(const std::string& line) {
  static const std::regex pattern(R"re(^\s*#\s*include\s+"(?:drrik/)?([a-z_]+)/[^"]+")re");
  std::smatch match;
  if (!std::regex_search(line, match, pattern)) return "";
  return kMayUse.contains(match[1]) ? match[1].str() : "";
}

std::vector<std::string> violations(const std::string& room, std::istream& source) {
  const std::set<std::string> allowed = closure(room);
  std::vector<std::string> found;
  std::string line;
  while (std::getline(source, line)) {
    const std::string used = included_room(line);
    if (!used.empty() && !allowed.contains(used)) found.push_back(line);
  }
  return found;
}

TEST(IncludeOrder, RoomsUseOnlyWhatStandsBelowThem) {
  const fs::path root = DRRIK_SOURCE_DIR;
  int files = 0;
  for (const auto& [room, unused] : kMayUse) {
    for (const fs::path& folder : {root / "include/drrik" / room, root / "src" / room}) {
      if (!fs::is_directory(folder)) continue;
      for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const std::string extension = entry.path().extension().string();
        if (extension != ".h" && extension != ".cpp") continue;
        ++files;
        std::ifstream source(entry.path());
        for (const std::string& line : violations(room, source)) {
          ADD_FAILURE() << entry.path().string() << " (room " << room << "): " << line;
        }
      }
    }
  }
  EXPECT_GT(files, 20);
}

TEST(IncludeOrder, EveryFolderIsAKnownRoom) {
  for (const char* base : {"include/drrik", "src"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(DRRIK_SOURCE_DIR) / base)) {
      if (!entry.is_directory()) continue;
      EXPECT_TRUE(kMayUse.contains(entry.path().filename().string())) << entry.path();
    }
  }
}

TEST(IncludeOrder, SeesAnUpwardInclude) {
  std::istringstream source("#include \"drrik/base/error.h\"\n#include \"drrik/model/model.h\"\n");
  EXPECT_EQ(violations("sae", source).size(), 1U);
  std::istringstream hidden("#include \"train/checkpoint.h\"\n");
  EXPECT_EQ(violations("sae", hidden).size(), 1U);
  std::istringstream fine("#include \"io/json.h\"\n#include <vector>\n");
  EXPECT_TRUE(violations("sae", fine).empty());
}

}  // namespace
