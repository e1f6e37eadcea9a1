// The drrik command: parses, fills options, calls the library. The one catch-all of the program
// maps an error's kind to the exit code.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>

#include "cli.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/progress.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/ops/cpu.h"
#include "ranks.h"

namespace drrik::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      run_command(),      extract_command(),  train_command(),     eval_command(),
      encode_command(),   decode_command(),   visualize_command(), dashboard_command(),
      features_command(), steer_command(),    serve_command(),     sweep_command(),
      generate_command(), tokenize_command(), logits_command(),    hooks_command(),
      bench_command(),    data_command(),     info_command(),      convert_command(),
      download_command(), cache_command(),    config_command(),    completion_command()};
  return table;
}

namespace {

void add_global_flags(CLI::App& app, Globals& globals) {
  const char* group = "Common options";
  app.add_option("--config", globals.config_file, "YAML file of settings; flags win over it")
      ->group(group)
      ->type_name("FILE");
  add_setting(app, globals, "--log-level", "log_level")->group(group);
  add_setting(app, globals, "--threads", "threads")->group(group);
  add_setting(app, globals, "--seed", "random_seed")->group(group);
  app.add_flag("--json", globals.json, "Machine-readable result on standard output")->group(group);
}

// Later wins: defaults, --config, environment, flags.
void configure(Globals& globals) {
  Config& config = globals.config;
  std::vector<std::int64_t>& layers = config.extractor.extraction.mlp_layers;
  const std::vector<std::int64_t> default_layers = layers;
  layers = {-1};  // no layer: stays where nobody names any
  const Config::Training default_training = config.training;
  config.training.learning_rate = -1;
  config.training.batch_size = -1;
  config.training.num_epochs = -1;
  if (!globals.config_file.empty()) load_yaml(config, globals.config_file);
  apply_environment(config, process_environment());
  for (const auto& [path, text] : globals.settings) {
    set(config, path, text);
  }
  globals.layers_given = layers != std::vector<std::int64_t>{-1};
  if (!globals.layers_given) layers = default_layers;
  const auto settle = [](auto& value, auto otherwise) {
    const bool given = value >= 0;
    if (!given) value = otherwise;
    return given;
  };
  Config::Training& training = config.training;
  globals.learning_rate_given = settle(training.learning_rate, default_training.learning_rate);
  globals.batch_size_given = settle(training.batch_size, default_training.batch_size);
  globals.epochs_given = settle(training.num_epochs, default_training.num_epochs);
  set_log_level(parse_log_level(globals.config.log_level));
  if (globals.config.threads != 0) set_num_threads(static_cast<int>(globals.config.threads));
}

// CLI11 says only that an argument was not expected; say which one was probably meant.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  std::string message = error.what();
  const auto* chosen = &app;
  for (const auto* sub : app.get_subcommands()) chosen = sub;
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError)) {
    for (const std::string& extra : chosen->remaining()) {
      std::vector<std::string> names;
      for (const auto* option : chosen->get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      }
      if (chosen == &app) {
        for (const Command& command : commands()) names.emplace_back(command.name);
      }
      const bool flag = extra.rfind("--", 0) == 0;
      message = std::string(flag ? "unknown option '" : "unknown argument '") + extra + "'" +
                did_you_mean(extra.substr(0, extra.find('=')), names);
      break;
    }
  }
  return message + "; see drrik " + (chosen == &app ? "" : chosen->get_name() + " ") + "--help";
}

int fail(const Globals& globals, int code, const std::string& message) {
  report_error(message);
  if (globals.json) {
    std::cout << Json{{"error", {{"message", message}, {"exit_code", code}}}}.dump(
                     -1, ' ', false, Json::error_handler_t::replace)
              << "\n";
  }
  return code;
}

// What several ranks would do several times over, or would write over one another.
void refuse_several_ranks(std::string_view command) {
  if (ranks().size() == 1 || command == "train" || command == "extract") return;
  throw_usage("drrik ", command,
              " is not divided among ranks, as train and extract are; run it "
              "on one");
}

int run(int argc, char** argv) {
  CLI::App app{
      "drrik finds out what is going on inside a language model: it collects activations,\n"
      "trains sparse autoencoders on them, shows the features and steers with them."};
  app.name("drrik");
  app.require_subcommand(0, 1);  // one; see below
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", [] {
    return str("drrik ", version(), " (", build_description(), "; ", cpu_description(), ")");
  });
  Globals globals;
  std::vector<std::function<void()>> actions;
  std::vector<CLI::App*> subs;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->footer(std::string("Examples:\n") + command.examples);
    actions.push_back(command.make(*sub, globals));
    add_global_flags(*sub, globals);
    subs.push_back(sub);
  }
  try {
    join_ranks();
    app.parse(argc, argv);
  } catch (const Error& error) {
    return fail(globals, static_cast<int>(error.kind()), error.what());
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    for (int i = 1; i < argc; ++i) globals.json = globals.json || std::string(argv[i]) == "--json";
    return fail(globals, static_cast<int>(ErrorKind::kUsage), explain(app, error));
  }
  if (app.get_subcommands().empty()) {
    // Asked for here, so that CLI11 reports a mistyped name as unknown rather than as missing.
    return fail(globals, static_cast<int>(ErrorKind::kUsage),
                "a subcommand is missing; see drrik --help");
  }
  try {
    configure(globals);
    install_interrupt_handler();
    set_default_hub_options([&globals] { return hub_options(globals); });
    for (std::size_t i = 0; i < subs.size(); ++i) {
      if (!subs[i]->parsed()) continue;
      refuse_several_ranks(commands()[i].name);
      actions[i]();
    }
    std::cout.flush();
    if (!std::cout) throw_io("cannot write to standard output");
    return globals.exit_code;
  } catch (const Error& error) {
    return fail(globals, static_cast<int>(error.kind()), error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    // A question about a path that the system would not answer: too long a name, no permission.
    return fail(globals, static_cast<int>(ErrorKind::kIo),
                str("'", error.path1().string(), "': ", error.code().message()));
  } catch (const std::bad_alloc&) {
    return fail(globals, static_cast<int>(ErrorKind::kData), "not enough memory");
  } catch (const std::exception& error) {
    return fail(globals, 1, str("internal error: ", error.what()));
  }
}

// A thread of libgomp that waits for the others spins for milliseconds before it sleeps. Where
// another program holds one of the cores, that keeps the thread waited for from running, and small
// steps become a hundred times slower. libgomp reads its environment when it is loaded, so the
// program starts itself once more with a bound of some 50 microseconds, unless the user chose one.
void bound_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
  execv("/proc/self/exe", argv);  // where that fails, the run goes on as it is
}

}  // namespace
}  // namespace drrik::cli

int main(int argc, char** argv) {
  drrik::cli::bound_spinning(argv);
  return drrik::cli::leave_ranks(drrik::cli::run(argc, argv));
}
