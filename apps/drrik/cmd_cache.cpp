// drrik cache: what the Hub's cache holds; deleting from it, checking it.

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>

#include "cli.h"
#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/hub/cache.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string action = "list";
  std::vector<std::string> targets;
  std::string type;
  bool dry_run = false;
};

// Decimal units, as huggingface_hub shows them.
std::string size_text(std::uint64_t bytes) {
  const char* units[] = {"", "K", "M", "G", "T", "P"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1000 && unit < 5; ++unit) value /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f%s" : "%.1f%s", value, units[unit]);
  return text;
}

std::string time_text(double seconds) {
  if (seconds <= 0) return "";
  const auto when = static_cast<std::time_t>(seconds);
  std::tm parts{};
  gmtime_r(&when, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// What a target names: a whole repository, or one revision of it.
struct Target {
  const CachedRepo* repo = nullptr;
  const CachedRevision* revision = nullptr;
};

std::string name_of(const CachedRepo& repo) { return str(repo_type_name(repo.type), "/", repo.id); }

// "gpt2", "org/name", "dataset/org/name" (or "datasets/…"), each also "@branch"; or a commit.
class Finder {
 public:
  Finder(const CacheScan& scan, const std::string& type) : scan_(scan) {
    if (!type.empty()) type_ = parse_repo_type(type);
  }

  Target find(const std::string& text) const {
    std::vector<Target> found;
    if (is_commit(text)) {
      for (const CachedRepo& repo : scan_.repos) {
        for (const CachedRevision& revision : repo.revisions) {
          if (revision.commit == text) found.push_back({&repo, &revision});
        }
      }
    } else {
      const std::size_t at = text.find('@');
      const std::string name = text.substr(0, at);
      for (const CachedRepo& repo : scan_.repos) {
        if (type_ && repo.type != *type_) continue;
        const std::string plural = str(repo_type_name(repo.type), "s/", repo.id);
        if (name != repo.id && name != name_of(repo) && name != plural) continue;
        if (at == std::string::npos) {
          found.push_back({&repo, nullptr});
        } else {
          found.push_back({&repo, &revision_of(repo, text.substr(at + 1))});
        }
      }
    }
    if (found.size() == 1) return found.front();
    std::vector<std::string> names;
    for (const CachedRepo& repo : scan_.repos) names.push_back(repo.id);
    if (found.empty()) {
      throw_usage("'", text, "' is not in the cache",
                  names.empty() ? ", which is empty" : did_you_mean(text, names));
    }
    names.clear();
    for (const Target& target : found) names.push_back(name_of(*target.repo));
    throw_usage("'", text, "' may be any of ", join(names), "; give one of these names");
  }

 private:
  static const CachedRevision& revision_of(const CachedRepo& repo, const std::string& name) {
    std::vector<std::string> names;
    for (const CachedRevision& revision : repo.revisions) {
      if (revision.commit == name || std::ranges::count(revision.refs, name) > 0) return revision;
      names.insert(names.end(), revision.refs.begin(), revision.refs.end());
      names.push_back(revision.commit);
    }
    throw_usage(name_of(repo), " has no revision '", name, "' in the cache; there are ",
                join(names));
  }

  const CacheScan& scan_;
  std::optional<RepoType> type_;
};

Json repo_json(const CachedRepo& repo) {
  Json revisions = Json::array();
  for (const CachedRevision& revision : repo.revisions) {
    Json files = Json::array();
    for (const CachedFile& file : revision.files) {
      files.push_back({{"path", file.path}, {"bytes", file.bytes}});
    }
    revisions.push_back({{"commit", revision.commit},
                         {"refs", revision.refs},
                         {"bytes", revision.bytes},
                         {"files", files}});
  }
  return {{"repo", repo.id},
          {"type", repo_type_name(repo.type)},
          {"path", repo.folder.string()},
          {"bytes", repo.bytes},
          {"incomplete_bytes", repo.incomplete_bytes},
          {"files", repo.files},
          {"last_used", time_text(repo.last_used)},
          {"last_changed", time_text(repo.last_changed)},
          {"revisions", revisions}};
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] + 2 - row[i].size(), ' ');
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

void list(const Globals& globals, const std::string& folder, const CacheScan& scan) {
  std::uint64_t bytes = 0;
  Json repos = Json::array();
  std::vector<std::vector<std::string>> rows = {
      {"REPOSITORY", "TYPE", "SIZE", "FILES", "LAST USED", "REVISIONS"}};
  for (const CachedRepo& repo : scan.repos) {
    bytes += repo.bytes;
    repos.push_back(repo_json(repo));
    std::vector<std::string> revisions;
    for (const CachedRevision& revision : repo.revisions) {
      revisions.push_back(revision.refs.empty() ? revision.commit.substr(0, 8)
                                                : join(revision.refs, "="));
    }
    std::string size = size_text(repo.bytes);
    if (repo.incomplete_bytes > 0) size += " (" + size_text(repo.incomplete_bytes) + " in parts)";
    rows.push_back({repo.id, std::string(repo_type_name(repo.type)), size, str(repo.files),
                    time_text(repo.last_used).substr(0, 10), join(revisions)});
  }
  for (const std::string& problem : scan.problems) log_warning(problem);
  emit(globals,
       {{"cache_dir", folder}, {"bytes", bytes}, {"repos", repos}, {"problems", scan.problems}},
       scan.repos.empty() ? str("the cache '", folder, "' is empty")
                          : str(table(rows), scan.repos.size(), " repositories, ", size_text(bytes),
                                "B in '", folder, "'"));
}

void remove(const Globals& globals, const Flags& flags, const CacheScan& scan) {
  if (flags.targets.empty()) {
    throw_usage(
        "cache delete: name a repository (gpt2, dataset/org/name), a revision of it "
        "(gpt2@main) or a commit");
  }
  const Finder finder(scan, flags.type);
  Json deleted = Json::array();
  std::string text;
  std::uint64_t bytes = 0;
  std::vector<CacheDeletion> plans;
  // All of them are found before any is deleted.
  for (const std::string& name : flags.targets) {
    const Target target = finder.find(name);
    plans.push_back(target.revision == nullptr
                        ? plan_deletion(scan, *target.repo)
                        : plan_deletion(scan, *target.repo, *target.revision));
    bytes += plans.back().bytes;
    const std::string commit = target.revision == nullptr ? "" : target.revision->commit;
    deleted.push_back({{"repo", target.repo->id},
                       {"type", repo_type_name(target.repo->type)},
                       {"commit", commit.empty() ? Json(nullptr) : Json(commit)},
                       {"bytes", plans.back().bytes}});
    text += str(flags.dry_run ? "would delete " : "deleted ", name_of(*target.repo),
                commit.empty() ? "" : "@" + commit, ", ", size_text(plans.back().bytes), "B\n");
  }
  if (!flags.dry_run) {
    for (const CacheDeletion& plan : plans) delete_cached(plan);
  }
  emit(globals, {{"deleted", deleted}, {"bytes", bytes}, {"dry_run", flags.dry_run}}, text);
}

void verify(Globals& globals, const Flags& flags, const CacheScan& scan) {
  std::vector<const CachedRepo*> repos;
  const Finder finder(scan, flags.type);
  for (const std::string& name : flags.targets) repos.push_back(finder.find(name).repo);
  if (flags.targets.empty()) {
    for (const CachedRepo& repo : scan.repos) repos.push_back(&repo);
  }
  Json problems = Json::array();
  std::size_t blobs = 0;
  std::uint64_t bytes = 0;
  std::string text;
  for (const CachedRepo* repo : repos) {
    const CacheCheck check = verify_cached(*repo);
    blobs += check.blobs;
    bytes += check.bytes;
    for (const CacheProblem& problem : check.problems) {
      problems.push_back(
          {{"repo", repo->id}, {"path", problem.path.string()}, {"what", problem.what}});
      text += str("'", problem.path.string(), "' ", problem.what, "\n");
    }
  }
  text += str(blobs, " files with ", size_text(bytes), "B checked, ", problems.size(),
              " damaged or missing");
  if (!problems.empty()) {
    text += "; drrik cache delete takes a repository away, drrik download --force fetches it anew";
    globals.exit_code = static_cast<int>(ErrorKind::kData);
  }
  emit(globals, {{"checked", blobs}, {"bytes", bytes}, {"problems", problems}}, text);
}

void run(Globals& globals, const Flags& flags) {
  const std::vector<std::string> actions = {"list", "delete", "verify"};
  const HubOptions options = hub_options(globals);
  const CacheScan scan = scan_cache(options.cache_dir);
  if (flags.action == "list") {
    if (!flags.targets.empty()) throw_usage("cache list takes no names");
    return list(globals, options.cache_dir.string(), scan);
  }
  if (flags.action == "delete") return remove(globals, flags, scan);
  if (flags.action == "verify") return verify(globals, flags, scan);
  throw_usage("cache: got '", flags.action, "', wanted ", join(actions),
              did_you_mean(flags.action, actions));
}

}  // namespace

Command cache_command() {
  return {
      "cache", "List, delete or check files kept from the Hub",
      "  drrik cache\n"
      "  drrik cache delete openai-community/gpt2 dataset/wikitext@refs/convert/parquet\n"
      "  drrik cache verify --json\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        app.add_option("action", flags->action, "list, delete or verify")->capture_default_str();
        app.add_option("targets", flags->targets,
                       "Repositories ([TYPE/]NAME, [TYPE/]OWNER/NAME, each also @REVISION) or "
                       "commits");
        app.add_option("--repo-type", flags->type, "Only repositories of this type");
        app.add_flag("--dry-run", flags->dry_run, "Say what would be deleted, delete nothing");
        add_hub_flags(app, globals);
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
