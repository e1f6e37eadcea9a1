#pragma once
// The formats of autoencoders on disk: one file each, behind one interface, and a line in the table
// of formats.cpp (docs/formats/sae.md).

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drrik/io/torch_file.h"
#include "drrik/sae/io.h"
#include "drrik/sae/relu_sae.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/tensor/tensor.h"
#include "sae/expression.h"

namespace drrik {

/// Tensors by name, whatever file they come from.
using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// One file of tensors.
struct TensorFile {
  std::filesystem::path path;
  TensorMap tensors;            ///< Of a PyTorch file: the tensors of its dictionary.
  std::optional<PtValue> dict;  ///< The PyTorch file's whole dictionary.

  bool has(std::string_view name) const { return tensors.find(name) != tensors.end(); }
  /// Whether all of these are there.
  bool has_all(std::initializer_list<std::string_view> names) const;
  /// Absent, or of another rank: [0, 0].
  std::array<std::int64_t, 2> matrix(std::string_view name) const;
};

/// A layout of files. Errors need not name the path: the caller puts it in front.
class SaeFormat {
 public:
  virtual ~SaeFormat() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view description() const = 0;

  /// Whether a folder holds its files. Looks at names only.
  virtual bool is_folder(const std::filesystem::path&) const { return false; }
  virtual LoadedSae read_folder(const std::filesystem::path&) const;
  /// Whether a file holds its tensors. The first format in the table that says so reads it.
  virtual bool fits(const TensorFile&) const { return false; }
  virtual LoadedSae read_file(const TensorFile&) const;

  virtual bool writes() const { return true; }
  /// Makes the coder one that the format can say: see Expression.
  virtual void express(Expression&) const {}
  /// The name of the one file it is written as; "" for a folder of files.
  virtual std::string_view file_name() const { return ""; }
  /// `path` is the folder or the file. The coder went through express().
  virtual void write(const SparseCoder&, const SaeRecord&, const std::filesystem::path&) const {}
};

const std::vector<std::unique_ptr<const SaeFormat>>& sae_format_table();

// One factory per file.
std::unique_ptr<const SaeFormat> make_drrik_format();
std::unique_ptr<const SaeFormat> make_saelens_format();
std::unique_ptr<const SaeFormat> make_sparsify_format();
std::unique_ptr<const SaeFormat> make_dictionary_learning_format();
std::unique_ptr<const SaeFormat> make_gemma_scope_format();
std::unique_ptr<const SaeFormat> make_gemma_scope_2_format();
std::unique_ptr<const SaeFormat> make_llama_scope_format();
std::unique_ptr<const SaeFormat> make_crosscoder_format();
std::unique_ptr<const SaeFormat> make_openai_format();
std::unique_ptr<const SaeFormat> make_goodfire_format();
std::unique_ptr<const SaeFormat> make_circuit_tracer_format();
std::unique_ptr<const SaeFormat> make_qwen_scope_format();
std::unique_ptr<const SaeFormat> make_described_format();
std::unique_ptr<const SaeFormat> make_plain_format();

/// Takes the tensors of one coder out of a file, checking name, shape, type and finiteness of each.
/// All throw Error(data) saying what was found and what wanted.
class CoderWeights {
 public:
  explicit CoderWeights(const TensorMap& tensors) : tensors_(tensors) {}
  explicit CoderWeights(TensorMap&&) = delete;

  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// Rows and columns of a matrix.
  std::array<std::int64_t, 2> matrix(std::string_view name) const;
  std::int64_t length(std::string_view name) const;

  void read(std::string_view name, MatView<float> to);
  /// The file has the transpose.
  void read_transposed(std::string_view name, MatView<float> to);
  void read(std::string_view name, std::span<float> to);
  /// The file may keep the same elements in another shape, row-major.
  void read_shaped(std::string_view name, const std::vector<std::int64_t>& shape,
                   std::span<float> to);
  /// One value for all latents, or one each. What is below 0 becomes 0: behind a ReLU it is.
  void read_threshold(std::string_view name, std::span<float> to);
  /// Of any numeric type with one element.
  double read_scalar(std::string_view name);
  std::vector<std::int64_t> read_integers(std::string_view name);
  /// What says nothing about encoding and decoding: a statistic, a copy.
  void skip(std::string_view name) { used_.emplace(name); }
  /// Logs a warning naming the tensors nobody asked for.
  void warn_unused() const;

 private:
  const Tensor& use(std::string_view name);
  const TensorMap& tensors_;
  std::set<std::string, std::less<>> used_;
};

/// The coder of a file's configuration: what cannot be is the file's mistake (Error(data)).
SparseCoder coder_in_file(const SparseCoderConfig& config);
/// The same, where the file's own sizes say otherwise than its weights.
void expect_size(std::optional<std::int64_t> said, std::int64_t found, std::string_view what);
LoadedSae loaded_coder(SparseCoder coder, SaeRecord record, std::string_view format);

/// Every tensor of a safetensors file, borrowed.
TensorMap read_tensor_map(const std::filesystem::path& path);
/// Every tensor member of a dictionary by its key.
TensorMap tensors_of(const PtValue& dict);
/// By the file's ending. Throws Error(data) when it has no known one.
TensorFile read_tensor_file(const std::filesystem::path& path);

/// Tensors of a coder as a file keeps them. Finite or Error(numeric).
class TensorList {
 public:
  void add(std::string name, Tensor tensor);
  void add(std::string name, std::span<const float> values);
  void add(std::string name, MatView<const float> rows);
  std::vector<NamedTensor> named() const;
  /// state_dict()'s form.
  PtValue dict() const;

 private:
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

/// out [cols, rows] = mᵀ.
Tensor transposed(MatView<const float> m);

// ---- Names of places
// -----------------------------------------------------------------------------

/// TransformerLens's name as a file has it: fills hook_name, foreign_hook_name and layer.
void set_hook(const std::string& name, SaeRecord& record);
/// The name of the record's hook as files that speak TransformerLens's names have it.
std::string lens_hook_name(const SaeRecord& record);
/// The number behind `prefix` in text ("layer_12/…" and "layer_"); nothing when it is not there.
std::optional<std::int64_t> number_after(std::string_view text, std::string_view prefix);
/// Whether every row has length 1 (within 1e-3).
bool unit_rows(MatView<const float> m);

// ---- The described architecture
// ------------------------------------------------------------------

/// Hyper-parameters that a weights file may lack.
struct ReluHints {
  std::optional<double> l1_coefficient;
  std::optional<bool> normalize_decoder;  ///< Absent: whether every direction has unit length.
  std::optional<bool> pre_encoder_bias;   ///< Absent: whether the file has a bias.
  std::optional<std::int64_t> activation_dim;
  std::optional<std::int64_t> hidden_dim;
};

/// encoder.weight [h, d], decoder.weight [d, h], encoder_bias [h], optional bias [d] (the described
/// names). Throws Error(data) naming tensor, shape and the shape wanted.
ReluSae relu_from_described(const TensorMap& tensors, const ReluHints& hints);
/// W_enc, W_dec, b_enc, b_dec. SAELens keeps [d, h] and [h, d]; both matrices transposed (as
/// torch.nn.Linear keeps them) are told by the biases' lengths. `centred`: x − b_dec on input;
/// without it b_enc absorbs the difference.
ReluSae relu_from_saelens(const TensorMap& tensors, const ReluHints& hints, bool centred = true);
/// Which of the two the names fit. Throws Error(data) listing the names when neither.
ReluSae relu_from_tensors(const TensorMap& tensors, const ReluHints& hints);
/// A standard coder in the described form. Throws Error(data) for one that has none.
ReluSae relu_from_coder(const SparseCoder& coder);

// ---- The sidecar
// ---------------------------------------------------------------------------------

/// What the sidecar says of a SparseCoder beyond SAELens's files.
struct CoderHints {
  std::string architecture;  ///< "" when the sidecar is a ReluSae's.
  std::int64_t k = 0;
  std::vector<std::int64_t> groups;
  std::int64_t parts = 1;
};

/// Fills what it has; false when the folder has none.
bool read_sidecar(const std::filesystem::path& folder, SaeRecord& record, ReluHints& relu,
                  CoderHints& coder);
void write_sidecar(const ReluSae& sae, const SaeRecord& record,
                   const std::filesystem::path& folder);
void write_sidecar(const SparseCoder& coder, const SaeRecord& record,
                   const std::filesystem::path& folder);

}  // namespace drrik
