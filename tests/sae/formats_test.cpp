// Writing the formats: each written and read back, and what they cannot hold.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/sae/io.h"
#include "drrik/sae/parity.h"
#include "sae/formats_testing.h"
#include "sae/made.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::Formats;
using testing::made_coder;
using testing::normal_rows;
using testing::vary_norms;

SparseCoder made(const SparseCoderConfig& config, bool unit = false) {
  SparseCoder coder = made_coder(config, 1.0, 0.3F);
  const bool one = config.architecture == "batchtopk" || config.architecture == "matryoshka";
  for (float& v : coder.latent_parameter("threshold")) v = one ? 0.2F : std::abs(v);
  if (!unit) vary_norms(coder);
  return coder;
}

struct Made {
  const char* name;
  SparseCoder coder;
};

std::vector<Made> coders() {
  std::vector<Made> out;
  const auto add = [&](const char* name, const std::function<void(SparseCoderConfig&)>& change,
                       bool unit = false) {
    SparseCoderConfig config;
    change(config);
    out.push_back({name, made(config, unit)});
  };
  add(
      "relu", [](auto& c) { c.architecture = "standard"; }, true);
  add("relu free", [](auto& c) {
    c.architecture = "standard";
    c.apply_b_dec_to_input = false;
  });
  add("topk", [](auto& c) { c.architecture = "topk"; });
  add("topk by norm", [](auto& c) { c.rescale_by_decoder_norm = true; });
  add("topk signed", [](auto& c) { c.relu_after_topk = false; });
  add("topk of normal rows", [](auto& c) { c.row_normalization = RowNormalization::kLayerNorm; });
  add("batchtopk by norm", [](auto& c) {
    c.architecture = "batchtopk";
    c.rescale_by_decoder_norm = true;
  });
  add("matryoshka", [](auto& c) { c.architecture = "matryoshka"; });
  add("jumprelu", [](auto& c) { c.architecture = "jumprelu"; });
  add("gated", [](auto& c) { c.architecture = "gated"; });
  add("relu transcoder", [](auto& c) {
    c.architecture = "standard";
    c.d_out = 9;
    c.apply_b_dec_to_input = false;
  });
  add("topk skip", [](auto& c) {
    c.d_out = 12;
    c.apply_b_dec_to_input = false;
    c.skip = true;
  });
  add("jumprelu skip", [](auto& c) {
    c.architecture = "jumprelu";
    c.d_out = 9;
    c.apply_b_dec_to_input = false;
    c.skip = true;
  });
  add("gated transcoder", [](auto& c) {
    c.architecture = "gated";
    c.d_out = 12;
    c.apply_b_dec_to_input = false;
  });
  add("crosscoder", [](auto& c) {
    c.architecture = "standard";
    c.parts = 3;
    c.apply_b_dec_to_input = false;
  });
  return out;
}

// What each format holds; everything else must be refused.
const std::map<std::string, std::vector<std::string>>& held() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"saelens",
       {"relu", "relu free", "topk", "topk by norm", "topk of normal rows", "batchtopk by norm",
        "matryoshka", "jumprelu", "gated", "relu transcoder", "jumprelu skip", "gated transcoder",
        "crosscoder"}},
      {"sparsify", {"topk", "topk by norm", "topk skip"}},
      {"dictionary_learning",
       {"relu", "relu free", "topk", "topk by norm", "batchtopk by norm", "matryoshka", "jumprelu",
        "gated"}},
      {"gemma_scope",
       {"relu", "relu free", "batchtopk by norm", "matryoshka", "jumprelu", "gated",
        "relu transcoder", "gated transcoder"}},
      {"gemma_scope_2",
       {"relu", "relu free", "batchtopk by norm", "matryoshka", "jumprelu", "gated",
        "relu transcoder", "jumprelu skip", "gated transcoder"}},
      {"circuit_tracer",
       {"relu", "relu free", "batchtopk by norm", "matryoshka", "jumprelu", "gated",
        "relu transcoder", "jumprelu skip", "gated transcoder"}},
      {"openai", {"relu", "relu free", "topk of normal rows"}},
      {"goodfire", {"relu", "relu free"}},
      {"crosscoder", {"relu", "relu free", "crosscoder"}},
      {"described", {"relu", "relu free"}},
  };
  return table;
}

TEST_F(Formats, HoldWhatTheyCanAndRefuseTheRest) {
  const Tensor x = normal_rows(200, 12);
  int written = 0;
  for (const SaeFormatInfo& format : sae_formats()) {
    if (!format.written) continue;
    for (const Made& item : coders()) {
      SCOPED_TRACE(format.name + ", " + item.name);
      const fs::path path = folder_ / (format.name + "_" + std::to_string(written++));
      const bool all = format.name == "drrik";
      const bool wanted =
          all || std::ranges::count(held().at(format.name), std::string(item.name)) > 0;
      SavedSae saved;
      try {
        saved = save_sae_as(item.coder, {}, format.name, path);
      } catch (const Error& error) {
        EXPECT_FALSE(wanted) << error.what();
        EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
        EXPECT_NE(std::string(error.what()).find(format.name), std::string::npos) << error.what();
        continue;
      }
      EXPECT_TRUE(wanted);
      const auto back = load_sae(saved.path);
      // Folding moves single factors: a few ulp an element. No feature of these is that near to
      // its border.
      const SaeParity parity = compare_saes(item.coder, *back, blocks_of(x.mat<float>()));
      EXPECT_LT(parity.relative_difference, 1e-5);
      EXPECT_EQ(parity.feature_agreement, 1.0);
      // AutoEncoder's and AutoEncoderNew's features, and all others', are what they were.
      EXPECT_LT(parity.max_feature_difference, 1e-5);
      EXPECT_GT(parity.l0_before, 0.5);
    }
  }
  EXPECT_GT(written, 60);
}

TEST_F(Formats, OursKeepsWhatSaelensLacks) {
  SaeRecord record;
  record.hook_name = "resid_post";
  record.layer = 4;
  record.foreign_hook_name_out = "blocks.4.hook_mlp_out";
  record.densities.assign(40, 0.25);
  record.densities[3] = 0.0;
  for (const Made& item : coders()) {
    SCOPED_TRACE(item.name);
    save_sae(item.coder, record, folder_ / "sae");
    SaeRecord got;
    const SparseCoder back = load_sparse_coder(folder_ / "sae", &got);
    const SparseCoderConfig& a = item.coder.config();
    const SparseCoderConfig& b = back.config();
    EXPECT_EQ(b.architecture, a.architecture);
    EXPECT_EQ(b.d_in, a.d_in);
    EXPECT_EQ(b.output_width(), a.output_width());
    EXPECT_EQ(b.groups, a.groups);
    EXPECT_EQ(b.parts, a.parts);
    EXPECT_EQ(b.skip, a.skip);
    EXPECT_EQ(b.relu_after_topk, a.relu_after_topk);
    EXPECT_EQ(b.row_normalization, a.row_normalization);
    EXPECT_FALSE(b.rescale_by_decoder_norm);
    if (a.architecture == "batchtopk" || a.architecture == "topk") {
      EXPECT_EQ(b.k, a.k);
    }
    if (!a.rescale_by_decoder_norm) {  // nothing to fold: bit for bit
      for (const NamedTensor& p : item.coder.parameters()) {
        for (const NamedTensor& q : back.parameters()) {
          if (q.name == p.name) {
            EXPECT_TRUE(std::ranges::equal(q.tensor->data<float>(), p.tensor->data<float>()))
                << p.name;
          }
        }
      }
    }
    EXPECT_EQ(got.foreign_hook_name_out, record.foreign_hook_name_out);
    ASSERT_EQ(got.densities.size(), 40U);
    EXPECT_NEAR(got.densities[0], 0.25, 1e-6);  // log10 in float32
    EXPECT_LT(got.densities[3], 1e-9);
  }
}

TEST_F(Formats, SayWhatTheyFolded) {
  const auto folded = [&](const char* name, const char* format) {
    for (const Made& item : coders()) {
      if (std::string_view(item.name) == name) {
        return save_sae_as(item.coder, {}, format, folder_ / format).folded;
      }
    }
    return std::vector<std::string>();
  };
  const auto has = [](const std::vector<std::string>& lines, const char* part) {
    return std::ranges::any_of(
        lines, [&](const std::string& line) { return line.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(has(folded("batchtopk by norm", "saelens"), "threshold"));
  EXPECT_TRUE(has(folded("batchtopk by norm", "saelens"), "norms"));
  EXPECT_TRUE(has(folded("gated", "gemma_scope"), "gate"));
  EXPECT_TRUE(has(folded("topk", "sparsify"), "nothing") || folded("topk", "sparsify").empty());
  EXPECT_TRUE(has(folded("jumprelu", "gemma_scope"), "b_dec"));
}

// A TopK is no ReLU: the message says so rather than how far the program came.
TEST_F(Formats, RefuseAChangeOfMeaningSayingWhy) {
  SparseCoderConfig config;
  config.architecture = "topk";
  try {
    save_sae_as(made(config), {}, "described", folder_ / "x");
    FAIL() << "no error";
  } catch (const Error& error) {
    for (const char* part : {"topk", "described", "k largest", "standard"}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(fs::exists(folder_ / "x" / "sae.pt"));
  EXPECT_THROW(save_sae_as(made(config), {}, "lama_scope", folder_ / "x"), Error);
  EXPECT_THROW(save_sae_as(made(config), {}, "llama_scope", folder_ / "x"), Error);
}

TEST_F(Formats, AreNotWrittenWithNan) {
  SparseCoderConfig config;
  config.architecture = "jumprelu";
  SparseCoder coder = made(config);
  coder.latent_parameter("threshold")[7] = std::numeric_limits<float>::quiet_NaN();
  for (const char* format : {"drrik", "saelens", "gemma_scope", "dictionary_learning"}) {
    try {
      save_sae_as(coder, {}, format, folder_ / format);
      FAIL() << format;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNumeric) << error.what();
    }
    EXPECT_FALSE(fs::exists(folder_ / format / "cfg.json")) << format;
  }
}

// ---- The comparator ----

TEST(Parity, FindsWhatDiffers) {
  SparseCoderConfig config;
  config.architecture = "jumprelu";
  const SparseCoder a = made(config);
  const Tensor x = normal_rows(100, 12);
  const auto compare = [&](const SparseCoder& b) {
    return compare_saes(a, b, blocks_of(x.mat<float>(), 7));
  };
  const SaeParity same = compare(a);
  EXPECT_EQ(same.rows, 100);
  EXPECT_EQ(same.max_difference, 0.0);
  EXPECT_EQ(same.feature_agreement, 1.0);
  EXPECT_EQ(same.fvu_before, same.fvu_after);
  SparseCoder b = a.clone();
  for (float& t : b.latent_parameter("threshold")) t += 0.1F;  // fewer latents
  const SaeParity fewer = compare(b);
  EXPECT_LT(fewer.feature_agreement, 0.999);
  EXPECT_LT(fewer.l0_after, fewer.l0_before);
  EXPECT_GT(fewer.max_difference, 0.01);
  b = a.clone();
  b.b_dec()[3] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(compare(b), Error);
  SparseCoderConfig wider = config;
  wider.d_in = 13;
  EXPECT_THROW(compare(made(wider)), Error);
  EXPECT_THROW(compare_saes(a, a, blocks_of(MatView<const float>())), Error);
}

// FVU by its definition, in two passes.
TEST(Parity, FvuIsTheDefinition) {
  SparseCoderConfig config;
  config.architecture = "standard";
  const SparseCoder a = made(config);
  const Tensor x = normal_rows(50, 12);
  Tensor out = Tensor::zeros<float>({50, 12});
  a.reconstruct(x.mat<float>(), out.mutable_mat<float>());
  double error = 0.0;
  double variance = 0.0;
  for (std::int64_t c = 0; c < 12; ++c) {
    double mean = 0.0;
    for (std::int64_t r = 0; r < 50; ++r) mean += static_cast<double>(x.mat<float>()(r, c)) / 50;
    for (std::int64_t r = 0; r < 50; ++r) {
      const auto y = static_cast<double>(x.mat<float>()(r, c));
      const double e = y - static_cast<double>(std::as_const(out).mat<float>()(r, c));
      error += e * e;
      variance += (y - mean) * (y - mean);
    }
  }
  const SaeParity parity = compare_saes(a, a, blocks_of(x.mat<float>(), 16));
  EXPECT_NEAR(parity.fvu_before, error / variance, 1e-9 * error / variance);
}

}  // namespace
}  // namespace drrik
