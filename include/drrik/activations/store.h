#pragma once
// Activations on disk: a folder that numpy opens, with metadata.json beside the arrays.
// Format: docs/formats/activations.md.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drrik/activations/options.h"
#include "drrik/tensor/mat_view.h"
#include "drrik/tensor/tensor.h"

namespace drrik {

/// A text and the rows it gave.
struct SampleRecord {
  std::int64_t index = 0;  ///< Number of the row in the dataset, from 0.
  std::int64_t row = 0;    ///< Its first row of activations.
  std::int64_t rows = 0;   ///< How many: the tokens for Positions::kAll, else 1.
  std::string text;        ///< The first 200 characters, valid UTF-8.
  std::vector<std::int32_t> input_ids;
};

struct ActivationMetadata {
  ExtractorOptions config;
  bool complete = true;             ///< False while an extraction runs, or when it was cut short.
  std::int64_t num_samples = 0;     ///< Texts that gave rows.
  std::int64_t skipped = 0;         ///< Texts without a token, left out.
  std::int64_t num_rows = 0;        ///< Rows of activations.
  std::int64_t activation_dim = 0;  ///< Width of one layer's hook; a row has it for each layer.
  std::vector<std::string> layer_paths;  ///< "model.layers[3].mlp", one for each layer.
  /// "blocks.3.hook_mlp_out", one for each layer; empty when TransformerLens has no such name.
  std::vector<std::string> lens_names;
  DType dtype = DType::kF32;          ///< Of the arrays on disk.
  std::vector<SampleRecord> samples;  ///< By row; empty when not asked for or not recorded.

  std::int64_t row_dim() const {
    return activation_dim * static_cast<std::int64_t>(layer_paths.size());
  }
  struct Origin {
    std::int64_t sample = 0;    ///< Place in `samples` (not SampleRecord::index).
    std::int64_t position = 0;  ///< Of the token in its input_ids; -1 for Positions::kMean.
  };
  /// Where a row comes from. Throws Error(usage) when no sample covers it.
  Origin origin(std::int64_t row) const;
};

struct Activations {
  Tensor activations;  ///< float32 [rows, dim]
  ActivationMetadata metadata;
};

/// Writes `activations` (float32 [n, d]) and metadata into a folder, replacing a store that is
/// there (Error(usage) when files of such names are not a store's). The arrays get
/// metadata.config.extraction's store dtype and shard size. Throws Error(usage) when the numbers of
/// rows, columns or tokens and the metadata disagree, Error(io).
void save_activations(const Tensor& activations, const ActivationMetadata& metadata,
                      const std::filesystem::path& folder);

/// Reads a store (or a single .npy file, of which the metadata then only knows the shape) into
/// memory as float32; a single float32 file is mapped instead. Throws Error(data), Error(io).
Activations load_activations(const std::filesystem::path& path);

/// The metadata of a store alone. `samples` may be large: leave them out when they are not needed.
enum class WithSamples : bool { kNo, kYes };
ActivationMetadata load_activation_metadata(const std::filesystem::path& folder,
                                            WithSamples samples = WithSamples::kYes);

/// Whether a path is a folder with a store in it.
bool is_activation_store(const std::filesystem::path& path);

/// What a store or .npy file is, for people.
struct ActivationInfo {
  std::int64_t rows = 0;
  std::int64_t dim = 0;
  DType dtype = DType::kF32;
  std::uint64_t bytes = 0;  ///< Of the arrays.
  std::vector<std::string> files;
  bool has_metadata = false;
  ActivationMetadata metadata;  ///< Without samples.
};
ActivationInfo describe_activations(const std::filesystem::path& path);

/// Streams batches of rows into a store in bounded memory. Shards appear under their names when
/// complete, and metadata.json always tells what there is; whatever ends the process, the shards
/// that were closed stay valid and resume can go on from them. Not thread-safe.
class ActivationWriter {
 public:
  enum class Mode { kReplace, kResume };

  /// `head` without samples and counts; dtype, shard size and what the rows are come from it.
  /// kReplace removes the files of an earlier store in the folder, and throws Error(usage) when
  /// files of such names are not a store's. kResume continues an incomplete one and throws
  /// Error(usage) when its configuration differs, naming how. Throws Error(io).
  ActivationWriter(std::filesystem::path folder, ActivationMetadata head, Mode mode);
  ~ActivationWriter();  ///< Abandons the open shard unless suspend() or finish() was called.
  ActivationWriter(const ActivationWriter&) = delete;
  ActivationWriter& operator=(const ActivationWriter&) = delete;

  /// Where the extraction stands: read from the store by kResume, zeros otherwise.
  struct Progress {
    std::int64_t next_index = 0;  ///< Index of the first dataset row not yet taken.
    std::int64_t consumed = 0;    ///< Dataset rows taken, skipped ones counted.
    std::int64_t skipped = 0;
    /// Packed contexts: tokens of row next_index that earlier ones hold already.
    std::int64_t next_token = 0;
  };
  const Progress& progress() const;
  /// True when kResume found an extraction that was finished: nothing is left to do.
  bool already_complete() const;

  /// Adds a batch: the rows of whole samples (SampleRecord::row is set here). A shard is closed
  /// only between batches, so that a resumed extraction forms the same batches again. Throws
  /// Error(usage) when rows, samples and tokens disagree and Error(numeric) when a value overflows
  /// float16, both before anything is written; Error(io) (a full disk) loses the open shard.
  void append(MatView<const float> rows, std::vector<SampleRecord> samples,
              const Progress& progress);
  /// Closes the open shard and leaves the store incomplete, to be resumed.
  void suspend();
  /// Closes the store as complete. Returns its metadata without samples.
  ActivationMetadata finish(const Progress& progress);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drrik
