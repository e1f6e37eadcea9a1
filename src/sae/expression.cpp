#include "sae/expression.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Why a coder of this architecture is no other one's.
std::string_view what_it_does(std::string_view architecture) {
  if (architecture == "topk") return "a topk coder keeps the k largest latents of a row";
  if (architecture == "batchtopk" || architecture == "matryoshka") {
    return "its latents pass a threshold";
  }
  if (architecture == "jumprelu") return "a jumprelu latent passes its threshold, above 0";
  if (architecture == "gated") return "a gated latent has a gate and a magnitude";
  return "its latents pass a ReLU";
}

}  // namespace

Expression::Expression(const SparseCoder& coder, std::string_view format)
    : coder_(coder.clone()), format_(format) {
  if (!coder_.config().rescale_by_decoder_norm) return;
  coder_.fold_decoder_norms();
  folded_.emplace_back("decoder norms went into the encoder; features are measured as before");
}

bool Expression::is_transcoder() const {
  const SparseCoderConfig& c = config();
  return c.skip || c.output_width() != c.d_in || (c.d_out > 0 && !c.apply_b_dec_to_input);
}

void Expression::replace(SparseCoderConfig config) {
  SparseCoder next(config);
  for (const NamedTensor& parameter : std::as_const(next).parameters()) {
    for (const NamedTensor& from : std::as_const(coder_).parameters()) {
      if (from.name == parameter.name) next.parameter(from.name) = from.tensor->clone();
    }
  }
  coder_ = std::move(next);
}

void Expression::use_inference_form() {
  const std::string was = config().architecture;
  if (was != "batchtopk" && was != "matryoshka") return;
  coder_ = coder_.inference_form();
  folded_.push_back(
      str(was, " became jumprelu: the batch's threshold is every latent's, k is not kept"));
}

void Expression::use_jumprelu_for_gated() {
  if (config().architecture != "gated") return;
  const SparseCoder gated = coder_.clone();
  SparseCoderConfig changed = config();
  changed.architecture = "jumprelu";
  replace(changed);
  const auto theta = coder_.latent_parameter("threshold");
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    const float gain = std::exp(gated.latent_parameter("r_mag")[at(j)]);
    const float b_mag = gated.latent_parameter("b_mag")[at(j)];
    for (float& w : coder_.encoder().row(j)) w *= gain;
    coder_.b_enc()[at(j)] = b_mag;
    theta[at(j)] = std::max(0.0F, b_mag - gain * gated.b_enc()[at(j)]);
  }
  folded_.emplace_back("gated became jumprelu: gate and magnitude are one scaled encoder");
}

void Expression::use_jumprelu_for_standard() {
  if (config().architecture != "standard") return;
  SparseCoderConfig changed = config();
  changed.architecture = "jumprelu";
  replace(changed);
  folded_.emplace_back("ReLU is written as jumprelu with threshold 0");
}

void Expression::use_standard_for_zero_thresholds() {
  if (config().architecture != "jumprelu") return;
  const auto theta = std::as_const(coder_).latent_parameter("threshold");
  if (std::ranges::any_of(theta, [](float t) { return t != 0.0F; })) return;
  SparseCoderConfig changed = config();
  changed.architecture = "standard";
  replace(changed);
  folded_.emplace_back("jumprelu with thresholds 0 is written as ReLU");
}

void Expression::centre(bool centred) {
  if (config().apply_b_dec_to_input == centred) return;
  if (centred && config().output_width() != config().d_in) {
    refuse(str("it subtracts the output's bias, ", config().output_width(),
               " wide, from an input of ", config().d_in));
  }
  const auto b_dec = std::as_const(coder_).b_dec();
  const bool any = std::ranges::any_of(b_dec, [](float v) { return v != 0.0F; });
  SparseCoderConfig changed = config();
  changed.apply_b_dec_to_input = centred;
  replace(changed);
  if (!any) return;
  const double sign = centred ? 1.0 : -1.0;
  const auto r_mag = std::as_const(coder_).latent_parameter("r_mag");
  const auto b_mag = coder_.latent_parameter("b_mag");
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    const double shift =
        sign * dot(std::as_const(coder_).encoder().row(j), std::as_const(coder_).b_dec());
    float& b = coder_.b_enc()[at(j)];
    b = static_cast<float>(static_cast<double>(b) + shift);
    if (b_mag.empty()) continue;
    b_mag[at(j)] = static_cast<float>(static_cast<double>(b_mag[at(j)]) +
                                      std::exp(static_cast<double>(r_mag[at(j)])) * shift);
  }
  folded_.emplace_back(centred ? "b_enc holds what subtracting b_dec from the input takes away"
                               : "b_enc holds b_dec, which was subtracted from the input");
}

void Expression::refuse(std::string_view why) const {
  throw_data("a ", config().architecture, " coder cannot be written as ", format_, ": ", why);
}

void Expression::allow(std::initializer_list<std::string_view> architectures) const {
  if (std::ranges::find(architectures, config().architecture) != architectures.end()) return;
  std::vector<std::string> names(architectures.begin(), architectures.end());
  refuse(str("the format holds ", join(names), "; ", what_it_does(config().architecture),
             ", which they cannot say"));
}

void Expression::refuse_transcoders() const {
  if (is_transcoder()) {
    refuse("the format is for autoencoders; this is a transcoder, whose output is not its input");
  }
}

void Expression::refuse_skip() const {
  if (config().skip) refuse("the format has no skip connection");
}

void Expression::refuse_other_width() const {
  if (config().output_width() != config().d_in) {
    refuse(str("the format has one width; this reads ", config().d_in, " and writes ",
               config().output_width()));
  }
}

void Expression::refuse_row_normalization() const {
  refuse_layer_norm_but(RowNormalization::kNone);
}

void Expression::refuse_layer_norm_but(RowNormalization wanted) const {
  const RowNormalization is = config().row_normalization;
  if (is == RowNormalization::kNone || is == wanted) return;
  refuse(str("it normalises every row (",
             is == RowNormalization::kLayerNorm ? "layer norm" : "constant norm",
             "), which the format cannot say and no weight can do"));
}

void Expression::refuse_signed_topk() const {
  if (config().architecture == "topk" && !config().relu_after_topk) {
    refuse("its kept latents may be negative; the format's readers put a ReLU behind them");
  }
}

void Expression::refuse_parts() const {
  if (config().parts > 1) {
    refuse(str("it reads ", config().parts, " activations side by side, the format one"));
  }
}

}  // namespace drrik
