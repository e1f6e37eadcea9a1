#pragma once
// "A local folder or a Hub id", as --model takes it.

#include <filesystem>
#include <optional>
#include <string>

#include "drrik/hub/client.h"

namespace drrik {

/// Whether `name` can only mean a repository on the Hub: a valid id, and not a path ("./x", "/x").
bool looks_like_repo_id(const std::string& name);

/// The folder of a model: `name` itself when it is a folder on this machine, else the model of that
/// id on the Hub, fetched or cached, by the default options. Throws Error(usage) when empty or a
/// file; Error(io) telling that both were tried.
std::filesystem::path resolve_model_folder(const std::string& name,
                                           const std::string& revision = "main",
                                           ModelPart part = ModelPart::kWhole);

/// The same without any request: nothing when it is neither a local folder nor wholly cached.
std::optional<std::filesystem::path> find_model_folder(const std::string& name,
                                                       const std::string& revision = "main",
                                                       ModelPart part = ModelPart::kWhole);

}  // namespace drrik
