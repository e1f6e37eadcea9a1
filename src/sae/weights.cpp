// Weights by name and shape, in the orientations that files keep them in.

#include <algorithm>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/base/threads.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "drrik/ops/convert.h"
#include "sae/format.h"

namespace drrik {
namespace {

std::string names_of(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (names.size() == 12) {
      names.emplace_back("…");
      break;
    }
    names.push_back(name + " " + shape_string(tensor.shape()));
  }
  return names.empty() ? "no tensors" : join(names);
}

const Tensor& get_tensor(const TensorMap& tensors, std::string_view name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    throw_data("no tensor '", name, "'; the file has ", names_of(tensors));
  }
  return found->second;
}

// float32 and of the shape wanted, or an error that says both.
Tensor float_tensor(const TensorMap& tensors, std::string_view name,
                    const std::vector<std::int64_t>& shape) {
  const Tensor& tensor = get_tensor(tensors, name);
  if (tensor.shape() != shape) {
    throw_data("tensor '", name, "' has shape ", shape_string(tensor.shape()), ", wanted ",
               shape_string(shape));
  }
  if (!is_floating(tensor.dtype())) {
    throw_data("tensor '", name, "' is ", dtype_name(tensor.dtype()), ", wanted a floating type");
  }
  Tensor out = tensor.to(DType::kF32);
  if (has_nonfinite(out.data<float>())) throw_data("tensor '", name, "' holds NaN or Inf");
  return out;
}

void expect_rank(const Tensor& tensor, std::string_view name, std::int64_t rank) {
  if (tensor.rank() != rank) {
    throw_data("tensor '", name, "' has shape ", shape_string(tensor.shape()), ", wanted rank ",
               rank);
  }
}

void transpose_into(MatView<const float> from, MatView<float> to) {
  constexpr std::int64_t kTile = 32;
  parallel_for((from.rows() + kTile - 1) / kTile, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r0 = begin * kTile; r0 < std::min(end * kTile, from.rows()); r0 += kTile) {
      const std::int64_t r1 = std::min(r0 + kTile, from.rows());
      for (std::int64_t c0 = 0; c0 < from.cols(); c0 += kTile) {
        const std::int64_t c1 = std::min(c0 + kTile, from.cols());
        for (std::int64_t r = r0; r < r1; ++r) {
          for (std::int64_t c = c0; c < c1; ++c) to(c, r) = from(r, c);
        }
      }
    }
  });
}

ReluSae empty_relu(std::int64_t d, std::int64_t h, const ReluHints& hints, bool has_bias) {
  expect_size(hints.activation_dim, d, "activation_dim");
  expect_size(hints.hidden_dim, h, "hidden_dim");
  if (d < 1 || h < 1) throw_data("an autoencoder of ", d, " x ", h, " has no weights");
  ReluSaeConfig config;
  config.activation_dim = d;
  config.hidden_dim = h;
  config.l1_coefficient = hints.l1_coefficient.value_or(config.l1_coefficient);
  config.pre_encoder_bias = hints.pre_encoder_bias.value_or(has_bias);
  config.normalize_decoder = hints.normalize_decoder.value_or(true);
  return ReluSae(config);
}

// Without a word about it in the file, free directions are told from unit ones by their length.
ReluSae with_guessed_norm(ReluSae sae, const ReluHints& hints) {
  if (hints.normalize_decoder || unit_rows(std::as_const(sae).decoder())) return sae;
  ReluSaeConfig config = sae.config();
  config.normalize_decoder = false;
  ReluSae free(config);
  copy(std::as_const(sae).encoder(), free.encoder());
  copy(std::as_const(sae).decoder(), free.decoder());
  std::ranges::copy(std::as_const(sae).encoder_bias(), free.encoder_bias().begin());
  std::ranges::copy(std::as_const(sae).bias(), free.bias().begin());
  return free;
}

void fill(std::span<float> to, const Tensor& from) {
  std::ranges::copy(from.data<float>(), to.begin());
}

}  // namespace

bool unit_rows(MatView<const float> m) {
  for (std::int64_t j = 0; j < m.rows(); ++j) {
    if (std::abs(std::sqrt(sum_squares(m.row(j))) - 1.0) > 1e-3) return false;
  }
  return true;
}

Tensor transposed(MatView<const float> m) {
  Tensor out = Tensor::uninitialized(DType::kF32, {m.cols(), m.rows()});
  transpose_into(m, out.mutable_mat<float>());
  return out;
}

ReluSae relu_from_described(const TensorMap& tensors, const ReluHints& hints) {
  const Tensor& encoder = get_tensor(tensors, "encoder.weight");
  expect_rank(encoder, "encoder.weight", 2);
  const std::int64_t h = encoder.dim(0);
  const std::int64_t d = encoder.dim(1);
  const bool has_bias = tensors.find("bias") != tensors.end();
  if (hints.pre_encoder_bias.value_or(false) && !has_bias) get_tensor(tensors, "bias");
  ReluSae sae = empty_relu(d, h, hints, has_bias);
  copy(float_tensor(tensors, "encoder.weight", {h, d}).mat<float>(), sae.encoder());
  transpose_into(float_tensor(tensors, "decoder.weight", {d, h}).mat<float>(), sae.decoder());
  if (tensors.find("encoder_bias") != tensors.end()) {
    fill(sae.encoder_bias(), float_tensor(tensors, "encoder_bias", {h}));
  }
  if (has_bias) fill(sae.bias(), float_tensor(tensors, "bias", {d}));
  return with_guessed_norm(std::move(sae), hints);
}

ReluSae relu_from_saelens(const TensorMap& tensors, const ReluHints& hints, bool centred) {
  const Tensor& b_enc = get_tensor(tensors, "b_enc");
  const Tensor& b_dec = get_tensor(tensors, "b_dec");
  expect_rank(b_enc, "b_enc", 1);
  expect_rank(b_dec, "b_dec", 1);
  const std::int64_t h = b_enc.dim(0);
  const std::int64_t d = b_dec.dim(0);
  const std::vector<std::int64_t> by_input = {d, h};
  const std::vector<std::int64_t> by_latent = {h, d};
  const auto& shape = get_tensor(tensors, "W_enc").shape();
  const bool linear = h != d && shape == by_latent;
  const Tensor decoder_bias = float_tensor(tensors, "b_dec", {d});
  const bool has_bias =
      std::ranges::any_of(decoder_bias.data<float>(), [](float v) { return v != 0.0F; });
  ReluHints known = hints;
  if (!known.pre_encoder_bias) known.pre_encoder_bias = has_bias || centred;
  ReluSae sae = empty_relu(d, h, known, has_bias);
  const Tensor w_enc = float_tensor(tensors, "W_enc", linear ? by_latent : by_input);
  const Tensor w_dec = float_tensor(tensors, "W_dec", linear ? by_input : by_latent);
  if (linear) {
    copy(w_enc.mat<float>(), sae.encoder());
    transpose_into(w_dec.mat<float>(), sae.decoder());
  } else {
    transpose_into(w_enc.mat<float>(), sae.encoder());
    copy(w_dec.mat<float>(), sae.decoder());
  }
  fill(sae.encoder_bias(), float_tensor(tensors, "b_enc", {h}));
  fill(sae.bias(), decoder_bias);
  if (!centred && has_bias) {
    // x Eᵀ + b = (x − b_dec) Eᵀ + (b + E b_dec).
    for (std::int64_t j = 0; j < h; ++j) {
      sae.encoder_bias()[static_cast<std::size_t>(j)] +=
          static_cast<float>(dot(sae.encoder().row(j), decoder_bias.data<float>()));
    }
  }
  return with_guessed_norm(std::move(sae), hints);
}

ReluSae relu_from_tensors(const TensorMap& tensors, const ReluHints& hints) {
  if (tensors.find("encoder.weight") != tensors.end()) return relu_from_described(tensors, hints);
  if (tensors.find("W_enc") != tensors.end()) return relu_from_saelens(tensors, hints);
  throw_data(
      "no autoencoder: wanted tensors encoder.weight, decoder.weight, encoder_bias, bias or ",
      "W_enc, W_dec, b_enc, b_dec; the file has ", names_of(tensors));
}

ReluSae relu_from_coder(const SparseCoder& coder) {
  Expression expression(coder, "the described autoencoder");
  expression.use_standard_for_zero_thresholds();
  expression.allow({"standard"});
  expression.refuse_transcoders();
  expression.refuse_row_normalization();
  expression.refuse_parts();
  const auto b_dec = expression.coder().b_dec();
  const bool has_bias = std::ranges::any_of(b_dec, [](float v) { return v != 0.0F; });
  if (has_bias) expression.centre(true);
  const SparseCoder& from = expression.coder();
  ReluSaeConfig config;
  config.activation_dim = from.d_in();
  config.hidden_dim = from.d_sae();
  config.normalize_decoder = unit_rows(from.decoder());
  config.pre_encoder_bias = has_bias || from.config().apply_b_dec_to_input;
  ReluSae sae(config);
  copy(from.encoder(), sae.encoder());
  copy(from.decoder(), sae.decoder());
  std::ranges::copy(from.b_enc(), sae.encoder_bias().begin());
  std::ranges::copy(from.b_dec(), sae.bias().begin());
  return sae;
}

TensorMap read_tensor_map(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  TensorMap tensors;
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.dtype) tensors.emplace(entry.name, file.get(entry.name));
  }
  return tensors;
}

TensorMap tensors_of(const PtValue& dict) {
  TensorMap out;
  for (const auto& [key, value] : dict.members()) {
    if (key.kind() == PtValue::Kind::kString && value.kind() == PtValue::Kind::kTensor) {
      out.emplace(key.as_string(), Tensor::share(value.shared_tensor()));
    }
  }
  return out;
}

TensorFile read_tensor_file(const std::filesystem::path& path) {
  TensorFile file;
  file.path = path;
  const std::string extension = path.extension().string();
  if (extension == ".safetensors") {
    file.tensors = read_tensor_map(path);
  } else if (extension == ".npz") {
    for (auto& [name, tensor] : read_npz(path)) file.tensors.emplace(name, std::move(tensor));
  } else if (extension == ".pt" || extension == ".pth" || extension == ".bin") {
    file.dict = read_torch_file(path);
    if (file.dict->kind() != PtValue::Kind::kDict) {
      throw_data("holds a ", file.dict->kind_name(), ", wanted a dictionary of tensors");
    }
    file.tensors = tensors_of(*file.dict);
  } else {
    throw_data(
        "not an SAE that drrik reads: wanted an SAE folder, or a .pt, .npz or .safetensors file");
  }
  return file;
}

bool TensorFile::has_all(std::initializer_list<std::string_view> names) const {
  return std::ranges::all_of(names, [&](std::string_view name) { return has(name); });
}

std::array<std::int64_t, 2> TensorFile::matrix(std::string_view name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.rank() != 2) return {0, 0};
  return {found->second.dim(0), found->second.dim(1)};
}

const Tensor& CoderWeights::use(std::string_view name) {
  used_.emplace(name);
  return get_tensor(tensors_, name);
}

std::array<std::int64_t, 2> CoderWeights::matrix(std::string_view name) const {
  const Tensor& tensor = get_tensor(tensors_, name);
  expect_rank(tensor, name, 2);
  return {tensor.dim(0), tensor.dim(1)};
}

std::int64_t CoderWeights::length(std::string_view name) const {
  const Tensor& tensor = get_tensor(tensors_, name);
  expect_rank(tensor, name, 1);
  return tensor.dim(0);
}

void CoderWeights::read(std::string_view name, MatView<float> to) {
  use(name);
  copy(float_tensor(tensors_, name, {to.rows(), to.cols()}).mat<float>(), to);
}

void CoderWeights::read_transposed(std::string_view name, MatView<float> to) {
  use(name);
  transpose_into(float_tensor(tensors_, name, {to.cols(), to.rows()}).mat<float>(), to);
}

void CoderWeights::read(std::string_view name, std::span<float> to) {
  read_shaped(name, {static_cast<std::int64_t>(to.size())}, to);
}

void CoderWeights::read_shaped(std::string_view name, const std::vector<std::int64_t>& shape,
                               std::span<float> to) {
  use(name);
  fill(to, float_tensor(tensors_, name, shape));
}

void CoderWeights::read_threshold(std::string_view name, std::span<float> to) {
  const Tensor& tensor = use(name);
  if (tensor.rank() == 0) {
    std::ranges::fill(to, float_tensor(tensors_, name, {}).data<float>()[0]);
  } else {
    read(name, to);
  }
  for (float& t : to) t = std::max(t, 0.0F);
}

double CoderWeights::read_scalar(std::string_view name) {
  const Tensor& tensor = use(name);
  if (tensor.elements() != 1) {
    throw_data("tensor '", name, "' has shape ", shape_string(tensor.shape()),
               ", wanted one number");
  }
  if (tensor.dtype() == DType::kF64) return tensor.clone().data<double>()[0];
  return static_cast<double>(tensor.to(DType::kF32).data<float>()[0]);
}

std::vector<std::int64_t> CoderWeights::read_integers(std::string_view name) {
  const Tensor& tensor = use(name);
  expect_rank(tensor, name, 1);
  constexpr std::int64_t kMost = 1 << 16;
  if (tensor.dim(0) > kMost) {
    throw_data("tensor '", name, "' has ", tensor.dim(0), " elements, wanted at most ", kMost);
  }
  std::vector<std::int64_t> out;
  if (tensor.dtype() == DType::kI64) {
    const Tensor values = tensor.clone();
    const auto data = values.data<std::int64_t>();
    out.assign(data.begin(), data.end());
    return out;
  }
  const Tensor values = tensor.to(DType::kF32);
  for (const float v : values.data<float>()) {
    if (!(std::abs(v) < 1e9F)) throw_data("tensor '", name, "' holds ", v, ", wanted integers");
    out.push_back(static_cast<std::int64_t>(v));
  }
  return out;
}

void CoderWeights::warn_unused() const {
  std::vector<std::string> unused;
  for (const auto& [name, tensor] : tensors_) {
    if (!used_.contains(name) && unused.size() < 12) unused.push_back("'" + name + "'");
  }
  if (!unused.empty()) log_warning("tensors that say nothing to drrik: ", join(unused));
}

SparseCoder coder_in_file(const SparseCoderConfig& config) {
  try {
    return SparseCoder(config);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    throw Error(ErrorKind::kData, error.what());
  }
}

void expect_size(std::optional<std::int64_t> said, std::int64_t found, std::string_view what) {
  if (said && *said != found) {
    throw_data("the weights have ", what, " ", found, ", the file's settings say ", *said);
  }
}

LoadedSae loaded_coder(SparseCoder coder, SaeRecord record, std::string_view format) {
  LoadedSae loaded;
  loaded.sae = std::make_unique<SparseCoder>(std::move(coder));
  loaded.record = std::move(record);
  loaded.format = format;
  return loaded;
}

void TensorList::add(std::string name, Tensor tensor) {
  if (tensor.dtype() == DType::kF32 && has_nonfinite(tensor.data<float>())) {
    throw_numeric("sae: '", name, "' holds NaN or Inf; nothing was written");
  }
  tensors_.emplace_back(std::move(name), std::move(tensor));
}

void TensorList::add(std::string name, std::span<const float> values) {
  add(std::move(name), Tensor::from<float>(values, {static_cast<std::int64_t>(values.size())}));
}

void TensorList::add(std::string name, MatView<const float> rows) {
  Tensor tensor = Tensor::uninitialized(DType::kF32, {rows.rows(), rows.cols()});
  copy(rows, tensor.mutable_mat<float>());
  add(std::move(name), std::move(tensor));
}

std::vector<NamedTensor> TensorList::named() const {
  std::vector<NamedTensor> out;
  for (const auto& [name, tensor] : tensors_) out.push_back({name, &tensor});
  return out;
}

PtValue TensorList::dict() const {
  PtValue out = PtValue::dict(/*ordered=*/true);
  for (const auto& [name, tensor] : tensors_) out.set(name, tensor.clone());
  return out;
}

}  // namespace drrik
