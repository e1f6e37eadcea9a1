#pragma once
// Sparse autoencoders on disk. Formats are described in docs/formats/sae.md.
//
// Written: a folder in SAELens's layout (cfg.json, sae_weights.safetensors) with our sidecar
// drrik.json (hyper-parameters, history, provenance); the described PyTorch .pt.
// Read: both, plain safetensors of the described names, and .pt files with SAELens's names.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "drrik/sae/relu_sae.h"
#include "drrik/sae/sae.h"

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
  std::int64_t layer = -1;        ///< -1 unknown.
  std::string dataset;            ///< What the activations were taken from.
  std::int64_t context_size = 0;  ///< 0 unknown.
  /// What was done to activations before they reached the SAE: "none" for ours.
  std::string normalize_activations = "none";
  SaeHistory history;
  std::map<std::string, double> metrics;     ///< final_train_loss and so on.
  std::map<std::string, std::string> facts;  ///< Anything else: settings of the run, versions.
};

struct LoadedSae {
  std::unique_ptr<Sae> sae;
  SaeRecord record;
  std::string format;  ///< "saelens", "described .pt", …: for `drrik info`.
};

/// An SAE folder, a .pt file or a .safetensors file. Throws Error(io); Error(data) starting with
/// the path, naming the tensor, its shape and the one wanted, or the architecture that is not
/// known.
LoadedSae load_sae_with_record(const std::filesystem::path& path);
std::unique_ptr<Sae> load_sae(const std::filesystem::path& path);
/// The same, for callers that need the described architecture (`train --init`, .pt export).
std::unique_ptr<ReluSae> load_relu_sae(const std::filesystem::path& path,
                                       SaeRecord* record = nullptr);

/// Whether the path looks like something load_sae reads (a folder with cfg.json and weights, or a
/// file ending in .pt, .pth or .safetensors). Reads nothing.
bool is_sae_path(const std::filesystem::path& path);

/// Names of the architectures that can be loaded: "relu".
std::vector<std::string> sae_architectures();

/// Writes the folder; each file is atomic, drrik.json last. Throws Error(io), Error(numeric) when a
/// weight is NaN or infinite.
void save_sae(const ReluSae& sae, const SaeRecord& record, const std::filesystem::path& folder);
/// The description's dictionary, readable by torch.load(weights_only=True).
void save_torch_sae(const ReluSae& sae, const SaeRecord& record, const std::filesystem::path& path);

}  // namespace drrik
