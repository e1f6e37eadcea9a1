// drrik hooks: the activations of given ids at one hook point as a .npy file.

#include <memory>
#include <optional>

#include "drrik/base/error.h"
#include "drrik/io/npy.h"
#include "drrik/model/hook_names.h"
#include "model_flags.h"

namespace drrik::cli {

Command hooks_command() {
  return {"hooks", "Write the activations of given token ids at a hook to a .npy file",
          "  drrik hooks --model assets/demo/model --tokens \"1 2 3\" --hook mlp_out --layer 2 "
          "--output acts.npy\n"
          "  drrik hooks --model gpt2 --tokens \"1 2 3\" --hook transformer.h[3].mlp --output "
          "acts.npy\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            struct Flags {
              std::string tokens;
              std::string hook = "mlp_out";
              std::optional<std::int64_t> layer;
              std::string output;
            };
            auto flags = std::make_shared<Flags>();
            add_model_settings(app, globals);
            app.add_option("--tokens", flags->tokens, "Token ids: \"1 2 3\"")->required();
            app.add_option("--hook", flags->hook, hook_help())->capture_default_str();
            app.add_option("--layer", flags->layer, "Layer, from 0, where the hook names none");
            app.add_option("--output", flags->output, "float32 [T, dim]")
                ->required()
                ->type_name("FILE");
            return [&globals, flags] {
              const TokenBatch batch = token_batch(flags->tokens);
              const ModelConfig config = read_model_config(resolve_model(globals.config));
              const Hook hook = parse_hook(flags->hook, flags->layer, config);
              const Model model = load_model(globals.config, {.skip_head = true});
              model.check_hook(hook);
              Tensor out(DType::kF32, {batch.rows(), model.hook_width(hook.point)});
              model.forward(
                  batch, {.hooks = {hook}, .on_hook = [&](const Hook&, MatView<float> rows) {
                            for (std::int64_t r = 0; r < rows.rows(); ++r) {
                              std::ranges::copy(rows.row(r), out.mutable_mat<float>().row_ptr(r));
                            }
                          }});
              write_npy(flags->output, out);
              emit(globals,
                   {{"output", flags->output},
                    {"shape", out.shape()},
                    {"hook", hook_name(hook.point)},
                    {"layer", hook.layer},
                    {"transformer_lens", transformer_lens_name(hook, config)},
                    {"module", model.module_path(hook)}},
                   str(flags->output, ": float32 ", shape_string(out.shape()), " at ",
                       model.module_path(hook)));
            };
          }};
}

}  // namespace drrik::cli
