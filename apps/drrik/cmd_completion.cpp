// drrik completion: scripts for bash, zsh and fish, made from the same table as --help.

#include <iostream>

#include "cli.h"
#include "drrik/base/error.h"

namespace drrik::cli {
namespace {

struct Sub {
  std::string name;
  std::string summary;
  std::vector<std::string> flags;
};

std::vector<Sub> describe(const CLI::App& root) {
  std::vector<Sub> subs;
  for (const CLI::App* sub : root.get_subcommands({})) {
    Sub entry{sub->get_name(), sub->get_description(), {}};
    for (const CLI::Option* option : sub->get_options()) {
      for (const std::string& name : option->get_lnames()) entry.flags.push_back("--" + name);
    }
    subs.push_back(entry);
  }
  return subs;
}

std::string bash_script(const std::vector<Sub>& subs) {
  std::string names;
  std::string cases;
  for (const Sub& sub : subs) {
    names += (names.empty() ? "" : " ") + sub.name;
    cases += "    " + sub.name + ") words=\"" + join(sub.flags, " ") + "\" ;;\n";
  }
  return "_drrik() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} words\n"
         "  case ${COMP_WORDS[1]} in\n" +
         cases +
         "    *) words=\"--help --version\" ;;\n"
         "  esac\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then words=\"" +
         names +
         " --help --version\"; fi\n"
         "  if [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "  else\n"
         "    COMPREPLY=($(compgen -f -- \"$cur\"))\n"
         "  fi\n"
         "}\n"
         "complete -o filenames -F _drrik drrik\n";
}

std::string zsh_script(const std::vector<Sub>& subs) {
  return "#compdef drrik\nautoload -U +X bashcompinit && bashcompinit\n" + bash_script(subs);
}

std::string fish_script(const std::vector<Sub>& subs) {
  std::string text;
  for (const Sub& sub : subs) {
    std::string summary = sub.summary;
    for (std::size_t at = 0; (at = summary.find('\'', at)) != std::string::npos; at += 2) {
      summary.replace(at, 1, "\\'");
    }
    text += "complete -c drrik -n __fish_use_subcommand -a " + sub.name + " -d '" + summary + "'\n";
    for (const std::string& flag : sub.flags) {
      text += "complete -c drrik -n '__fish_seen_subcommand_from " + sub.name + "' -l " +
              flag.substr(2) + "\n";
    }
  }
  return text;
}

}  // namespace

Command completion_command() {
  return {"completion", "Print a completion script for a shell",
          "  drrik completion bash > /etc/bash_completion.d/drrik\n"
          "  drrik completion fish > ~/.config/fish/completions/drrik.fish\n",
          [](CLI::App& app, Globals&) -> std::function<void()> {
            auto shell = std::make_shared<std::string>();
            app.add_option("shell", *shell, "bash, zsh or fish")->required();
            return [&app, shell] {
              const std::vector<Sub> subs = describe(*app.get_parent());
              if (*shell == "bash") {
                std::cout << bash_script(subs);
              } else if (*shell == "zsh") {
                std::cout << zsh_script(subs);
              } else if (*shell == "fish") {
                std::cout << fish_script(subs);
              } else {
                throw_usage("shell '", *shell, "' is unknown; wanted bash, zsh or fish");
              }
            };
          }};
}

}  // namespace drrik::cli
