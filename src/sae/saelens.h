#pragma once
// SAELens's folder: cfg.json and sae_weights.safetensors (docs/formats/sae.md).

#include <filesystem>
#include <string>
#include <string_view>

#include "sae/format.h"

namespace drrik {

/// The layout written is the one of this version on; without it readers take the older one.
inline constexpr const char* kSaelensLayout = "6.0.0";
inline constexpr const char* kSaelensConfig = "cfg.json";
inline constexpr const char* kSaelensWeights = "sae_weights.safetensors";
inline constexpr const char* kSaelensSparsity = "sparsity.safetensors";

/// The folder with or without our sidecar.
LoadedSae load_saelens(const std::filesystem::path& folder);
/// A coder without decoder norms to measure by. Batchtopk and matryoshka are written as the
/// jumprelu that they are for single rows.
void write_saelens(const SparseCoder& coder, const SaeRecord& record,
                   const std::filesystem::path& folder);

/// What SAELens calls a coder, "jumprelu_skip_transcoder". Where it has no such architecture the
/// name is made in its manner, so that it refuses the folder instead of misreading it:
/// "topk_transcoder", "signed_topk".
std::string saelens_architecture(const SparseCoder& coder, bool transcoder);

}  // namespace drrik
