#include "drrik/model/random_model.h"

#include <cmath>
#include <map>

#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/io/safetensors.h"
#include "io/json.h"
#include "model/model_impl.h"
#include "model/weights.h"

namespace drrik {
namespace {

std::uint64_t hash_name(std::string_view name) {  // FNV-1a
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ULL;
  }
  return hash;
}

class RandomTensors final : public detail::TensorSource {
 public:
  explicit RandomTensors(std::uint64_t seed) : seed_(seed) {}

  Tensor get(const std::string& name, std::span<const std::int64_t> shape) const override {
    Tensor out = Tensor::uninitialized(DType::kF32, {shape.begin(), shape.end()});
    const std::span<float> values = out.mutable_data<float>();
    if (shape.size() == 1) {
      // Norms scale by one, biases add nothing.
      std::fill(values.begin(), values.end(), name.ends_with(".weight") ? 1.0F : 0.0F);
      return out;
    }
    // Uniform in ±a has variance a² / 3; 1 / columns keeps the scale of what passes through.
    const float a = std::sqrt(3.0F / static_cast<float>(shape.back()));
    const auto n = static_cast<std::int64_t>(values.size());
    parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      Rng rng(seed_, hash_name(name));
      rng.seek(static_cast<std::uint64_t>(begin));
      for (std::int64_t i = begin; i < end; ++i) {
        values[static_cast<std::size_t>(i)] = a * (2.0F * rng.uniform() - 1.0F);
      }
    });
    return out;
  }

  void check(const std::string& /*name*/, std::span<const std::int64_t> /*shape*/) const override {}

 private:
  std::uint64_t seed_;
};

/// Notes down what it is asked for.
class Recorder final : public detail::TensorSource {
 public:
  explicit Recorder(std::uint64_t seed) : random_(seed) {}
  Tensor get(const std::string& name, std::span<const std::int64_t> shape) const override {
    check(name, shape);
    return random_.get(name, shape);
  }
  void check(const std::string& name, std::span<const std::int64_t> shape) const override {
    asked_[name].assign(shape.begin(), shape.end());
  }
  std::map<std::string, Tensor> tensors(DType dtype) const {
    std::map<std::string, Tensor> out;
    for (const auto& [name, shape] : asked_) out.emplace(name, random_.get(name, shape).to(dtype));
    return out;
  }

 private:
  RandomTensors random_;
  mutable std::map<std::string, std::vector<std::int64_t>> asked_;
};

}  // namespace

namespace detail {
std::unique_ptr<TensorSource> random_tensors(std::uint64_t seed) {
  return std::make_unique<RandomTensors>(seed);
}
}  // namespace detail

ModelConfig bench_llama_config() {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = 32000;
  config.d_model = 768;
  config.n_layers = 12;
  config.n_heads = 12;
  config.n_kv_heads = 12;
  config.head_dim = 64;
  config.d_mlp = 2048;
  config.max_positions = 2048;
  config.norm = NormKind::kRmsNorm;
  config.norm_eps = 1e-5;
  config.activation = Activation::kSilu;
  config.gated_mlp = true;
  config.positions = PositionKind::kRotary;
  config.rope.dim = config.head_dim;
  config.tied_head = false;
  config.bos_id = 1;
  return config;
}

Model make_random_model(const ModelConfig& config, std::uint64_t seed,
                        const ModelOptions& options) {
  config.validate();
  return detail::make_model(config, options, detail::random_tensors(seed));
}

void write_random_model(const ModelConfig& config, std::uint64_t seed, DType dtype,
                        const std::filesystem::path& folder) {
  if (config.family != "llama") {
    throw_usage("a random model of family '", config.family, "' cannot be written, only a llama");
  }
  config.validate();
  const auto recorder = std::make_shared<const Recorder>(seed);
  const detail::Weights asks_for_all(config, {.residency = Residency::kStreamed}, recorder);
  const std::map<std::string, Tensor> tensors = recorder->tensors(dtype);
  std::vector<NamedTensor> named;
  for (const auto& [name, tensor] : tensors) named.push_back({name, &tensor});
  const Json json = {{"model_type", "llama"},
                     {"architectures", {"LlamaForCausalLM"}},
                     {"vocab_size", config.vocab_size},
                     {"hidden_size", config.d_model},
                     {"intermediate_size", config.d_mlp},
                     {"num_hidden_layers", config.n_layers},
                     {"num_attention_heads", config.n_heads},
                     {"num_key_value_heads", config.n_kv_heads},
                     {"head_dim", config.head_dim},
                     {"max_position_embeddings", config.max_positions},
                     {"rms_norm_eps", config.norm_eps},
                     {"rope_theta", config.rope.theta},
                     {"hidden_act", activation_name(config.activation)},
                     {"attention_bias", config.qkv_bias},
                     {"mlp_bias", config.mlp_bias},
                     {"tie_word_embeddings", config.tied_head},
                     {"torch_dtype", dtype_name(dtype)}};
  create_folders(folder);
  write_safetensors(folder / "model.safetensors", named, {{"format", "pt"}});
  write_json_file(folder / "config.json", json);
}

std::vector<GemmShape> forward_products(const ModelConfig& config, std::int64_t rows,
                                        std::int64_t head_rows) {
  const std::int64_t d = config.d_model;
  std::vector<GemmShape> out = {
      {rows, d, config.q_dim() + 2 * config.kv_dim(), config.n_layers},
      {rows, config.q_dim(), d, config.n_layers},
      {rows, d, (config.gated_mlp ? 2 : 1) * config.d_mlp, config.n_layers},
      {rows, config.d_mlp, d, config.n_layers},
  };
  if (head_rows > 0) out.push_back({head_rows, d, config.vocab_size, 1});
  return out;
}

}  // namespace drrik
