#include "drrik/sae/sparse_coder.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "drrik/ops/gemm.h"
#include "drrik/ops/sae_kernels.h"
#include "sae/tiles.h"
#include "sae/variant.h"

namespace drrik {
namespace {

constexpr float kLayerNormEps = 1e-5F;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void check_width(std::int64_t got, std::int64_t wanted, const char* what) {
  if (got != wanted) throw_data("sae: ", what, " of width ", got, ", the coder takes ", wanted);
}

template <typename A, typename B>
void check_rows(MatView<A> a, MatView<B> b) {
  if (a.rows() != b.rows()) {
    throw_data("sae: ", a.rows(), " rows in, room for ", b.rows(), " rows out");
  }
}

// What undoes a row's normalisation: out · deviation + mean.
struct RowScale {
  float mean = 0.0F;
  float deviation = 1.0F;
};

RowScale layer_norm(std::span<float> row) {
  double sum = 0.0;
  for (const float v : row) sum += static_cast<double>(v);
  const double mean = sum / static_cast<double>(row.size());
  double squares = 0.0;
  for (const float v : row) {
    const double e = static_cast<double>(v) - mean;
    squares += e * e;
  }
  const double n = std::max<double>(1.0, static_cast<double>(row.size()) - 1.0);
  const RowScale scale{static_cast<float>(mean), static_cast<float>(std::sqrt(squares / n))};
  for (float& v : row) v = (v - scale.mean) / (scale.deviation + kLayerNormEps);
  return scale;
}

RowScale constant_norm(std::span<float> row) {
  const double norm = std::sqrt(sum_squares(row));
  if (!(norm > 0.0)) return {};
  const double by = std::sqrt(static_cast<double>(row.size())) / norm;
  for (float& v : row) v = static_cast<float>(static_cast<double>(v) * by);
  return {0.0F, static_cast<float>(1.0 / by)};
}

// Rows of one block, joined in order afterwards.
struct EncodedBlock {
  std::vector<std::int64_t> counts;
  std::vector<std::int32_t> latent;
  std::vector<float> value;
};

}  // namespace

void SparseCoderConfig::validate() const {
  constexpr std::int64_t kMax = 0x7FFFFFFF;
  const auto in_range = [](const char* name, std::int64_t value) {
    if (value < 1 || value > kMax) {
      throw_usage(name, ": got ", value, ", wanted 1 to 2^31 - 1");
    }
  };
  in_range("d_in", d_in);
  in_range("d_sae", d_sae);
  in_range("d_out", output_width());
  if (!checked_mul(d_in, d_sae) || !checked_mul(output_width(), d_sae)) {
    throw_usage("a coder of ", d_in, " x ", d_sae, " is too large");
  }
  if (apply_b_dec_to_input && output_width() != d_in) {
    throw_usage("apply_b_dec_to_input: the input is ", d_in, " wide, b_dec ", output_width());
  }
  if (parts < 1 || d_in % parts != 0 || output_width() % parts != 0) {
    throw_usage("parts: got ", parts, ", wanted a divisor of the width ", d_in);
  }
  if (row_normalization != RowNormalization::kNone && output_width() != d_in) {
    throw_usage("row_normalization: the output is ", output_width(), " wide, the input ", d_in);
  }
  if (architecture == "matryoshka" && groups.empty()) {
    throw_usage("groups: matryoshka needs the ends of its prefixes");
  }
  if (!groups.empty()) {
    if (architecture != "matryoshka") throw_usage("groups: only matryoshka has them");
    std::int64_t before = 0;
    for (const std::int64_t end : groups) {
      if (end <= before) throw_usage("groups: ", end, " after ", before, "; wanted ascending ends");
      before = end;
    }
    if (before != d_sae) throw_usage("groups: end at ", before, ", wanted d_sae = ", d_sae);
  }
}

SparseCoder::SparseCoder(const SparseCoderConfig& config) : config_(config) {
  config.validate();
  variant_ = make_sae_variant(config.architecture);
  variant_->validate(config);
  const std::int64_t h = config.d_sae;
  encoder_ = Tensor::zeros<float>({h, config.d_in});
  decoder_ = Tensor::zeros<float>({h, config.output_width()});
  b_enc_ = Tensor::zeros<float>({h});
  b_dec_ = Tensor::zeros<float>({config.output_width()});
  if (config.skip) skip_ = Tensor::zeros<float>({config.output_width(), config.d_in});
  for (std::size_t i = 0; i < variant_->parameters().size(); ++i) {
    latent_parameters_.push_back(Tensor::zeros<float>({h}));
  }
}

SparseCoder::SparseCoder(SparseCoder&&) noexcept = default;
SparseCoder& SparseCoder::operator=(SparseCoder&&) noexcept = default;
SparseCoder::~SparseCoder() = default;

SparseCoder SparseCoder::random(const SparseCoderConfig& config, const SparseCoderInit& init,
                                Rng& rng) {
  SparseCoder coder(config);
  const auto decoder = coder.decoder();
  const std::int64_t width = decoder.cols() / config.parts;
  for (std::int64_t j = 0; j < decoder.rows(); ++j) {
    for (float& w : decoder.row(j)) w = rng.normal();
    for (std::int64_t p = 0; p < config.parts; ++p) {
      const auto part = decoder.row(j).subspan(at(p * width), at(width));
      const double norm = std::max(std::sqrt(sum_squares(part)), 1e-8);
      for (float& w : part)
        w = static_cast<float>(static_cast<double>(w) * init.decoder_norm / norm);
    }
  }
  if (init.encoder == SparseCoderInit::Encoder::kTranspose && config.d_in == decoder.cols()) {
    copy(std::as_const(coder).decoder(), coder.encoder());
  } else {
    const float bound = 1.0F / std::sqrt(static_cast<float>(config.d_in));
    for (float& w : coder.encoder_.mutable_data<float>()) w = (2.0F * rng.uniform() - 1.0F) * bound;
  }
  if (init.zero_decoder) std::ranges::fill(coder.decoder_.mutable_data<float>(), 0.0F);
  coder.variant_->initialize(coder, init);
  return coder;
}

SparseCoder SparseCoder::clone() const {
  SparseCoder copy(config_);
  copy.encoder_ = encoder_.clone();
  copy.decoder_ = decoder_.clone();
  copy.b_enc_ = b_enc_.clone();
  copy.b_dec_ = b_dec_.clone();
  if (skip_.defined()) copy.skip_ = skip_.clone();
  for (std::size_t i = 0; i < latent_parameters_.size(); ++i) {
    copy.latent_parameters_[i] = latent_parameters_[i].clone();
  }
  return copy;
}

std::vector<std::string> SparseCoder::latent_parameter_names() const {
  return variant_->parameters();
}

std::span<const float> SparseCoder::latent_parameter(std::string_view name) const {
  const std::vector<std::string> names = variant_->parameters();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return latent_parameters_[i].data<float>();
  }
  return {};
}

std::span<float> SparseCoder::latent_parameter(std::string_view name) {
  const auto found = std::as_const(*this).latent_parameter(name);
  return {const_cast<float*>(found.data()), found.size()};
}

MatView<const float> SparseCoder::skip() const {
  return skip_.defined() ? skip_.mat<float>() : MatView<const float>();
}
MatView<float> SparseCoder::skip() {
  return skip_.defined() ? skip_.mutable_mat<float>() : MatView<float>();
}

std::vector<NamedTensor> SparseCoder::parameters() const {
  std::vector<NamedTensor> out = {
      {"W_enc", &encoder_}, {"W_dec", &decoder_}, {"b_enc", &b_enc_}, {"b_dec", &b_dec_}};
  if (skip_.defined()) out.push_back({"W_skip", &skip_});
  const std::vector<std::string> names = variant_->parameters();
  for (std::size_t i = 0; i < names.size(); ++i) out.push_back({names[i], &latent_parameters_[i]});
  return out;
}

Tensor& SparseCoder::parameter(std::string_view name) {
  for (const NamedTensor& known : std::as_const(*this).parameters()) {
    if (known.name == name) return const_cast<Tensor&>(*known.tensor);
  }
  throw_usage("architecture '", config_.architecture, "' has no parameter '", name, "'");
}

std::vector<float> SparseCoder::decoder_norms() const {
  const auto decoder = this->decoder();
  const std::int64_t width = decoder.cols() / config_.parts;
  std::vector<float> norms(at(decoder.rows()));
  parallel_for(decoder.rows(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      double norm = 0.0;
      for (std::int64_t p = 0; p < config_.parts; ++p) {
        norm += std::sqrt(sum_squares(decoder.row(j).subspan(at(p * width), at(width))));
      }
      norms[at(j)] = static_cast<float>(norm);
    }
  });
  return norms;
}

void SparseCoder::fold_decoder_norms() {
  const std::vector<float> norms = decoder_norms();
  for (std::int64_t j = 0; j < d_sae(); ++j) {
    const float norm = norms[at(j)];
    if (!(norm > 0.0F)) continue;
    for (float& w : encoder().row(j)) w *= norm;
    for (float& w : decoder().row(j)) w /= norm;
    b_enc()[at(j)] *= norm;
    // A threshold that is compared with rescaled values is one already.
    const auto theta = latent_parameter("threshold");
    if (!theta.empty() && !config_.rescale_by_decoder_norm) theta[at(j)] *= norm;
    // m = p · exp(r_mag) + b_mag: p has grown.
    const auto b_mag = latent_parameter("b_mag");
    if (!b_mag.empty()) b_mag[at(j)] *= norm;
  }
  config_.rescale_by_decoder_norm = false;
}

void SparseCoder::fold_input_scale(double s_in, double s_out) {
  const std::vector<double> in(at(config_.parts), s_in);
  const std::vector<double> out(at(config_.parts), s_out);
  fold_part_scales(in, out);
}

void SparseCoder::fold_part_scales(std::span<const double> s_in, std::span<const double> s_out) {
  for (const auto scales : {s_in, s_out}) {
    if (scales.size() != at(config_.parts)) {
      throw_usage("input scales: got ", scales.size(), ", wanted ", config_.parts);
    }
    for (const double s : scales) {
      if (!std::isfinite(s) || s <= 0) throw_usage("input scale: got ", s, ", wanted > 0");
    }
  }
  if (config_.rescale_by_decoder_norm && config_.parts > 1 &&
      std::ranges::adjacent_find(s_out, std::not_equal_to<>()) != s_out.end()) {
    throw_usage("input scales: latents compared by their norms need one scale for all parts");
  }
  // Column c of a row belongs to part c / width.
  const auto times = [](std::span<float> row, std::span<const double> scales, bool inverse) {
    const std::size_t width = row.size() / scales.size();
    for (std::size_t c = 0; c < row.size(); ++c) {
      const double s = scales[c / width];
      row[c] = static_cast<float>(static_cast<double>(row[c]) * (inverse ? 1.0 / s : s));
    }
  };
  for (std::int64_t j = 0; j < d_sae(); ++j) {
    times(encoder().row(j), s_in, false);
    times(decoder().row(j), s_out, true);
  }
  times(b_dec(), s_out, true);
  for (std::int64_t r = 0; r < skip().rows(); ++r) {
    times(skip().row(r), s_in, false);
    const std::size_t part = at(r) / at(d_out() / config_.parts);
    for (float& v : skip().row(r)) v = static_cast<float>(static_cast<double>(v) / s_out[part]);
  }
  if (config_.rescale_by_decoder_norm) {
    times(latent_parameter("threshold"), s_out.first(1), true);
  }
}

SparseCoder SparseCoder::inference_form() const {
  if (variant_->inference_architecture() == variant_->name()) return clone();
  SparseCoderConfig config = config_;
  config.architecture = variant_->inference_architecture();
  config.groups.clear();
  SparseCoder out(config);
  for (const NamedTensor& parameter : parameters()) {
    out.parameter(parameter.name) = parameter.tensor->clone();
  }
  // A kept value is above 0 whatever the threshold.
  for (float& t : out.latent_parameter("threshold")) t = std::max(t, 0.0F);
  return out;
}

namespace {

// Encodes tiles of rows and hands on each row's latents and values.
template <typename F>
void each_encoded_row(const SparseCoder& coder, MatView<const float> x,
                      std::vector<RowScale>* scales, const F& f) {
  const SparseCoderConfig& config = coder.config();
  Tensor normalized;
  if (config.row_normalization != RowNormalization::kNone) {
    normalized = Tensor::uninitialized(DType::kF32, {x.rows(), x.cols()});
    const auto rows = normalized.mutable_mat<float>();
    copy(x, rows);
    std::vector<RowScale> all(at(x.rows()));
    const bool layer = config.row_normalization == RowNormalization::kLayerNorm;
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      all[at(r)] = layer ? layer_norm(rows.row(r)) : constant_norm(rows.row(r));
    }
    if (scales != nullptr) *scales = std::move(all);
    x = rows;
  }
  const SaeSelection selection = coder.variant().select(coder);
  const std::vector<float> norms =
      config.rescale_by_decoder_norm ? coder.decoder_norms() : std::vector<float>();
  const std::vector<float> zero(at(x.cols()), 0.0F);
  const std::span<const float> centre =
      config.apply_b_dec_to_input ? coder.b_dec() : std::span<const float>(zero);
  const std::int64_t h = coder.d_sae();
  const auto room = at(h) + 16;
  each_encoded_tile(
      x, centre, coder.encoder(),
      [&](std::int64_t first, MatView<const float>, MatView<float> pre) {
        constexpr std::int64_t kBlock = 16;
        std::vector<EncodedBlock> blocks(at((pre.rows() + kBlock - 1) / kBlock));
        parallel_for(static_cast<std::int64_t>(blocks.size()), 1,
                     [&](std::int64_t begin, std::int64_t end) {
                       std::vector<std::int32_t> latent(room);
                       std::vector<float> hidden(room);
                       for (std::int64_t b = begin; b < end; ++b) {
                         EncodedBlock& block = blocks[at(b)];
                         const std::int64_t stop = std::min(pre.rows(), (b + 1) * kBlock);
                         for (std::int64_t r = b * kBlock; r < stop; ++r) {
                           const std::int64_t n = sae_select_row(
                               pre.row(r), coder.b_enc(), selection, latent.data(), hidden.data());
                           std::int64_t kept = 0;
                           for (std::int64_t e = 0; e < n; ++e) {
                             const std::int32_t j = latent[at(e)];
                             float value = 0.0F;
                             coder.variant().activate(coder, j, {&hidden[at(e)], 1}, {&value, 1});
                             if (value == 0.0F) continue;
                             block.latent.push_back(j);
                             block.value.push_back(norms.empty() ? value : value * norms[at(j)]);
                             ++kept;
                           }
                           block.counts.push_back(kept);
                         }
                       }
                     });
        std::int64_t r = first;
        for (const EncodedBlock& block : blocks) {
          std::size_t from = 0;
          for (const std::int64_t n : block.counts) {
            f(r++, std::span(block.latent).subspan(from, at(n)),
              std::span(block.value).subspan(from, at(n)));
            from += at(n);
          }
        }
      });
}

// Features divided by the norms they were measured by.
std::vector<float> unscaled(const SparseCoder& coder, std::span<const std::int32_t> latent,
                            std::span<const float> value) {
  std::vector<float> out(value.begin(), value.end());
  const std::vector<float> norms = coder.decoder_norms();
  for (std::size_t e = 0; e < out.size(); ++e) {
    if (latent[e] < 0 || latent[e] >= coder.d_sae()) {
      throw_data("sae: latent ", latent[e], " outside [0, ", coder.d_sae(), ")");
    }
    const float norm = norms[at(latent[e])];
    if (norm > 0.0F) out[e] /= norm;
  }
  return out;
}

}  // namespace

void SparseCoder::encode(MatView<const float> x, MatView<float> out) const {
  check_width(x.cols(), d_in(), "activations");
  check_width(out.cols(), d_sae(), "features");
  check_rows(x, out);
  each_encoded_row(
      *this, x, nullptr,
      [&](std::int64_t r, std::span<const std::int32_t> latent, std::span<const float> value) {
        const auto row = out.row(r);
        std::ranges::fill(row, 0.0F);
        for (std::size_t e = 0; e < latent.size(); ++e) row[at(latent[e])] = value[e];
      });
}

namespace {

void append_row(SparseRows& out, std::span<const std::int32_t> latent,
                std::span<const float> value) {
  out.latent.insert(out.latent.end(), latent.begin(), latent.end());
  out.value.insert(out.value.end(), value.begin(), value.end());
  out.row_start.push_back(static_cast<std::int64_t>(out.latent.size()));
}

}  // namespace

void SparseCoder::encode(MatView<const float> x, SparseRows& out) const {
  check_width(x.cols(), d_in(), "activations");
  out.row_start.assign(1, 0);
  out.latent.clear();
  out.value.clear();
  each_encoded_row(*this, x, nullptr,
                   [&](std::int64_t, std::span<const std::int32_t> latent,
                       std::span<const float> value) { append_row(out, latent, value); });
}

void SparseCoder::decode(MatView<const float> f, MatView<float> out) const {
  check_width(f.cols(), d_sae(), "features");
  check_width(out.cols(), d_out(), "activations");
  check_rows(f, out);
  if (config_.rescale_by_decoder_norm) {
    SparseRows rows;
    rows.row_start.assign(1, 0);
    for (std::int64_t r = 0; r < f.rows(); ++r) {
      const auto row = f.row(r);
      for (std::size_t j = 0; j < row.size(); ++j) {
        if (row[j] == 0.0F) continue;
        rows.latent.push_back(static_cast<std::int32_t>(j));
        rows.value.push_back(row[j]);
      }
      rows.row_start.push_back(static_cast<std::int64_t>(rows.latent.size()));
    }
    decode(rows, out);
    return;
  }
  matmul(f, Trans::kNo, decoder(), Trans::kNo, out);
  add_row(b_dec(), out);
}

void SparseCoder::decode(const SparseRows& f, MatView<float> out) const {
  check_width(out.cols(), d_out(), "activations");
  if (config_.rescale_by_decoder_norm) {
    const std::vector<float> values = unscaled(*this, f.latent, f.value);
    sae_decode_rows(f.row_start, f.latent, values, decoder(), b_dec(), out);
  } else {
    sae_decode_rows(f.row_start, f.latent, f.value, decoder(), b_dec(), out);
  }
}

void SparseCoder::reconstruct(MatView<const float> x, MatView<float> out) const {
  SparseRows features;
  encode_and_reconstruct(x, features, out);
}

void SparseCoder::encode_and_reconstruct(MatView<const float> x, SparseRows& features,
                                         MatView<float> out) const {
  check_width(x.cols(), d_in(), "activations");
  check_rows(x, out);
  features.row_start.assign(1, 0);
  features.latent.clear();
  features.value.clear();
  std::vector<RowScale> scales;
  each_encoded_row(*this, x, &scales,
                   [&](std::int64_t, std::span<const std::int32_t> latent,
                       std::span<const float> value) { append_row(features, latent, value); });
  Tensor skipped;
  if (skip_.defined()) {  // before `out`, which may be x, is written
    skipped = Tensor::uninitialized(DType::kF32, {x.rows(), d_out()});
    matmul(x, Trans::kNo, skip(), Trans::kYes, skipped.mutable_mat<float>());
  }
  decode(features, out);
  if (skipped.defined()) {
    for (std::int64_t r = 0; r < out.rows(); ++r)
      axpy(1.0F, skipped.mat<float>().row(r), out.row(r));
  }
  for (std::size_t r = 0; r < scales.size(); ++r) {
    for (float& v : out.row(static_cast<std::int64_t>(r))) {
      v = v * scales[r].deviation + scales[r].mean;
    }
  }
}

std::vector<float> SparseCoder::decoder_direction(std::int64_t latent) const {
  if (latent < 0 || latent >= d_sae()) {
    throw_usage("feature ", latent, " is outside [0, ", d_sae(), ")");
  }
  const auto row = decoder().row(latent);
  return {row.begin(), row.end()};
}

std::vector<float> SparseCoder::encoder_direction(std::int64_t latent) const {
  if (latent < 0 || latent >= d_sae()) {
    throw_usage("feature ", latent, " is outside [0, ", d_sae(), ")");
  }
  const auto row = encoder().row(latent);
  return {row.begin(), row.end()};
}

}  // namespace drrik
