// drrik generate: the model's own continuation of a prompt.

#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/text/tokenizer.h"
#include "model_flags.h"

namespace drrik::cli {
namespace {

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string prompt;
};

void run(const Globals& globals, const Flags& flags) {
  const SamplingOptions sampling = flags.sampling.with_seed(globals);
  const Tokenizer tokenizer = Tokenizer::from_folder(resolve_model(flags.model.model));
  std::vector<std::int32_t> prompt = tokenizer.encode(flags.prompt);
  if (prompt.empty()) throw_usage("--prompt: got no tokens; give some text");
  const Model model = flags.model.load();
  StreamDecoder stream(tokenizer);
  stream.prime(prompt);
  std::string continuation;
  const auto show = [&](const std::string& piece) {
    continuation += piece;
    if (!globals.json) std::cout << piece << std::flush;
  };
  if (!globals.json) std::cout << flags.prompt << std::flush;
  const Generated generated = generate(model, prompt, sampling, [&](std::int32_t id) {
    show(stream.push(id));
    return true;
  });
  show(stream.finish());
  if (!globals.json) {
    std::cout << "\n";
    return;
  }
  const auto count = static_cast<double>(generated.ids.size());
  std::cout << Json{{"prompt", flags.prompt},
                    {"text", flags.prompt + continuation},
                    {"continuation", continuation},
                    {"prompt_ids", prompt},
                    {"ids", generated.ids},
                    {"finish", finish_name(generated.finish)},
                    {"prompt_seconds", generated.prompt_seconds},
                    {"tokens_per_second",
                     generated.decode_seconds > 0 ? count / generated.decode_seconds : 0.0}}
                   .dump(-1, ' ', false, Json::error_handler_t::replace)
            << "\n";
}

}  // namespace

Command generate_command() {
  return {"generate", "Continue a prompt with the model as it is",
          "  drrik generate --model assets/demo/model --prompt \"The sea was\"\n"
          "  drrik generate --model pythia-70m --prompt \"Once upon a time\" --temperature 0\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            flags->model.add(app);
            app.add_option("--prompt", flags->prompt, "Text to continue")->required();
            flags->sampling.add(app);
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
