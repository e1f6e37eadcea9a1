#pragma once
// Models with random weights: for benchmarks and tests, at any size, without a file.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "drrik/model/config.h"
#include "drrik/model/model.h"
#include "drrik/ops/gemm.h"

namespace drrik {

/// A Llama of 134 million parameters (d_model 768, 12 layers, 12 heads, d_mlp 2048, 32000 tokens,
/// untied head): the shape that the speed targets are set for.
ModelConfig bench_llama_config();

/// Builds the model in memory: matrices uniform with variance 1 / columns, norms 1, biases 0. The
/// same config and seed give the same weights whatever the options. Throws Error(data) when the
/// config is not valid.
Model make_random_model(const ModelConfig& config, std::uint64_t seed,
                        const ModelOptions& options = {});

/// The products that forward() makes for `rows` rows, the output head's (for `head_rows` rows)
/// last: what measure_gemm_rate() takes to say how fast a pass could be.
std::vector<GemmShape> forward_products(const ModelConfig& config, std::int64_t rows,
                                        std::int64_t head_rows = 0);

/// Writes a Llama of `config` with such weights as a HuggingFace folder: config.json and
/// model.safetensors in `dtype` (float32, bfloat16 or float16). All weights are in memory
/// meanwhile. Throws Error(usage) for another family, Error(io).
void write_random_model(const ModelConfig& config, std::uint64_t seed, DType dtype,
                        const std::filesystem::path& folder);

}  // namespace drrik
