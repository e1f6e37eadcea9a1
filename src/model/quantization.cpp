#include "model/quantization.h"

#include <string>
#include <vector>

#include "drrik/base/threads.h"
#include "io/json.h"

namespace drrik::detail {
namespace {

constexpr std::uint64_t kMaxConfig = std::uint64_t{64} << 20;

std::string method_of(const Json& config, const std::string& what) {
  if (const auto method = find_string(config, "quant_method", what)) return *method;
  for (const char* key : {"load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit"}) {
    if (find_member(config, key, what) != nullptr) return "bitsandbytes";
  }
  return "an unnamed method";
}

/// Rows and columns that share a scale.
std::array<std::int64_t, 2> get_block(const Json& config, std::string_view key,
                                      std::string_view what) {
  const std::vector<std::int64_t> block = get_ints(config, key, what);
  if (block.size() != 2 || block[0] < 1 || block[1] < 1) {
    throw_data(what, ": '", key, "' is ", shape_string(block), ", wanted two positive numbers");
  }
  return {block[0], block[1]};
}

[[noreturn]] void refuse(std::string_view what, std::string_view key, std::string_view got,
                         std::string_view wanted) {
  throw_data(what, ": '", key, "' is ", got,
             ", of compressed-tensors' forms only 8-bit floats are ", "read; wanted ", wanted,
             ", or the model as it was before");
}

/// How one group of matrices is stored: the block that shares a scale, if there is one.
std::optional<std::array<std::int64_t, 2>> parse_group(const Json& weights,
                                                       const std::string& what) {
  expect_object(weights, what);
  const std::int64_t bits = get_int(weights, "num_bits", what, 8);
  if (bits != 8) refuse(what, "num_bits", str(bits), "8");
  const std::string type = get_string(weights, "type", what, "int");
  if (type != "float") refuse(what, "type", type, "float");
  if (!get_bool(weights, "symmetric", what, true)) refuse(what, "symmetric", "false", "true");
  const std::string strategy = get_string(weights, "strategy", what, "tensor");
  if (strategy == "block") return get_block(weights, "block_structure", what);
  if (strategy != "tensor" && strategy != "channel") {
    refuse(what, "strategy", strategy, "tensor, channel or block");
  }
  return std::nullopt;
}

void parse_compressed(const Json& config, const std::string& what, Quantization& out) {
  const std::string format = get_string(config, "format", what, "dense");
  if (format != "float-quantized" && format != "naive-quantized") {
    refuse(what, "format", format, "float-quantized");
  }
  // Weights that are pruned or rotated as well.
  if (const Json* sparsity = find_member(config, "sparsity_config", what)) {
    const std::string sparse = get_string(expect_object(*sparsity, what), "format", what, "dense");
    if (sparse != "dense") refuse(what, "sparsity_config.format", sparse, "dense");
  }
  if (const Json* transform = find_member(config, "transform_config", what)) {
    if (!transform->empty()) refuse(what, "transform_config", "set", "none");
  }
  const Json* groups = find_member(config, "config_groups", what);
  if (groups == nullptr || expect_object(*groups, what).empty()) {
    throw_data(what, ": 'config_groups' is absent, wanted how the weights are stored");
  }
  bool first = true;
  for (const auto& [name, group] : groups->items()) {
    const std::string where = str(what, ": config_groups.", name.substr(0, 80));
    const Json* weights = find_member(expect_object(group, where), "weights", where);
    if (weights == nullptr) continue;  // activations alone
    const auto block = parse_group(*weights, where + ".weights");
    if (!first && block != out.block) {
      throw_data(where, ": its scales serve other blocks than another group's, wanted the same");
    }
    out.block = block;
    first = false;
  }
}

}  // namespace

Quantization read_quantization(const std::filesystem::path& folder) {
  Quantization out;
  const std::filesystem::path file = folder / "config.json";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return out;
  const Json json = read_json_file(file, kMaxConfig);
  const Json* config = find_member(json, "quantization_config", file.string());
  if (config == nullptr) return out;
  const std::string what = file.string() + ": 'quantization_config'";
  const std::string method = method_of(expect_object(*config, what), what);
  if (method == "compressed-tensors") {
    parse_compressed(*config, what, out);
  } else if (method != "fp8" && method != "fbgemm_fp8") {
    const auto bits = find_int(*config, "bits", what);
    throw_data(what, ": the weights are quantised with ", method,
               bits ? str(" (", *bits, " bits)") : std::string(),
               ", which is not read (fp8, fbgemm_fp8 and compressed-tensors' float-quantized are); "
               "use the model as it was before");
  }
  out.fp8 = true;
  if (method == "fp8" && find_member(*config, "weight_block_size", what) != nullptr) {
    out.block = get_block(*config, "weight_block_size", what);
  }
  return out;
}

Tensor scaled(const Tensor& weight, const Tensor& scale,
              const std::optional<std::array<std::int64_t, 2>>& block) {
  if (weight.rank() != 2) throw_data("shape ", shape_string(weight.shape()), ", wanted a matrix");
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  // Rows and columns a scale serves, and how many scales stand in a row of them.
  std::int64_t tall = std::max<std::int64_t>(rows, 1);
  std::int64_t wide = std::max<std::int64_t>(cols, 1);
  std::int64_t across = 1;
  const auto blocks = [](std::int64_t size, std::int64_t of) { return (size + of - 1) / of; };
  const std::vector<std::int64_t>& shape = scale.shape();
  if (scale.elements() == 1) {
    // One for all, whatever block there is said to be.
  } else if (block && shape == std::vector<std::int64_t>{blocks(rows, (*block)[0]),
                                                         blocks(cols, (*block)[1])}) {
    tall = (*block)[0];
    wide = (*block)[1];
    across = shape[1];
  } else if (!block && scale.elements() == rows && !shape.empty() && shape[0] == rows) {
    tall = 1;
  } else {
    throw_data("its scales have shape ", shape_string(shape), ", wanted ",
               block ? str("one for each block of ", shape_string(*block)) : "one, or one a row",
               " of ", shape_string(weight.shape()));
  }
  if (!is_floating(scale.dtype())) throw_data("its scales are ", dtype_name(scale.dtype()));
  std::vector<float> scales(static_cast<std::size_t>(scale.elements()));
  convert_to_float(scale.raw(), scale.dtype(), scale.elements(), scales.data());
  Tensor out = Tensor::uninitialized(DType::kF32, weight.shape());
  const MatView<float> values = out.mutable_mat<float>();
  const std::size_t size = dtype_size(weight.dtype());
  parallel_for(rows, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* row = values.row_ptr(r);
      convert_to_float(weight.raw() + static_cast<std::size_t>(r * cols) * size, weight.dtype(),
                       cols, row);
      const float* scale_row = scales.data() + r / tall * across;
      for (std::int64_t c = 0; c < cols; ++c) row[c] *= scale_row[c / wide];
    }
  });
  weight.drop_pages();
  return out;
}

}  // namespace drrik::detail
