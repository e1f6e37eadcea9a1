// dictionary_learning: ae.pt, a module's state_dict(), and config.json, which says its class.
// Without the configuration the tensors' names tell the class (also those of files that follow the
// same names, as the DeepSeek-R1 autoencoders do).

#include <algorithm>
#include <cmath>
#include <numeric>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/ops/convert.h"
#include "io/json.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kWeights = "ae.pt";

// Those of torch.nn.Linear, or of plain parameters (input first).
void read_matrices(CoderWeights& weights, SparseCoder& coder) {
  if (weights.has("W_enc")) {
    weights.read_transposed("W_enc", coder.encoder());
    weights.read("W_dec", coder.decoder());
  } else {
    weights.read("encoder.weight", coder.encoder());
    weights.read_transposed("decoder.weight", coder.decoder());
  }
}

SparseCoderConfig sizes(const CoderWeights& weights, const std::string& architecture) {
  SparseCoderConfig config;
  config.architecture = architecture;
  const bool plain = weights.has("W_enc");
  const auto shape = weights.matrix(plain ? "W_enc" : "encoder.weight");
  config.d_sae = shape[plain ? 1 : 0];
  config.d_in = shape[plain ? 0 : 1];
  const auto decoder = weights.matrix(plain ? "W_dec" : "decoder.weight");
  const std::array<std::int64_t, 2> wanted = {shape[1], shape[0]};
  if (decoder != wanted) {
    throw_data("tensor '", plain ? "W_dec" : "decoder.weight", "' has shape [", decoder[0], ", ",
               decoder[1], "], wanted [", wanted[0], ", ", wanted[1], "]");
  }
  return config;
}

// What every class holds; the biases have many names.
SparseCoder read_common(CoderWeights& weights, const SparseCoderConfig& config, const char* b_enc,
                        const char* b_dec) {
  SparseCoder coder = coder_in_file(config);
  read_matrices(weights, coder);
  weights.read(b_enc, coder.b_enc());
  weights.read(b_dec, coder.b_dec());
  return coder;
}

// AutoEncoder's own loader gives every direction length 1, so that features mean what they say.
void normalize(SparseCoder& coder) {
  const std::vector<float> norms = coder.decoder_norms();
  if (std::ranges::any_of(norms, [](float n) { return std::abs(n - 1.0F) > 1e-5F; })) {
    coder.fold_decoder_norms();
  }
}

SparseCoder read_auto_encoder(CoderWeights& weights) {
  SparseCoder coder = read_common(weights, sizes(weights, "standard"), "encoder.bias", "bias");
  normalize(coder);
  return coder;
}

SparseCoder read_auto_encoder_new(CoderWeights& weights) {
  SparseCoderConfig config = sizes(weights, "standard");
  config.apply_b_dec_to_input = false;
  return read_common(weights, config, "encoder.bias", "decoder.bias");
}

SparseCoder read_gated(CoderWeights& weights) {
  SparseCoder coder = read_common(weights, sizes(weights, "gated"), "gate_bias", "decoder_bias");
  weights.read("r_mag", coder.latent_parameter("r_mag"));
  weights.read("mag_bias", coder.latent_parameter("b_mag"));
  return coder;
}

std::int64_t read_k(CoderWeights& weights) {
  const double k = weights.read_scalar("k");
  if (!(k >= 1.0 && k < 2147483648.0)) throw_data("tensor 'k' is ", k, ", wanted 1 or more");
  return static_cast<std::int64_t>(k);
}

SparseCoder read_topk(CoderWeights& weights) {
  SparseCoderConfig config = sizes(weights, "topk");
  config.k = read_k(weights);
  SparseCoder coder = read_common(weights, config, "encoder.bias", "b_dec");
  weights.skip("threshold");  // the class encodes by k unless told otherwise
  return coder;
}

// ReLU, then what is above the threshold.
SparseCoder read_batch_topk(CoderWeights& weights) {
  SparseCoderConfig config = sizes(weights, "batchtopk");
  config.k = read_k(weights);
  SparseCoder coder = read_common(weights, config, "encoder.bias", "b_dec");
  weights.read_threshold("threshold", coder.latent_parameter("threshold"));
  return coder;
}

SparseCoder read_matryoshka(CoderWeights& weights) {
  SparseCoderConfig config = sizes(weights, "matryoshka");
  config.k = read_k(weights);
  config.groups = weights.read_integers("group_sizes");
  std::int64_t end = 0;
  for (std::int64_t& size : config.groups) {
    if (size < 1 || size > config.d_sae - end) {
      throw_data("tensor 'group_sizes' holds ", size, " after ", end, " of ", config.d_sae,
                 " latents");
    }
    size = end += size;
  }
  SparseCoder coder = read_common(weights, config, "b_enc", "b_dec");
  weights.read_threshold("threshold", coder.latent_parameter("threshold"));
  return coder;
}

SparseCoder read_jumprelu(CoderWeights& weights) {
  SparseCoderConfig config = sizes(weights, "jumprelu");
  config.apply_b_dec_to_input = false;
  SparseCoder coder = read_common(weights, config, "b_enc", "b_dec");
  weights.read_threshold("threshold", coder.latent_parameter("threshold"));
  return coder;
}

/// One class of the package. `marks` tell it when no configuration does; TopK and BatchTopK have
/// the same names.
struct DictClass {
  const char* name;
  const char* trainer;
  const char* architecture;
  SparseCoder (*read)(CoderWeights&);
  std::vector<std::string_view> marks;
};

const std::vector<DictClass>& classes() {
  static const std::vector<DictClass> table = {
      {"GatedAutoEncoder",
       "GatedSAETrainer",
       "gated",
       read_gated,
       {"encoder.weight", "gate_bias", "mag_bias"}},
      {"MatryoshkaBatchTopKSAE",
       "MatryoshkaBatchTopKTrainer",
       "matryoshka",
       read_matryoshka,
       {"W_enc", "threshold", "group_sizes"}},
      {"JumpReluAutoEncoder",
       "JumpReluTrainer",
       "jumprelu",
       read_jumprelu,
       {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}},
      {"AutoEncoderNew",
       "StandardTrainerNew",
       "standard",
       read_auto_encoder_new,
       {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}},
      {"AutoEncoder",
       "StandardTrainer",
       "standard",
       read_auto_encoder,
       {"encoder.weight", "encoder.bias", "decoder.weight", "bias"}},
      {"AutoEncoderTopK", "TopKTrainer", "topk", read_topk, {}},
      {"BatchTopKSAE", "BatchTopKTrainer", "batchtopk", read_batch_topk, {}},
  };
  return table;
}

const DictClass& class_named(const std::string& name) {
  std::vector<std::string> known;
  for (const DictClass& known_class : classes()) {
    if (name == known_class.name) return known_class;
    known.emplace_back(known_class.name);
  }
  throw_data(kConfig, ": dict_class '", name, "' is not known; known: ", join(known),
             did_you_mean(name, known));
}

bool is_topk_file(const TensorFile& file) {
  return file.has_all({"encoder.weight", "encoder.bias", "decoder.weight", "b_dec", "k"});
}

const DictClass* class_of(const TensorFile& file) {
  for (const DictClass& known : classes()) {
    const bool fits =
        std::ranges::all_of(known.marks, [&](std::string_view name) { return file.has(name); });
    if (fits && !known.marks.empty()) return &known;
  }
  return nullptr;
}

void read_record(const fs::path& path, SaeRecord& record, std::string& dict_class,
                 std::optional<std::int64_t>& activation_dim,
                 std::optional<std::int64_t>& dict_size) {
  const Json config = read_json_file(path);
  expect_object(config, kConfig);
  const Json* found = find_member(config, "trainer", kConfig);
  if (found == nullptr) return;
  const Json& trainer = expect_object(*found, "trainer");
  dict_class = get_string(trainer, "dict_class", kConfig, "");
  activation_dim = find_int(trainer, "activation_dim", kConfig);
  dict_size = find_int(trainer, "dict_size", kConfig);
  record.model_name = get_string(trainer, "lm_name", kConfig, "");
  record.layer = get_int(trainer, "layer", kConfig, -1);
  // "resid_post_layer_3" in the package's scripts; free text elsewhere.
  const std::string place = get_string(trainer, "submodule_name", kConfig, "");
  for (const char* ours : {"resid_post", "resid_pre", "mlp_out", "attn_out"}) {
    if (place.starts_with(ours)) record.hook_name = ours;
  }
  if (record.hook_name.empty()) record.hook_name = place;
  if (const Json* buffer = find_member(config, "buffer", kConfig)) {
    record.context_size = get_int(expect_object(*buffer, "buffer"), "ctx_len", kConfig, 0);
  }
}

class DictionaryLearning final : public SaeFormat {
 public:
  std::string_view name() const override { return "dictionary_learning"; }
  std::string_view description() const override {
    return "dictionary_learning: ae.pt, config.json (every dict_class)";
  }
  bool is_folder(const fs::path& folder) const override { return fs::exists(folder / kWeights); }
  LoadedSae read_folder(const fs::path& folder) const override {
    return read_file(read_tensor_file(folder / kWeights));
  }
  bool fits(const TensorFile& file) const override {
    // A file of tensors with SAELens's names is a PyTorch one here and a safetensors one there.
    return file.dict && (is_topk_file(file) || class_of(file) != nullptr);
  }

  LoadedSae read_file(const TensorFile& file) const override {
    SaeRecord record;
    std::string dict_class;
    std::optional<std::int64_t> d;
    std::optional<std::int64_t> h;
    const fs::path config = file.path.parent_path() / kConfig;
    if (fs::exists(config)) read_record(config, record, dict_class, d, h);
    const DictClass* found = dict_class.empty() ? class_of(file) : &class_named(dict_class);
    if (found == nullptr) {
      throw_data("its tensors are AutoEncoderTopK's as well as BatchTopKSAE's; a ", kConfig,
                 " beside it would say which: {\"trainer\": {\"dict_class\": …}}");
    }
    CoderWeights weights(file.tensors);
    SparseCoder coder = found->read(weights);
    weights.warn_unused();
    expect_size(d, coder.d_in(), "activation_dim");
    expect_size(h, coder.d_sae(), "dict_size");
    return loaded_coder(std::move(coder), std::move(record),
                        str("dictionary_learning (", found->name, ")"));
  }

  void express(Expression& coder) const override {
    coder.refuse_transcoders();
    coder.refuse_row_normalization();
    coder.refuse_signed_topk();
    coder.refuse_parts();
    const std::string& architecture = coder.config().architecture;
    if (architecture == "batchtopk" || architecture == "matryoshka") {
      const auto theta = coder.coder().latent_parameter("threshold");
      // The classes keep one threshold for all latents.
      const bool one = std::ranges::all_of(theta, [&](float t) { return t == theta[0]; });
      if (!one) coder.use_inference_form();
    }
    if (architecture == "standard") {
      // A tied bias and directions of length 1 are AutoEncoder's; the others AutoEncoderNew's.
      if (!unit_rows(coder.coder().decoder())) coder.centre(false);
    } else {
      coder.centre(architecture != "jumprelu");
    }
  }

  void write(const SparseCoder& coder, const SaeRecord& record,
             const fs::path& folder) const override {
    const SparseCoderConfig& config = coder.config();
    const std::string& architecture = config.architecture;
    const bool tied = config.apply_b_dec_to_input;
    const auto& known = *std::ranges::find_if(classes(), [&](const DictClass& c) {
      if (architecture != c.architecture) return false;
      return architecture != "standard" || (std::string_view(c.name) == "AutoEncoder") == tied;
    });
    TensorList tensors;
    if (architecture == "jumprelu" || architecture == "matryoshka") {
      tensors.add("W_enc", transposed(coder.encoder()));
      tensors.add("W_dec", coder.decoder());
      tensors.add("b_enc", coder.b_enc());
      tensors.add("b_dec", coder.b_dec());
    } else {
      tensors.add("encoder.weight", coder.encoder());
      tensors.add("decoder.weight", transposed(coder.decoder()));
      const bool gated = architecture == "gated";
      tensors.add(gated ? "gate_bias" : "encoder.bias", coder.b_enc());
      tensors.add(gated                        ? "decoder_bias"
                  : architecture != "standard" ? "b_dec"
                  : tied                       ? "bias"
                                               : "decoder.bias",
                  coder.b_dec());
    }
    if (architecture == "gated") {
      tensors.add("r_mag", coder.latent_parameter("r_mag"));
      tensors.add("mag_bias", coder.latent_parameter("b_mag"));
    }
    if (architecture == "jumprelu") {
      tensors.add("threshold", coder.latent_parameter("threshold"));
    }
    const bool has_k =
        architecture == "topk" || architecture == "batchtopk" || architecture == "matryoshka";
    if (has_k) {
      const std::array<std::int32_t, 1> k = {static_cast<std::int32_t>(config.k)};
      // −1 is the package's "not known".
      const std::array<float, 1> threshold = {
          architecture == "topk" ? -1.0F : coder.latent_parameter("threshold")[0]};
      tensors.add("k", Tensor::from<std::int32_t>(k, {}));
      tensors.add("threshold", Tensor::from<float>(threshold, {}));
    }
    if (architecture == "matryoshka") {
      std::vector<std::int64_t> groups(config.groups.size());
      std::adjacent_difference(config.groups.begin(), config.groups.end(), groups.begin());
      const auto count = static_cast<std::int64_t>(groups.size());
      tensors.add("group_sizes", Tensor::from<std::int64_t>(groups, {count}));
    }
    Json trainer = {
        {"dict_class", known.name},
        {"trainer_class", known.trainer},
        {"activation_dim", config.d_in},
        {"dict_size", config.d_sae},
        {"layer", record.layer < 0 ? Json(nullptr) : Json(record.layer)},
        {"lm_name", record.model_name},
        {"submodule_name",
         record.layer < 0 ? record.hook_name : str(record.hook_name, "_layer_", record.layer)}};
    if (has_k) trainer["k"] = config.k;
    Json buffer = {{"d_submodule", config.d_in}, {"io", "out"}};
    if (record.context_size > 0) buffer["ctx_len"] = record.context_size;
    create_folders(folder);
    write_torch_file(folder / kWeights, tensors.dict());
    write_json_file(folder / kConfig, {{"trainer", trainer}, {"buffer", buffer}});
  }
};

}  // namespace

std::unique_ptr<const SaeFormat> make_dictionary_learning_format() {
  return std::make_unique<DictionaryLearning>();
}

}  // namespace drrik
