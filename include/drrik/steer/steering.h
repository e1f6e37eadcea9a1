#pragma once
// SAESteering: pushing a model along directions that an autoencoder found.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drrik/model/generate.h"
#include "drrik/model/model.h"
#include "drrik/sae/sae.h"
#include "drrik/steer/recipe.h"
#include "drrik/tensor/dtype.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

/// Which model is steered, and where.
struct SteeringOptions {
  std::string model_name;  ///< A folder in HuggingFace layout.
  std::int64_t layer = 0;  ///< Zero-based.
  HookPoint hook = HookPoint::kMlpOut;
  std::string revision = "main";    ///< Branch, tag or commit, for a model from the Hub.
  DType torch_dtype = DType::kF16;  ///< As ExtractorOptions: kBF16, else products in float32.
  std::string device_map = "auto";  ///< "auto" or "cpu".
};

/// One generation: what to add, and how to sample.
struct SteeredGeneration {
  std::optional<std::int64_t> feature_idx;    ///< One feature, with `strength`.
  double strength = 1.0;                      ///< Multiplies the decoder column as it is stored.
  std::vector<std::int64_t> feature_indices;  ///< Several, instead of feature_idx.
  std::vector<double> strengths;              ///< One each; empty: all 1.
  std::vector<SteeringEdit> edits;            ///< Instead of features: what a recipe asks for.

  std::int64_t max_new_tokens = 50;
  double temperature = 0.8;         ///< 0: greedy.
  double top_p = 0.9;               ///< 1: off.
  std::int64_t top_k = 0;           ///< 0: off.
  double repetition_penalty = 1.0;  ///< 1: off.
  std::uint64_t seed = 42;
  /// Strings that end the text before them.
  std::vector<std::string> stop;

  /// Called with each piece of text as it is settled, the prompt not among them.
  std::function<void(std::string_view piece)> on_text;
};

struct SteeredText {
  std::string text;          ///< Prompt and continuation.
  std::string continuation;  ///< Special tokens stripped.
  std::vector<std::int32_t> prompt_ids;
  Generated generated;
  /// Of SteeredGeneration::stop the string that ended it (generated.finish is then kCallback, and
  /// its last ids may reach into that string); "": none.
  std::string stopped_by;
};

/// `defaults` with a recipe's edits, and its sampling where it has some.
SteeredGeneration with_recipe(const SteeringRecipe& recipe, SteeredGeneration defaults = {});

/// Label and text in the order asked for: "baseline", "strength_1.0", …
using SteeringResults = std::vector<std::pair<std::string, std::string>>;

struct SteeringFeature {
  std::int64_t feature_idx = 0;
  double activation = 0.0;             ///< Mean over the text's tokens (or the rows given).
  double normalized_activation = 0.0;  ///< activation / decoder_weight_norm.
  double decoder_weight_norm = 0.0;    ///< L2 norm of the decoder column.
};

struct FindFeaturesOptions {
  /// Activations [n, d_in] to look at instead of the text's own; must stay alive for the call.
  MatView<const float> activations;
  std::int64_t top_k = 20;
  double min_activation = 0.0;  ///< Features whose mean is not above this are left out.
  /// Whether BOS and its like count; their activations are often far from all others.
  bool include_special_tokens = true;
};

/// "baseline" for 0, else "strength_" and the number as Python prints a float.
std::string strength_label(double strength);

class SteeredStream;

/// Adds Σ strengthᵢ · decoder_columnᵢ to the activations at a hook of a layer, at every position of
/// every forward pass, or carries out a recipe's edits there. Calls may run at the same time from
/// several threads.
class SaeSteering {
 public:
  /// Loads the model. Throws Error(usage) when the layer does not exist or the hook's width is not
  /// sae.d_in(), Error(data), Error(io).
  SaeSteering(std::shared_ptr<const Sae> sae, const SteeringOptions& options);
  /// Shares a model that is loaded already (whole, with its head). `reads`: where a transcoder
  /// takes its input from, if that is not `hook`, where its directions belong. Throws Error(usage)
  /// as above.
  SaeSteering(std::shared_ptr<const Sae> sae, std::shared_ptr<const Model> model,
              std::shared_ptr<const Tokenizer> tokenizer, const Hook& hook,
              const std::optional<Hook>& reads = std::nullopt);

  const Model& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Sae& sae() const { return *sae_; }
  const Hook& hook() const { return hook_; }
  /// Where the features are read; hook() but for a transcoder that said so.
  const Hook& reads() const { return reads_; }

  /// Continues `text`, steered when features are named, plain otherwise. Stops at eos or at the
  /// model's last position. The same arguments give the same text. Throws Error(usage) when more
  /// than one of feature_idx, feature_indices and edits is given, lengths differ, an index is
  /// outside [0, d_sae), check_edits() refuses the edits or a sampling option is out of range;
  /// Error(data), Error(numeric), Error(interrupted).
  SteeredText generate(const std::string& text, const SteeredGeneration& options = {}) const;
  /// The same piece by piece. Throws as generate() for the arguments; nothing is computed yet.
  SteeredStream stream(const std::string& text, const SteeredGeneration& options = {}) const;

  /// The edits that `options` ask for, in either form. Throws Error(usage) as generate().
  std::vector<SteeringEdit> edits(const SteeredGeneration& options) const;

  /// Generates once for each strength of one feature, all from the same seed. The feature and
  /// strength fields of `options` are ignored. A strength given twice is generated once.
  SteeringResults compare_steering(const std::string& text, std::int64_t feature,
                                   const std::vector<double>& strengths = {0, 1, 2, 3, 5},
                                   const SteeredGeneration& options = {}) const;

  /// The features that are most active on a text, by mean activation at the hook, descending; the
  /// lower index first on ties. Throws Error(usage), Error(data).
  std::vector<SteeringFeature> find_steering_features(
      const std::string& text, const FindFeaturesOptions& options = {}) const;

  /// Decoder column of a feature [d_in], of length 1 when `normalize` (a column of zeros stays).
  /// Throws Error(usage) when the index is outside [0, d_sae).
  std::vector<float> get_steering_direction(std::int64_t feature, bool normalize = true) const;

 private:
  void check() const;
  void check_writes() const;

  std::shared_ptr<const Sae> sae_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Hook hook_;
  Hook reads_;
};

/// A text in the making. Its SaeSteering's model, tokenizer and autoencoder must outlive it.
class SteeredStream {
 public:
  ~SteeredStream();
  SteeredStream(SteeredStream&&) noexcept;
  SteeredStream& operator=(SteeredStream&&) noexcept;

  /// One more token's text, "" where it settles none; nothing at the end. Calls on_text as
  /// generate() does. Throws as generate(); it is over then.
  std::optional<std::string> next();
  /// What there is so far.
  const SteeredText& text() const;

 private:
  friend class SaeSteering;
  struct State;
  explicit SteeredStream(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Writes the prompt and every labelled text to steering_analysis[_label]_YYYYmmdd_HHMMSS.txt in
/// `output_dir` (made when missing) and returns its path. Characters of the label that have no
/// place in a file name become '_'; a name that is taken gets "_2", "_3", …. Throws Error(io).
std::filesystem::path save_steering_analysis(const SteeringResults& results,
                                             const std::filesystem::path& output_dir,
                                             const std::string& prompt,
                                             const std::string& feature_label = {});

}  // namespace drrik
