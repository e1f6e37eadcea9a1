// drrik train: an autoencoder on activations.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "coders.h"
#include "drrik/base/error.h"
#include "options.h"
#include "pipeline.h"
#include "ranks.h"

namespace drrik::cli {
namespace {

std::string summary(const Trained& trained, const std::string& output) {
  if (trained.already_complete) return str(output, ": was finished already");
  const FitResult& fit = trained.fit;
  char line[256];
  std::snprintf(line, sizeof line,
                "%lld steps in %.1f s (%.0f rows/s); loss %.6g, L0 %.2f; %lld of %lld latents dead",
                static_cast<long long>(fit.steps), fit.seconds, fit.rows_per_second,
                fit.final_train_loss, fit.final_l0_norm,
                static_cast<long long>(fit.n_dead_features),
                static_cast<long long>(trained.hidden_dim));
  return output + ": " + line;
}

void add_coder_settings(CLI::App& app, Globals& globals, CoderCommand& command) {
  const char* const group = "Architectures beside relu";
  const auto setting = [&](const char* flag, const char* path) {
    add_setting(app, globals, flag, path)->group(group);
  };
  setting("-k,--k", "autoencoder.k");
  setting("--groups", "autoencoder.groups");
  setting("--sparsity-coefficient", "autoencoder.sparsity_coefficient");
  setting("--aux-coefficient", "autoencoder.aux_coefficient");
  setting("--aux-k", "autoencoder.aux_k");
  setting("--bandwidth", "autoencoder.bandwidth");
  setting("--threshold-init", "autoencoder.threshold_init");
  setting("--jumprelu-loss", "autoencoder.jumprelu_loss");
  setting("--target-l0", "autoencoder.target_l0");
  setting("--decoder", "autoencoder.decoder");
  setting("--initial-bias", "autoencoder.initial_bias");
  setting("--normalize-activations", "training.normalize_activations");
  setting("--compute", "training.compute");
  setting("--warmup-steps", "training.warmup_steps");
  setting("--decay-steps", "training.decay_steps");
  setting("--sparsity-warmup-steps", "training.sparsity_warmup_steps");
  setting("--beta1", "training.beta1");
  setting("--beta2", "training.beta2");
  setting("--weight-decay", "training.weight_decay");
  setting("--clip-norm", "training.clip_norm");
  setting("--dead-steps", "training.dead_steps");
  setting("--checkpoint-minutes", "training.checkpoint_minutes");
  setting("--checkpoint-steps", "training.checkpoint_steps");
  setting("--log-every", "training.log_every");
  add_switch(app, globals, "--cosine", "training.cosine", "true",
             "Let the learning rate fall by a cosine")
      ->group(group);
  add_switch(app, globals, "--skip-connection", "autoencoder.skip", "true",
             "Transcoders: a linear map of the input beside the latents")
      ->group(group);
  app.add_option("--sweep", command.sweep,
                 "Train one coder for each value, and each combination, on the same pass: "
                 "k=16,32,64; seed=1,2; arch=topk,jumprelu (repeatable)")
      ->type_name("OPTION=V,V,...")
      ->group(group);
  app.add_option("--targets", command.targets,
                 "Transcoder: activations of the same tokens that are to be reconstructed")
      ->type_name("DIR")
      ->group(group);
  app.add_flag("--crosscoder", command.crosscoder, "One coder for all layers of the activations")
      ->group(group);
}

// Training on rows straight from a model.
void add_live_settings(CLI::App& app, Globals& globals, CoderCommand& command) {
  const std::vector<CLI::Option*> before = app.get_options();
  add_setting(app, globals, "--model", "extractor.model.model_name");
  add_setting(app, globals, "--revision", "extractor.model.revision");
  add_dataset_settings(app, globals);
  add_setting(app, globals, "--max-length", "extractor.dataset.max_length");
  add_bos_settings(app, globals);
  add_setting(app, globals, "--layers", "extractor.extraction.mlp_layers");
  add_setting(app, globals, "--hook", "extractor.extraction.hook");
  add_setting(app, globals, "--dtype", "extractor.model.torch_dtype");
  add_setting(app, globals, "--stream-weights", "extractor.model.stream_weights");
  app.add_option("--target-hook", command.target_hook,
                 "Transcoder: the hook of the same layers that is to be given");
  app.add_option("--buffer-rows", command.buffer_rows, "Rows in the shuffle buffer at most")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  app.add_flag("--keep-special-tokens", command.keep_special_tokens,
               "Also learn from the rows of BOS, EOS and other special tokens");
  app.add_option("--sink-multiple", command.sink_multiple,
                 "Leave out rows whose norm exceeds so many times the median; 0 keeps them")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e9));
  for (CLI::Option* option : app.get_options()) {
    if (std::ranges::find(before, option) == before.end()) {
      option->group("Live from a model, instead of --activations");
    }
  }
}

}  // namespace

Command train_command() {
  return {
      "train", "Train a sparse autoencoder on activations",
      "  drrik train --activations acts --hidden-dim 4096 --epochs 10 --output sae\n"
      "  drrik train --activations acts.npy --expansion 16 --steps 20000 --output sae --resume\n"
      "  drrik train --activations acts --arch topk --sweep k=16,32,64 --sweep seed=1,2 --output "
      "saes\n"
      "  drrik train --arch batchtopk --model assets/demo/model --dataset assets/demo/text.jsonl "
      "--layers 2,3 --output saes\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto job = std::make_shared<TrainJob>();
        auto coders = std::make_shared<CoderCommand>();
        app.add_option("--activations", job->activations, "Activation folder or .npy file");
        app.add_option("--output", job->output, "Folder of the autoencoder");
        app.add_option("--export-pt", job->export_pt,
                       "Also write the described PyTorch dictionary to this file")
            ->type_name("FILE.pt");
        add_setting(app, globals, "--arch", "autoencoder.architecture");
        add_setting(app, globals, "--hidden-dim", "autoencoder.hidden_dim");
        add_setting(app, globals, "--expansion", "autoencoder.expansion");
        add_setting(app, globals, "--l1-coefficient", "autoencoder.l1_coefficient");
        add_setting(app, globals, "--batch-size", "training.batch_size");
        add_setting(app, globals, "--epochs", "training.num_epochs");
        add_setting(app, globals, "--steps", "training.steps");
        add_setting(app, globals, "--learning-rate", "training.learning_rate");
        add_setting(app, globals, "--validation-split", "training.validation_split");
        add_setting(app, globals, "--resample-interval", "training.resample_interval");
        app.add_option("--init", job->init, "Weights to start from: safetensors, .pt or folder");
        app.add_flag("--resume", job->resume, "Continue from the checkpoint in the output folder");
        add_switch(app, globals, "--no-shuffle", "training.shuffle", "false",
                   "Take rows in their order");
        add_switch(app, globals, "--no-resample", "training.resample_dead_neurons", "false",
                   "Leave dead latents as they are");
        add_switch(app, globals, "--no-pre-encoder-bias", "autoencoder.pre_encoder_bias", "false",
                   "No tied bias");
        add_switch(app, globals, "--no-normalize-decoder", "autoencoder.normalize_decoder", "false",
                   "Leave the decoder's columns free");
        add_coder_settings(app, globals, *coders);
        add_live_settings(app, globals, *coders);
        return [&globals, job, coders] {
          job->record_steps = globals.json;
          // A sweep over architectures names them itself.
          const bool swept = std::ranges::any_of(coders->sweep, [](const std::string& text) {
            return text.starts_with("arch=") || text.starts_with("architecture=") ||
                   text.starts_with("autoencoder.architecture=");
          });
          const bool described = !swept && globals.config.autoencoder.architecture == "relu";
          const bool live = job->activations.empty() && globals.given("extractor.model.model_name");
          if (live && described) {
            throw_usage(
                "--model trains live, which the architectures beside relu do; --arch names "
                "one, or extract first and give --activations");
          }
          if (live) {
            settle_hook(globals);
          } else {
            job->activations = globals.folder_or(job->activations, "--activations",
                                                 "extractor.extraction.output_dir");
          }
          job->output = globals.folder_or(job->output, "--output", "autoencoder.output_dir");
          if (std::filesystem::path(job->output).extension() == ".pt") {
            throw_usage("--output '", job->output,
                        "' names a folder; --export-pt writes a .pt file beside it");
          }
          if (!described) {
            if (!job->export_pt.empty()) {
              throw_usage(
                  "--export-pt writes the described architecture, --arch relu; "
                  "'drrik convert' writes others");
            }
            coders->activations = job->activations;
            coders->output = job->output;
            coders->init = job->init;
            coders->resume = job->resume;
            const TrainedCoders trained = train_coder_folders(globals, *coders);
            emit(globals, coders_json(trained, job->output), coders_text(trained, job->output));
            return;
          }
          if (ranks().size() > 1) {
            throw_usage(
                "--arch relu, the default, trains on one rank; --arch standard is like it "
                "and, as the other architectures, trains on several");
          }
          const Trained trained = train_autoencoder(globals.config, *job);
          emit(globals, training_json(trained, job->output), summary(trained, job->output));
        };
      }};
}

}  // namespace drrik::cli
