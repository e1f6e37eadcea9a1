// drrik generate: the model's own continuation of a prompt.

#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/text/tokenizer.h"
#include "model_flags.h"
#include "options.h"

namespace drrik::cli {
namespace {

struct Flags {
  SamplingOptions sampling;
  std::string prompt;
};

void run(const Globals& globals, const Flags& flags) {
  SamplingOptions sampling = flags.sampling;
  sampling.seed = globals.seed();
  sampling.validate();
  const Tokenizer tokenizer = open_tokenizer(globals.config);
  std::vector<std::int32_t> prompt = tokenizer.encode(flags.prompt);
  if (prompt.empty()) throw_usage("--prompt: got no tokens; give some text");
  const Model model = load_model(globals.config);
  if (model.config().eos_ids.empty() && tokenizer.eos_id()) {
    sampling.stop_ids.push_back(*tokenizer.eos_id());
  }
  StreamDecoder stream(tokenizer);
  stream.prime(prompt);
  std::string continuation;
  PromptedOutput output(flags.prompt);
  const auto show = [&](const std::string& piece) {
    continuation += piece;
    if (!globals.json) output.write(piece);
  };
  const Generated generated = generate(model, prompt, sampling, [&](std::int32_t id) {
    show(stream.push(id));
    return true;
  });
  show(stream.finish());
  if (!globals.json) {
    output.finish();
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
          "  drrik generate --model pythia-70m --prompt \"Once upon a time\" --temperature 0.8\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            SamplingOptions& sampling = flags->sampling;
            sampling.temperature = 0.0;  // the model's own continuation, unless asked otherwise
            sampling.top_p = 0.9;
            add_model_settings(app, globals);
            add_bos_settings(app, globals);
            app.add_option("--prompt", flags->prompt, "Text to continue")->required();
            app.add_option("--max-new-tokens", sampling.max_new_tokens, "Tokens to write at most")
                ->capture_default_str();
            app.add_option("--temperature", sampling.temperature,
                           "0 is greedy; more is more varied")
                ->capture_default_str();
            app.add_option("--top-p", sampling.top_p, "Nucleus; 1 is off")->capture_default_str();
            app.add_option("--top-k", sampling.top_k, "Keep so many tokens; 0 is off")
                ->capture_default_str();
            app.add_option("--repetition-penalty", sampling.repetition_penalty, "1 is off")
                ->capture_default_str();
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
