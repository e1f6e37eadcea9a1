#pragma once
// What an extraction is made of: the three groups of the described configuration.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "drrik/data/source.h"
#include "drrik/model/hook.h"
#include "drrik/model/model.h"
#include "drrik/tensor/dtype.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

/// Which of a text's tokens give rows.
enum class Positions : std::uint8_t {
  kLast,   ///< The last real token: one row a text.
  kAll,    ///< Every token: as many rows as tokens.
  kFirst,  ///< The first token (a BOS, when the tokenizer adds one).
  kMean    ///< The mean over the text's tokens, summed in float64: one row a text.
};
/// "last", "all", "first", "mean".
std::string_view positions_name(Positions positions);
/// Throws Error(usage) naming the known ones.
Positions parse_positions(std::string_view name);

/// Configuration of an ActivationExtractor. Field names are those of the described Python package,
/// so that its users find them again.
struct ExtractorOptions {
  struct ModelGroup {
    std::string model_name;         ///< A folder in HuggingFace layout, or a Hub id.
    std::string revision = "main";  ///< Branch, tag or commit, for a model from the Hub.
    /// Precision of the matrix products: kBF16, or kF32. kF16 is computed in float32, for lack of
    /// float16 products on CPUs; its weights stay as the file stores them until they are used.
    DType torch_dtype = DType::kF16;
    std::string device_map = "auto";  ///< "auto" or "cpu".
    /// Where the weights are while it runs; the numbers do not depend on it, and no store records
    /// it.
    Residency residency = Residency::kAuto;
    /// Accepted for the sake of old configurations. Code from a model folder is never run.
    bool trust_remote_code = false;
  } model;

  struct DatasetGroup {
    std::string dataset_name;               ///< A file, folder, glob or Hub id.
    std::string dataset_config;             ///< Configuration of a folder or a Hub dataset.
    std::string dataset_revision = "main";  ///< Branch, tag or commit of one.
    std::string split = "train";            ///< Split of a folder or a Hub dataset.
    std::int64_t shuffle_seed = -1;  ///< Rows in random order, by this seed; negative: as is.
    std::int64_t skip = 0;           ///< Rows left out at the front, after shuffling.
    std::int64_t num_samples = -1;   ///< Rows taken from there on; negative: all.
    std::string text_column;         ///< Empty: "text", or the only string column.
    std::int64_t max_length =
        512;  ///< Tokens kept of each text; also cut to the model's positions.
    bool add_special_tokens = true;  ///< Whether the tokenizer's template (BOS, EOS) is applied.
    BosRule bos = BosRule::kAsTokenizer;  ///< Whether BOS stands before a text.
    /// Texts are joined into contexts of max_length tokens instead of each being cut at it. A text
    /// begins with what the tokenizer's template puts before it or, where that is nothing (GPT-2),
    /// with the BOS token; the last context may be shorter. A context is a sample: its index is
    /// that of its first text. Source: SAELens' concat_and_batch_sequences.
    bool pack = false;
    SampleBy sample_by = SampleBy::kLine;  ///< What a sample of a plain text file is.
  } dataset;

  struct ExtractionGroup {
    std::vector<std::int64_t> mlp_layers;  ///< Zero-based; columns are joined in this order.
    HookPoint hook = HookPoint::kMlpOut;
    Positions positions = Positions::kLast;
    /// Texts in a forward pass at most; 0: as many as max_batch_tokens allows.
    std::int64_t batch_size = 0;
    /// Tokens in a forward pass at most (one longer text goes alone): bounds memory.
    std::int64_t max_batch_tokens = 2048;
    DType store_dtype = DType::kF32;  ///< kF32, kBF16 or kF16, of the files on disk.
    std::int64_t shard_bytes = std::int64_t{1} << 30;  ///< A shard is closed once it has these.
    std::string output_dir;
  } extraction;

  /// Throws Error(usage) naming the field.
  void validate() const;
};

/// Sorts flat options ("model_name", "mlp_layers" = "0,1", "max_length" = "256", ...) into the
/// groups; "layers" means mlp_layers; "hook" is any spelling (drrik/model/hook_names.h), which may
/// read the model's config.json and bring its layer. Throws Error(usage) for an unknown name (with
/// the nearest one) and for a value that does not parse. Does not validate().
ExtractorOptions extractor_options(const std::map<std::string, std::string>& flat);

}  // namespace drrik
