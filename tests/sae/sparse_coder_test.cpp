// Coders of every architecture against their formulas, written out in double precision.

#include "drrik/sae/sparse_coder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "drrik/base/error.h"
#include "sae/made.h"

namespace drrik {
namespace {

using testing::made_coder;
using testing::normal_rows;
using testing::relative_error;
using testing::vary_norms;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

SparseCoder made(const SparseCoderConfig& config) {
  SparseCoder coder = made_coder(config, 1.3, 0.2F);
  for (float& v : coder.latent_parameter("threshold")) v = std::abs(v);
  vary_norms(coder);
  return coder;
}

// f and x̂ of one row by the header's formulas.
struct Row {
  std::vector<double> f, out;
};
Row formula(const SparseCoder& coder, std::span<const float> input) {
  const SparseCoderConfig& config = coder.config();
  std::vector<double> x(input.begin(), input.end());
  double mean = 0.0;
  double deviation = 1.0;
  if (config.row_normalization == RowNormalization::kLayerNorm) {
    for (const double v : x) mean += v / static_cast<double>(x.size());
    double squares = 0.0;
    for (const double v : x) squares += (v - mean) * (v - mean);
    deviation = std::sqrt(squares / static_cast<double>(x.size() - 1));
    for (double& v : x) v = (v - mean) / (deviation + 1e-5);
  } else if (config.row_normalization == RowNormalization::kConstantNorm) {
    double squares = 0.0;
    for (const double v : x) squares += v * v;
    deviation = std::sqrt(squares / static_cast<double>(x.size()));
    for (double& v : x) v /= deviation;
  }
  const std::vector<float> norms = coder.decoder_norms();
  const auto scale = [&](std::int64_t j) {
    return config.rescale_by_decoder_norm ? static_cast<double>(norms[at(j)]) : 1.0;
  };
  Row row;
  row.f.assign(at(coder.d_sae()), 0.0);
  std::vector<double> h(row.f.size());
  for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
    double p = 0.0;
    for (std::size_t c = 0; c < x.size(); ++c) {
      const double b = config.apply_b_dec_to_input ? static_cast<double>(coder.b_dec()[c]) : 0.0;
      p += (x[c] - b) * static_cast<double>(coder.encoder()(j, static_cast<std::int64_t>(c)));
    }
    h[at(j)] = (p + static_cast<double>(coder.b_enc()[at(j)])) * scale(j);
    if (config.architecture == "gated") {
      const double m = p * std::exp(static_cast<double>(coder.latent_parameter("r_mag")[at(j)])) +
                       static_cast<double>(coder.latent_parameter("b_mag")[at(j)]);
      row.f[at(j)] = h[at(j)] > 0 ? std::max(m, 0.0) : 0.0;
    } else if (config.architecture == "standard") {
      row.f[at(j)] = std::max(h[at(j)], 0.0);
    } else if (config.architecture != "topk") {
      const auto theta = static_cast<double>(coder.latent_parameter("threshold")[at(j)]);
      row.f[at(j)] = h[at(j)] > theta ? h[at(j)] : 0.0;
    }
  }
  if (config.architecture == "topk") {
    std::vector<std::size_t> order(h.size());
    for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return h[a] > h[b]; });
    for (std::size_t i = 0; i < at(config.k); ++i) {
      if (h[order[i]] > 0 || !config.relu_after_topk) row.f[order[i]] = h[order[i]];
    }
  }
  row.out.assign(coder.b_dec().begin(), coder.b_dec().end());
  for (std::int64_t c = 0; c < coder.d_out(); ++c) {
    for (std::int64_t j = 0; j < coder.d_sae(); ++j) {
      row.out[at(c)] += row.f[at(j)] / scale(j) * static_cast<double>(coder.decoder()(j, c));
    }
    if (config.skip) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        row.out[at(c)] += x[i] * static_cast<double>(coder.skip()(c, static_cast<std::int64_t>(i)));
      }
    }
    row.out[at(c)] = row.out[at(c)] * deviation + mean;
  }
  return row;
}

// Float32 sums of d or h terms against double ones: about √n · 2⁻²⁴ of the norm; ten times that.
constexpr double kTolerance = 4e-6;

void expect_formula(const SparseCoder& coder) {
  const Tensor x = normal_rows(33, coder.d_in(), 6);
  Tensor features = Tensor::zeros<float>({33, coder.d_sae()});
  Tensor decoded = Tensor::zeros<float>({33, coder.d_out()});
  Tensor whole = Tensor::zeros<float>({33, coder.d_out()});
  coder.encode(x.mat<float>(), features.mutable_mat<float>());
  coder.reconstruct(x.mat<float>(), whole.mutable_mat<float>());
  std::vector<float> f, out;
  std::size_t active = 0;
  for (std::int64_t r = 0; r < 33; ++r) {
    const Row row = formula(coder, x.mat<float>().row(r));
    for (const double v : row.f) {
      f.push_back(static_cast<float>(v));
      active += v != 0.0 ? 1 : 0;
    }
    for (const double v : row.out) out.push_back(static_cast<float>(v));
  }
  EXPECT_GT(active, 33U);
  EXPECT_LT(relative_error(features.data<float>(), f), kTolerance);
  EXPECT_LT(relative_error(whole.data<float>(), out), kTolerance);

  SparseRows rows;
  coder.encode(x.mat<float>(), rows);
  EXPECT_EQ(rows.latent.size(), active);
  Tensor dense = Tensor::zeros<float>({33, coder.d_sae()});
  for (std::int64_t r = 0; r < 33; ++r) {
    for (std::int64_t e = rows.row_start[at(r)]; e < rows.row_start[at(r + 1)]; ++e) {
      dense.mutable_mat<float>()(r, rows.latent[at(e)]) = rows.value[at(e)];
    }
  }
  EXPECT_EQ(relative_error(dense.data<float>(), features.data<float>()), 0.0);
  Tensor from_rows = Tensor::zeros<float>({33, coder.d_out()});
  coder.decode(rows, from_rows.mutable_mat<float>());
  coder.decode(features.mat<float>(), decoded.mutable_mat<float>());
  EXPECT_LT(relative_error(decoded.data<float>(), from_rows.data<float>()), kTolerance);
  if (!coder.config().skip && coder.config().row_normalization == RowNormalization::kNone) {
    EXPECT_EQ(relative_error(from_rows.data<float>(), whole.data<float>()), 0.0);
  }
}

SparseCoderConfig config_of(const char* architecture) {
  SparseCoderConfig config;
  config.architecture = architecture;
  return config;
}

TEST(SparseCoder, EncodesAndDecodesByItsFormulas) {
  for (const std::string& name : sparse_coder_architectures()) {
    SCOPED_TRACE(name);
    expect_formula(made(config_of(name.c_str())));
    SparseCoderConfig plain = config_of(name.c_str());
    plain.apply_b_dec_to_input = false;
    expect_formula(made(plain));
  }
}

TEST(SparseCoder, ReconstructsWithSkipWidthsAndRowScales) {
  SparseCoderConfig transcoder = config_of("topk");
  transcoder.d_out = 7;
  transcoder.apply_b_dec_to_input = false;
  transcoder.skip = true;
  expect_formula(made(transcoder));
  SparseCoderConfig normalized = config_of("topk");
  normalized.row_normalization = RowNormalization::kLayerNorm;
  normalized.relu_after_topk = false;
  expect_formula(made(normalized));
  normalized.row_normalization = RowNormalization::kConstantNorm;
  expect_formula(made(normalized));
  SparseCoderConfig rescaled = config_of("topk");
  rescaled.rescale_by_decoder_norm = true;
  expect_formula(made(rescaled));
  SparseCoderConfig batch = config_of("batchtopk");
  batch.rescale_by_decoder_norm = true;
  expect_formula(made(batch));
  SparseCoderConfig cross = config_of("standard");
  cross.parts = 3;
  cross.apply_b_dec_to_input = false;
  expect_formula(made(cross));
}

// x̂ of both on the same rows.
double difference(const SparseCoder& a, const SparseCoder& b, float input_scale = 1.0F) {
  const Tensor x = normal_rows(20, a.d_in(), 7);
  Tensor scaled = x.clone();
  for (float& v : scaled.mutable_data<float>()) v *= input_scale;
  Tensor of_a = Tensor::zeros<float>({20, a.d_out()});
  Tensor of_b = Tensor::zeros<float>({20, a.d_out()});
  a.reconstruct(scaled.mat<float>(), of_a.mutable_mat<float>());
  b.reconstruct(x.mat<float>(), of_b.mutable_mat<float>());
  for (float& v : of_a.mutable_data<float>()) v /= input_scale;
  return relative_error(of_b.data<float>(), of_a.data<float>());
}

TEST(SparseCoder, FoldsNormsAndScalesWithoutChangingWhatItDoes) {
  for (const std::string& name : sparse_coder_architectures()) {
    for (const bool rescale : {false, true}) {
      if (rescale && (name == "gated" || name == "standard" || name == "jumprelu")) continue;
      SCOPED_TRACE(name + (rescale ? " rescaled" : ""));
      SparseCoderConfig config = config_of(name.c_str());
      config.rescale_by_decoder_norm = rescale;
      const SparseCoder coder = made(config);
      SparseCoder folded = coder.clone();
      folded.fold_decoder_norms();
      for (const float n : folded.decoder_norms()) EXPECT_NEAR(n, 1.0F, 1e-6F);
      // Without rescaling TopK's comparison changes with the norms, so only the rest stays equal.
      if (name != "topk" || rescale) {
        EXPECT_LT(difference(coder, folded), kTolerance);
      }
      SparseCoder scaled = coder.clone();
      scaled.fold_input_scale(2.5, 2.5);
      EXPECT_LT(difference(coder, scaled, 2.5F), kTolerance);
    }
  }
}

TEST(SparseCoder, BatchArchitecturesBecomeJumpRelu) {
  const SparseCoder coder = made(config_of("matryoshka"));
  const SparseCoder single = coder.inference_form();
  EXPECT_EQ(single.architecture(), "jumprelu");
  EXPECT_EQ(difference(coder, single), 0.0);
  EXPECT_EQ(made(config_of("gated")).inference_form().architecture(), "gated");
}

TEST(SparseCoder, RefusesConfigurationsThatMakeNoSense) {
  const auto message = [](SparseCoderConfig config) -> std::string {
    try {
      const SparseCoder coder(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  };
  SparseCoderConfig config = config_of("topk");
  EXPECT_NE(message(config).find("d_in"), std::string::npos);
  config.d_in = 4;
  config.d_sae = 8;
  EXPECT_NE(message(config).find("k: got 32"), std::string::npos);
  config.k = 2;
  EXPECT_EQ(message(config), "");
  config.architecture = "vanilla";
  EXPECT_NE(message(config).find("batchtopk"), std::string::npos);
  config.architecture = "matryoshka";
  EXPECT_NE(message(config).find("groups"), std::string::npos);
  config.groups = {4, 4, 8};
  EXPECT_NE(message(config).find("ascending"), std::string::npos);
  config.groups = {4, 7};
  EXPECT_NE(message(config).find("d_sae = 8"), std::string::npos);
  config = config_of("standard");
  config.d_in = 4;
  config.d_sae = 8;
  config.d_out = 5;
  EXPECT_NE(message(config).find("apply_b_dec_to_input"), std::string::npos);
  config.d_out = 0;
  config.parts = 3;
  EXPECT_NE(message(config).find("parts"), std::string::npos);
  config.parts = 1;
  config.d_sae = std::numeric_limits<std::int64_t>::max();
  EXPECT_NE(message(config).find("d_sae"), std::string::npos);
}

}  // namespace
}  // namespace drrik
