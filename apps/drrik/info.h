#pragma once
// What `drrik info` finds out, by kind of thing; cmd_info.cpp says which it is.
//
// Each fills `json` (keys are a contract: they may be added to, not renamed) and `screen`.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cli.h"
#include "screen.h"

namespace drrik::cli {

struct Info {
  Json json;
  Screen screen;
  std::string repo;  ///< The id on the Hub of a model whose weights are not here; "" for others.
};

/// What is known of a checkpoint's tensors.
struct StoredWeights {
  bool safetensors = true;
  std::vector<std::string> files;
  std::map<std::string, std::uint64_t> bytes_by_type;  ///< Empty: not known.
  std::int64_t parameters = 0;                         ///< Of floating-point types.
  std::uint64_t bytes = 0;
  std::size_t tensors = 0;
};

/// A folder with config.json: a model, also one that drrik does not run (it says why not).
void model_info(const std::filesystem::path& folder, Info& info);
/// Weights without a configuration: a file or a folder.
void weights_info(const std::filesystem::path& path, Info& info);
/// A tokenizer's file or folder.
void tokenizer_info(const std::filesystem::path& path, Info& info);
/// The rows about a tokenizer inside a model's screen, and json["tokenizer"]. Throws as Tokenizer.
void add_tokenizer(const std::filesystem::path& path, Info& info);
bool has_tokenizer(const std::filesystem::path& folder);

void sae_info(const std::filesystem::path& path, Info& info);
void activations_info(const std::filesystem::path& path, Info& info);
void arrays_info(const std::filesystem::path& npz, Info& info);
/// `count_all`: rows are counted however long that takes.
void dataset_info(const std::string& path, bool count_all, Info& info);

/// What drrik knows and does not read: GGUF files, adapters, diffusers. False where it is none.
bool foreign_info(const std::filesystem::path& path, Info& info);

/// Rows and json keys that tell which types tensors have: "dtype_on_disk", "stored_parameters",
/// "stored_bytes", "weight_files".
void add_weights(const std::filesystem::path& path, Info& info);
void show_weights(const StoredWeights& weights, Info& info);
/// The same of a model on the Hub, of whose safetensors files only the headers are fetched.
StoredWeights remote_weights(const std::string& id);

}  // namespace drrik::cli
