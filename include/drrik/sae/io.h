#pragma once
// Sparse autoencoders on disk. Formats are described in docs/formats/sae.md.
//
// Ours is a folder in SAELens's layout (cfg.json, sae_weights.safetensors) with a sidecar
// drrik.json (hyper-parameters, history, provenance). sae_formats() lists what else is read and
// written.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/sae/relu_sae.h"
#include "drrik/sae/sae.h"
#include "drrik/sae/sparse_coder.h"

namespace drrik {

/// One value an epoch. NaN where there was no validation split.
struct SaeHistory {
  std::vector<double> training_losses;
  std::vector<double> training_l0_norms;
  std::vector<double> validation_losses;
  std::vector<double> validation_l0_norms;
};

/// What is known about an SAE beside its weights.
struct SaeRecord {
  std::string model_name;  ///< "" unknown, as below.
  std::string hook_name;   ///< Ours, "mlp_out", or the file's name where it is none of them.
  /// As SAELens's cfg.json has it, "blocks.3.hook_mlp_out": in models whose blocks have norms
  /// behind their modules it can mean another point than hook_name. Written there when not empty.
  std::string foreign_hook_name;
  std::string foreign_hook_name_out;  ///< Transcoders: where the output belongs, by its file.
  std::int64_t layer = -1;            ///< -1 unknown.
  std::string dataset;                ///< What the activations were taken from.
  std::int64_t context_size = 0;      ///< 0 unknown.
  /// What is done to rows before they reach the weights: "none", or a coder's RowNormalization in
  /// SAELens's words, "layer_norm".
  std::string normalize_activations = "none";
  /// Share of rows on which each latent is active, [h]; empty: unknown.
  std::vector<double> densities;
  SaeHistory history;
  std::map<std::string, double> metrics;     ///< final_train_loss and so on.
  std::map<std::string, std::string> facts;  ///< Anything else: settings of the run, versions.
};

struct LoadedSae {
  std::unique_ptr<Sae> sae;
  SaeRecord record;
  std::string format;  ///< "saelens", "described .pt", …: for `drrik info`.
};

/// A folder or file of any of sae_formats(). Plain ReLU autoencoders in the described .pt, in plain
/// tensors of its names, and in SAELens's layout are a ReluSae; everything else is a SparseCoder.
/// Throws Error(io); Error(data) starting with the path, naming the tensor, its shape and the one
/// wanted, or the architecture that is not known.
LoadedSae load_sae_with_record(const std::filesystem::path& path);
std::unique_ptr<Sae> load_sae(const std::filesystem::path& path);
/// The same, for callers that need the described architecture (`train --init`, .pt export): also
/// from other formats, where it can be said so.
std::unique_ptr<ReluSae> load_relu_sae(const std::filesystem::path& path,
                                       SaeRecord* record = nullptr);
/// The same as a SparseCoder: a ReluSae is "standard".
SparseCoder load_sparse_coder(const std::filesystem::path& path, SaeRecord* record = nullptr);
/// A copy. Throws Error(usage) for an Sae of neither class.
SparseCoder to_sparse_coder(const Sae& sae);

/// Whether the path looks like something load_sae reads (a folder of one of the formats, or a file
/// ending in .pt, .pth, .npz or .safetensors). Reads nothing.
bool is_sae_path(const std::filesystem::path& path);

/// Names of the architectures that `train` knows: "relu".
std::vector<std::string> sae_architectures();

/// Writes the folder; each file is atomic, drrik.json last. Throws Error(io), Error(numeric) when a
/// weight is NaN or infinite.
void save_sae(const ReluSae& sae, const SaeRecord& record, const std::filesystem::path& folder);
/// The same. SAELens opens it where it has the architecture; the sidecar keeps what it lacks (k and
/// groups of batchtopk and matryoshka, which it takes for a JumpReLU). Decoder norms are folded,
/// so that features stay what they were and config().rescale_by_decoder_norm is off in the file.
void save_sae(const SparseCoder& coder, const SaeRecord& record,
              const std::filesystem::path& folder);
/// The description's dictionary, readable by torch.load(weights_only=True).
void save_torch_sae(const ReluSae& sae, const SaeRecord& record, const std::filesystem::path& path);

struct SaeFormatInfo {
  std::string name;         ///< "sparsify": what save_sae_as takes.
  std::string description;  ///< "sparsify: cfg.json, sae.safetensors"
  bool written = false;
};

/// Everything that is read; docs/formats/sae.md says what each can hold.
std::vector<SaeFormatInfo> sae_formats();

struct SavedSae {
  std::filesystem::path path;  ///< What was written: the folder, or the file.
  /// What the format cannot say and the weights say instead, a line each: "the batch's threshold
  /// became every latent's".
  std::vector<std::string> folded;
};

/// Writes the coder in a format of sae_formats(). `path` is a folder; for formats of one file also
/// that file, by its ending. Throws Error(usage) for an unknown format; Error(data) where the
/// format cannot hold the coder without a change of what it does, saying why; Error(numeric) when a
/// weight is NaN or infinite; Error(io).
SavedSae save_sae_as(const SparseCoder& coder, const SaeRecord& record, std::string_view format,
                     const std::filesystem::path& path);

}  // namespace drrik
