// drrik download: files of a repository on the Hub into the cache (or a folder); prints where.

#include <memory>

#include "cli.h"
#include "drrik/base/error.h"
#include "drrik/hub/client.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string repo;
  std::string type = "model";
  std::string revision = "main";
  SnapshotOptions wanted;
  std::string local_dir;
  int workers = 8;
};

void run(const Globals& globals, const Flags& flags) {
  const Repo repo{parse_repo_type(flags.type), flags.repo, flags.revision};
  SnapshotOptions wanted = flags.wanted;
  wanted.local_dir = flags.local_dir;
  if (!wanted.files.empty() && !(wanted.include.empty() && wanted.exclude.empty())) {
    throw_usage("download: name files, or choose them with --include and --exclude, not both");
  }
  HubOptions options = hub_options(globals);
  options.workers = flags.workers;
  const Snapshot made = HubClient(options).download_snapshot(repo, wanted);
  // One file that was named is what the caller wants to open.
  const bool one = wanted.files.size() == 1;
  const std::string path = one ? (made.folder / made.files.front()).string() : made.folder.string();
  emit(globals,
       {{"path", path},
        {"repo", repo.id},
        {"type", repo_type_name(repo.type)},
        {"revision", repo.revision},
        {"commit", made.commit},
        {"files", made.files}},
       path);
}

}  // namespace

Command download_command() {
  return {"download", "Fetch a model or dataset from the Hub; prints the folder it is in",
          "  drrik download openai-community/gpt2\n"
          "  drrik download openai-community/gpt2 config.json tokenizer.json --revision main\n"
          "  drrik download wikitext --repo-type dataset --include 'wikitext-2-v1/*'\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            app.add_option("repo", flags->repo, "Repository: NAME or OWNER/NAME")->required();
            app.add_option("files", flags->wanted.files, "Files in it (default: all)");
            app.add_option("--repo-type", flags->type, "model, dataset or space")
                ->capture_default_str();
            app.add_option("--revision", flags->revision, "Branch, tag, commit or refs/pr/N")
                ->capture_default_str();
            app.add_option("--include", flags->wanted.include,
                           "Only files that match one of these patterns ('*' also matches '/')");
            app.add_option("--exclude", flags->wanted.exclude, "No file that matches one of these");
            app.add_option("--local-dir", flags->local_dir,
                           "Put plain files there instead of into the cache")
                ->type_name("DIR");
            app.add_flag("--force-download,--force", flags->wanted.force,
                         "Fetch again what is there already");
            app.add_option("--max-workers", flags->workers, "Files fetched at once")
                ->capture_default_str();
            app.add_option("--token", globals.hub.token,
                           "Access token (better in HF_TOKEN: others see a command's arguments)");
            add_hub_flags(app, globals);
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
