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
  if (method != "fp8") {
    const auto bits = find_int(*config, "bits", what);
    throw_data(what, ": the weights are quantised with ", method,
               bits ? str(" (", *bits, " bits)") : std::string(),
               ", which is not read (fp8 is); use the model as it was before");
  }
  out.fp8 = true;
  if (find_member(*config, "weight_block_size", what) != nullptr) {
    const std::vector<std::int64_t> block = get_ints(*config, "weight_block_size", what);
    if (block.size() != 2 || block[0] < 1 || block[1] < 1) {
      throw_data(what, ": 'weight_block_size' is ", shape_string(block),
                 ", wanted two positive numbers");
    }
    out.block = {block[0], block[1]};
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
