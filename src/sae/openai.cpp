// openai/sparse_autoencoder: one .pt dictionary, whose activation decides whether rows are
// normalised (TopK: yes).

#include "drrik/base/error.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

class OpenAi final : public SaeFormat {
 public:
  std::string_view name() const override { return "openai"; }
  std::string_view description() const override {
    return "openai/sparse_autoencoder: one .pt with pre_bias, latent_bias";
  }
  bool fits(const TensorFile& file) const override {
    return file.dict && file.has_all({"pre_bias", "latent_bias", "encoder.weight"});
  }

  LoadedSae read_file(const TensorFile& file) const override {
    CoderWeights weights(file.tensors);
    SparseCoderConfig config;
    const auto [h, d] = weights.matrix("encoder.weight");
    config.d_sae = h;
    config.d_in = d;
    const PtValue* activation = file.dict->find("activation");
    const std::string kind = activation != nullptr ? activation->as_string() : "ReLU";
    if (kind == "TopK") {
      const PtValue& state = file.dict->get("activation_state_dict");
      config.architecture = "topk";
      config.k = state.get("k").as_int();
      const PtValue* after = state.find("postact_fn");
      const std::string then = after != nullptr ? after->as_string() : "ReLU";
      if (then != "ReLU" && then != "Identity") {
        throw_data("postact_fn '", then, "' is not known; wanted ReLU or Identity");
      }
      config.relu_after_topk = then == "ReLU";
      config.row_normalization = RowNormalization::kLayerNorm;
    } else if (kind == "ReLU") {
      config.architecture = "standard";
    } else {
      throw_data("activation '", kind, "' is not known; wanted TopK or ReLU");
    }
    // Without a decoder of its own it is the encoder's transpose.
    const bool tied = !weights.has("decoder.weight");
    SparseCoder coder = coder_in_file(config);
    weights.read("encoder.weight", coder.encoder());
    if (tied) {
      weights.read("encoder.weight", coder.decoder());
      weights.skip("decoder.linear.weight");
    } else {
      weights.read_transposed("decoder.weight", coder.decoder());
    }
    weights.read("latent_bias", coder.b_enc());
    weights.read("pre_bias", coder.b_dec());
    for (const char* statistic :
         {"stats_last_nonzero", "latents_activation_frequency", "latents_mean_square"}) {
      weights.skip(statistic);
    }
    weights.warn_unused();
    return loaded_coder(std::move(coder), {}, "OpenAI .pt");
  }

  std::string_view file_name() const override { return "autoencoder.pt"; }

  void express(Expression& coder) const override {
    coder.refuse_transcoders();
    coder.refuse_parts();
    coder.use_standard_for_zero_thresholds();
    coder.allow({"topk", "standard"});
    coder.centre(true);
    const bool topk = coder.config().architecture == "topk";
    coder.refuse_layer_norm_but(topk ? RowNormalization::kLayerNorm : RowNormalization::kNone);
    if (topk && coder.config().row_normalization == RowNormalization::kNone) {
      coder.refuse(
          "its reader normalises every row of a TopK autoencoder; this one takes them raw");
    }
  }

  void write(const SparseCoder& coder, const SaeRecord& record,
             const fs::path& path) const override {
    const std::int64_t h = coder.d_sae();
    TensorList tensors;
    tensors.add("pre_bias", coder.b_dec());
    tensors.add("latent_bias", coder.b_enc());
    tensors.add("stats_last_nonzero", Tensor(DType::kI64, {h}));
    std::vector<float> frequency(record.densities.begin(), record.densities.end());
    frequency.resize(static_cast<std::size_t>(h), 1.0F);
    tensors.add("latents_activation_frequency", frequency);
    tensors.add("latents_mean_square", Tensor(DType::kF32, {h}));
    tensors.add("encoder.weight", coder.encoder());
    tensors.add("decoder.weight", transposed(coder.decoder()));
    PtValue file = tensors.dict();
    PtValue state = PtValue::dict(/*ordered=*/true);
    const bool topk = coder.config().architecture == "topk";
    if (topk) {
      state.set("k", coder.config().k);
      state.set("postact_fn", coder.config().relu_after_topk ? "ReLU" : "Identity");
    }
    file.set("activation", topk ? "TopK" : "ReLU");
    file.set("activation_state_dict", state);
    write_torch_file(path, file);
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_openai_format() { return std::make_unique<OpenAi>(); }

}  // namespace drrik
