// drrik logits: next-token scores of given ids as a .npy file.

#include <memory>

#include "drrik/base/error.h"
#include "drrik/io/npy.h"
#include "model_flags.h"

namespace drrik::cli {

Command logits_command() {
  return {
      "logits", "Write the logits of given token ids to a .npy file",
      "  drrik logits --model assets/demo/model --tokens \"1 2 3\" --output logits.npy\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto tokens = std::make_shared<std::string>();
        auto output = std::make_shared<std::string>();
        add_model_settings(app, globals);
        app.add_option("--tokens", *tokens, "Token ids: \"1 2 3\"")->required();
        app.add_option("--output", *output, "float32 [T, vocab]")->required()->type_name("FILE");
        return [&globals, tokens, output] {
          const TokenBatch batch = token_batch(*tokens);
          const Model model = load_model(globals.config);
          ForwardOptions options;
          options.logits = ForwardOptions::Logits::kAll;
          const Tensor logits = model.forward(batch, options);
          write_npy(*output, logits);
          emit(globals, {{"output", *output}, {"shape", logits.shape()}},
               str(*output, ": float32 ", shape_string(logits.shape())));
        };
      }};
}

}  // namespace drrik::cli
