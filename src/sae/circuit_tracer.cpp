// circuit-tracer's transcoders of one layer: one safetensors file, W_enc and W_dec both [h, d];
// with activation_function.threshold a jumprelu, else a ReLU. Also Goodfire's files, and Qwen
// Scope's, which are one dictionary of linear layers.

#include "drrik/base/error.h"
#include "drrik/io/safetensors.h"
#include "io/lens_names.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kThreshold = "activation_function.threshold";

class CircuitTracer final : public SaeFormat {
 public:
  std::string_view name() const override { return "circuit_tracer"; }
  std::string_view description() const override {
    return "circuit-tracer: a transcoder's layer_N.safetensors";
  }
  bool fits(const TensorFile& file) const override {
    if (file.dict || !file.has_all({"W_enc", "W_dec", "b_enc", "b_dec"})) return false;
    if (file.has(kThreshold)) return true;
    // SAELens keeps W_enc [d, h], linear layers W_dec [d_out, h]; a square one is taken for
    // SAELens's.
    const Tensor& b_enc = file.tensors.find("b_enc")->second;
    const auto encoder = file.matrix("W_enc");
    return b_enc.rank() == 1 && encoder[0] == b_enc.dim(0) && encoder[1] != b_enc.dim(0) &&
           file.matrix("W_dec")[0] == b_enc.dim(0);
  }

  LoadedSae read_file(const TensorFile& file) const override {
    CoderWeights weights(file.tensors);
    SparseCoderConfig config;
    config.architecture = weights.has(kThreshold) ? "jumprelu" : "standard";
    const auto [h, d] = weights.matrix("W_enc");
    config.d_sae = h;
    config.d_in = d;
    config.d_out = weights.length("b_dec");
    config.apply_b_dec_to_input = false;
    config.skip = weights.has("W_skip");
    if (const auto [rows, cols] = weights.matrix("W_dec"); rows != h || cols != config.d_out) {
      throw_data("tensor 'W_dec' has shape [", rows, ", ", cols, "], wanted [", h, ", ",
                 config.d_out, "]");
    }
    SparseCoder coder = coder_in_file(config);
    weights.read("W_enc", coder.encoder());
    weights.read("W_dec", coder.decoder());
    weights.read("b_enc", coder.b_enc());
    weights.read("b_dec", coder.b_dec());
    if (weights.has(kThreshold)) {
      weights.read_threshold(kThreshold, coder.latent_parameter("threshold"));
    }
    if (config.skip) weights.read("W_skip", coder.skip());
    weights.warn_unused();
    SaeRecord record;
    // The features' hooks stand in the collection's configuration, which is not here.
    if (const auto layer = number_after(file.path.filename().string(), "layer_")) {
      record.layer = *layer;
    }
    return loaded_coder(std::move(coder), std::move(record), "circuit-tracer");
  }

  std::string_view file_name() const override { return "layer_0.safetensors"; }

  void express(Expression& coder) const override {
    coder.use_inference_form();
    coder.use_jumprelu_for_gated();
    coder.allow({"standard", "jumprelu"});
    coder.refuse_row_normalization();
    coder.refuse_parts();
    coder.centre(false);
  }

  void write(const SparseCoder& coder, const SaeRecord&, const fs::path& path) const override {
    TensorList tensors;
    tensors.add("W_enc", coder.encoder());
    tensors.add("W_dec", coder.decoder());
    tensors.add("b_enc", coder.b_enc());
    tensors.add("b_dec", coder.b_dec());
    if (coder.config().architecture == "jumprelu") {
      tensors.add(kThreshold, coder.latent_parameter("threshold"));
    }
    if (coder.config().skip) tensors.add("W_skip", coder.skip());
    write_safetensors(path, tensors.named());
  }
};

class Goodfire final : public SaeFormat {
 public:
  std::string_view name() const override { return "goodfire"; }
  std::string_view description() const override {
    return "Goodfire: one .pth with encoder_linear, decoder_linear";
  }
  bool fits(const TensorFile& file) const override {
    return file.has_all({"encoder_linear.weight", "decoder_linear.weight"});
  }

  LoadedSae read_file(const TensorFile& file) const override {
    CoderWeights weights(file.tensors);
    SparseCoderConfig config;
    config.architecture = "standard";
    const auto [h, d] = weights.matrix("encoder_linear.weight");
    config.d_sae = h;
    config.d_in = d;
    config.apply_b_dec_to_input = false;
    SparseCoder coder = coder_in_file(config);
    weights.read("encoder_linear.weight", coder.encoder());
    weights.read_transposed("decoder_linear.weight", coder.decoder());
    weights.read("encoder_linear.bias", coder.b_enc());
    weights.read("decoder_linear.bias", coder.b_dec());
    weights.warn_unused();
    SaeRecord record;
    // "Llama-3.1-8B-Instruct-SAE-l19.pth"
    if (const auto layer = number_after(file.path.filename().string(), "-SAE-l")) {
      set_hook(detail::make_lens_name(*layer, "hook_resid_post"), record);
    }
    return loaded_coder(std::move(coder), std::move(record), "Goodfire");
  }

  std::string_view file_name() const override { return "sae.pth"; }

  void express(Expression& coder) const override {
    coder.refuse_transcoders();
    coder.use_standard_for_zero_thresholds();
    coder.allow({"standard"});
    coder.refuse_row_normalization();
    coder.refuse_parts();
    coder.centre(false);
  }

  void write(const SparseCoder& coder, const SaeRecord&, const fs::path& path) const override {
    TensorList tensors;
    tensors.add("encoder_linear.weight", coder.encoder());
    tensors.add("encoder_linear.bias", coder.b_enc());
    tensors.add("decoder_linear.weight", transposed(coder.decoder()));
    tensors.add("decoder_linear.bias", coder.b_dec());
    write_torch_file(path, tensors.dict());
  }
};

// "SAE-Res-Qwen3-1.7B-Base-W32K-L0_50/layer0.sae.pt": topk, whose k stands in the repository's name
// alone.
class QwenScope final : public SaeFormat {
 public:
  std::string_view name() const override { return "qwen_scope"; }
  std::string_view description() const override {
    return "Qwen Scope: layerN.sae.pt, below a folder named …L0_K (read only)";
  }
  bool writes() const override { return false; }
  bool fits(const TensorFile& file) const override {
    const std::string name = file.path.filename().string();
    return file.dict && name.starts_with("layer") && name.ends_with(".sae.pt") &&
           file.has_all({"W_enc", "W_dec", "b_enc", "b_dec"});
  }

  LoadedSae read_file(const TensorFile& file) const override {
    const std::string path = std::filesystem::absolute(file.path).string();
    const auto k = number_after(path, "-L0_");
    if (!k) {
      throw_data(
          "a Qwen Scope file does not say its k; wanted it below a folder named …-L0_<k>, as "
          "its repository is");
    }
    CoderWeights weights(file.tensors);
    SparseCoderConfig config;
    config.architecture = "topk";
    const auto [h, d] = weights.matrix("W_enc");
    config.d_sae = h;
    config.d_in = d;
    config.k = *k;
    config.apply_b_dec_to_input = false;
    SparseCoder coder = coder_in_file(config);
    weights.read("W_enc", coder.encoder());
    weights.read_transposed("W_dec", coder.decoder());
    weights.read("b_enc", coder.b_enc());
    weights.read("b_dec", coder.b_dec());
    weights.warn_unused();
    SaeRecord record;
    if (const auto layer = number_after(file.path.filename().string(), "layer")) {
      set_hook(detail::make_lens_name(*layer, "hook_resid_post"), record);
    }
    return loaded_coder(std::move(coder), std::move(record), "Qwen Scope");
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_circuit_tracer_format() {
  return std::make_unique<CircuitTracer>();
}
std::unique_ptr<const SaeFormat> make_goodfire_format() { return std::make_unique<Goodfire>(); }
std::unique_ptr<const SaeFormat> make_qwen_scope_format() { return std::make_unique<QwenScope>(); }

}  // namespace drrik
