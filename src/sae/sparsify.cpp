// sparsify: {hookpoint}/cfg.json and sae.safetensors, above them the run's config.json.

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "cfg.json";
constexpr const char* kWeights = "sae.safetensors";

// "layers.3" is a block's output, "layers.3.mlp" a module's; "h.3" in GPT-2's models.
void read_hookpoint(const std::string& name, bool transcoder, SaeRecord& record) {
  record.hook_name = name;
  for (const char* prefix : {"layers.", "h."}) {
    if (!name.starts_with(prefix)) continue;
    const auto layer = number_after(name, prefix);
    if (!layer) continue;
    record.layer = *layer;
    const std::string place = name.substr(str(prefix, *layer).size());
    if (place.empty()) record.hook_name = "resid_post";
    if (place == ".mlp") record.hook_name = transcoder ? "mlp_in" : "mlp_out";
    if (place == ".mlp" && transcoder) {
      record.foreign_hook_name_out = str("blocks.", *layer, ".hook_mlp_out");
    }
    if (place == ".attention" || place == ".self_attn" || place == ".attn") {
      record.hook_name = "attn_out";
    }
    return;
  }
}

class Sparsify final : public SaeFormat {
 public:
  std::string_view name() const override { return "sparsify"; }
  std::string_view description() const override { return "sparsify: cfg.json, sae.safetensors"; }
  bool is_folder(const fs::path& folder) const override {
    return fs::exists(folder / kConfig) && fs::exists(folder / kWeights);
  }

  LoadedSae read_folder(const fs::path& folder) const override {
    const Json config = read_json_file(folder / kConfig);
    expect_object(config, kConfig);
    const std::string activation = get_string(config, "activation", kConfig, "topk");
    if (activation != "topk") {
      throw_data(kConfig, ": activation '", activation,
                 "' is not supported: one latent of each group of neighbours is not the k largest "
                 "of all; wanted topk");
    }
    if (get_bool(config, "signed", kConfig, false)) {
      throw_data(kConfig, ": 'signed' is not supported: it takes the k largest of both signs");
    }
    const TensorMap tensors = read_tensor_map(folder / kWeights);
    CoderWeights weights(tensors);
    SparseCoderConfig made;
    made.architecture = "topk";
    made.k = get_int(config, "k", kConfig);
    const auto [h, d] = weights.matrix("encoder.weight");
    made.d_sae = h;
    made.d_in = d;
    const bool transcoder = get_bool(config, "transcode", kConfig, false);
    if (transcoder) made.d_out = weights.length("b_dec");
    made.apply_b_dec_to_input = !transcoder;
    made.skip = weights.has("W_skip");
    if (get_bool(config, "skip_connection", kConfig, made.skip) != made.skip) {
      throw_data(kConfig, ": 'skip_connection' and tensor 'W_skip' disagree");
    }
    expect_size(find_int(config, "d_in", kConfig), d, "d_in");
    if (get_int(config, "num_latents", kConfig, 0) != 0) {
      expect_size(find_int(config, "num_latents", kConfig), h, "num_latents");
    }
    if (weights.matrix("W_dec") != std::array<std::int64_t, 2>{h, made.output_width()}) {
      const auto [rows, cols] = weights.matrix("W_dec");
      throw_data("tensor 'W_dec' has shape [", rows, ", ", cols, "], wanted [", h, ", ",
                 made.output_width(), "]");
    }
    SparseCoder coder = coder_in_file(made);
    weights.read("encoder.weight", coder.encoder());
    weights.read("encoder.bias", coder.b_enc());
    weights.read("W_dec", coder.decoder());
    weights.read("b_dec", coder.b_dec());
    if (made.skip) weights.read("W_skip", coder.skip());
    weights.warn_unused();
    SaeRecord record;
    const fs::path whole = fs::absolute(folder).lexically_normal();
    const fs::path named = whole.has_filename() ? whole : whole.parent_path();
    read_hookpoint(named.filename().string(), transcoder, record);
    const fs::path run = named.parent_path() / "config.json";
    if (fs::exists(run)) {
      const Json above = read_json_file(run);
      if (above.is_object()) {
        record.model_name = get_string(above, "model", "config.json", "");
        record.dataset = get_string(above, "dataset", "config.json", "");
        record.context_size = get_int(above, "ctx_len", "config.json", 0);
      }
    }
    return loaded_coder(std::move(coder), std::move(record), "sparsify");
  }

  void express(Expression& coder) const override {
    coder.allow({"topk"});
    coder.refuse_signed_topk();
    coder.refuse_other_width();
    coder.refuse_row_normalization();
    coder.refuse_parts();
    if (!coder.is_transcoder()) coder.centre(true);
  }

  void write(const SparseCoder& coder, const SaeRecord&, const fs::path& folder) const override {
    const SparseCoderConfig& config = coder.config();
    TensorList tensors;
    tensors.add("encoder.weight", coder.encoder());
    tensors.add("encoder.bias", coder.b_enc());
    tensors.add("W_dec", coder.decoder());
    tensors.add("b_dec", coder.b_dec());
    if (config.skip) tensors.add("W_skip", coder.skip());
    create_folders(folder);
    write_safetensors(folder / kWeights, tensors.named());
    write_json_file(folder / kConfig,
                    {{"activation", "topk"},
                     {"expansion_factor", std::max<std::int64_t>(1, config.d_sae / config.d_in)},
                     {"normalize_decoder", unit_rows(coder.decoder())},
                     {"num_latents", config.d_sae},
                     {"k", config.k},
                     {"multi_topk", false},
                     {"skip_connection", config.skip},
                     {"transcode", !config.apply_b_dec_to_input},
                     {"d_in", config.d_in}});
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_sparsify_format() { return std::make_unique<Sparsify>(); }

}  // namespace drrik
