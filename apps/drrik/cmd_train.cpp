// drrik train: an autoencoder on activations.

#include <cstdio>
#include <filesystem>
#include <memory>

#include "drrik/base/error.h"
#include "pipeline.h"

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

}  // namespace

Command train_command() {
  return {
      "train", "Train a sparse autoencoder on activations",
      "  drrik train --activations acts --hidden-dim 4096 --epochs 10 --output sae\n"
      "  drrik train --activations acts.npy --expansion 16 --steps 20000 --output sae --resume\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto job = std::make_shared<TrainJob>();
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
        return [&globals, job] {
          job->record_steps = globals.json;
          job->activations = globals.folder_or(job->activations, "--activations",
                                               "extractor.extraction.output_dir");
          job->output = globals.folder_or(job->output, "--output", "autoencoder.output_dir");
          if (std::filesystem::path(job->output).extension() == ".pt") {
            throw_usage("--output '", job->output,
                        "' names a folder; --export-pt writes a .pt file beside it");
          }
          const Trained trained = train_autoencoder(globals.config, *job);
          emit(globals, training_json(trained, job->output), summary(trained, job->output));
        };
      }};
}

}  // namespace drrik::cli
