#pragma once
// The tensors of a checkpoint, whatever files hold them.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/tensor/tensor.h"

namespace drrik {

/// One tensor of a checkpoint.
struct StoredTensor {
  std::string dtype_text;           ///< In its file's words: "BF16", "float8_e4m3fn".
  std::optional<DType> dtype;       ///< Nothing for a type that Tensor cannot hold.
  std::vector<std::int64_t> shape;  ///< Rank 0 and sizes of 0 are legal.
  std::uint64_t bytes = 0;
  std::size_t file = 0;  ///< Position in files().
};

/// A folder's weights, or one file of them. Const and safe to use from several threads.
class WeightFiles {
 public:
  enum class Format : std::uint8_t { kSafetensors, kTorch };

  /// `path` is a folder, of which the first of these is taken, as transformers does:
  /// model.safetensors, model.safetensors.index.json, pytorch_model.bin,
  /// pytorch_model.bin.index.json (weight_map says which file holds a tensor, names must be plain
  /// file names beside the index); or one of such files itself under any name (.safetensors, .bin,
  /// .pt, .pth, .json). A PyTorch file holds a dict of tensors, or one under "state_dict",
  /// "model_state_dict" or "model".
  ///
  /// Every file is opened and every name of an index looked up, so that an incomplete download is
  /// told at once. Throws Error(io); Error(data) naming file and tensor, and saying what else a
  /// folder without weights holds (foreign_weights()).
  static WeightFiles open(const std::filesystem::path& path);
  ~WeightFiles();
  WeightFiles(WeightFiles&&) noexcept;
  WeightFiles& operator=(WeightFiles&&) noexcept;

  Format format() const { return format_; }
  const std::vector<std::filesystem::path>& files() const { return files_; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  /// Null when absent.
  const StoredTensor* find(std::string_view name) const;
  /// Borrows the mapped bytes where they lie as Tensor needs them. Throws Error(data) when absent
  /// (with the nearest name) or of a type that Tensor cannot hold.
  Tensor get(std::string_view name) const;
  /// The file that holds `name`; throws Error(data) when absent.
  const std::filesystem::path& file_of(std::string_view name) const;
  /// Sum over all tensors; bytes that several share count for each.
  std::uint64_t total_bytes() const;

 private:
  class File;
  WeightFiles();
  void add_file(const std::filesystem::path& file);
  void add_index(const std::filesystem::path& index);
  const StoredTensor& stored(std::string_view name) const;
  std::filesystem::path path_;
  Format format_ = Format::kSafetensors;
  std::vector<std::filesystem::path> files_;
  std::vector<std::unique_ptr<File>> opened_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

/// What a folder holds instead of weights that WeightFiles reads, and what to do about it: "it has
/// model.gguf, …" for GGUF, adapters, TensorFlow, Flax, ONNX, diffusers and original checkpoints.
/// "" when nothing is known. Never throws for what it finds.
std::string foreign_weights(const std::filesystem::path& folder);

}  // namespace drrik
