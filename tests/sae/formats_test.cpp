// The formats against what the packages themselves made (tools/reference/sae_format_folders.py),
// each written and read back, and files that are wrong.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "drrik/sae/io.h"
#include "drrik/sae/parity.h"
#include "sae/made.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::made_coder;
using testing::normal_rows;
using testing::relative_error;
using testing::vary_norms;

const fs::path kFolders = fs::path(DRRIK_TEST_DATA) / "sae_formats";

class Formats : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "drrik_formats_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  void refuses(const fs::path& path, const std::vector<std::string>& parts) {
    try {
      load_sae(path);
      FAIL() << path << ": no error with '" << parts.front() << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
      for (const std::string& part : parts) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << error.what() << " lacks " << part;
      }
    }
  }

  fs::path folder_;
};

// What a reference folder holds: itself, a folder below it, or a .pt file.
fs::path sae_in(const fs::path& folder) {
  if (is_sae_path(folder)) return folder;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() ? is_sae_path(entry.path()) : entry.path().extension() == ".pt") {
      return entry.path();
    }
  }
  return {};
}

TEST_F(Formats, EncodeAndReconstructAsTheirOwnPrograms) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  // The same float32 sums in another order: of 16 terms a pre-activation, of at most 48 a
  // reconstruction, each off by some ulp of the largest term; 1e-5 of the norm is ten times that.
  constexpr double kTolerance = 1e-5;
  int read = 0;
  for (const auto& entry : fs::directory_iterator(kFolders)) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    const fs::path path = sae_in(entry.path());
    ASSERT_FALSE(path.empty());
    if (name == "sparsify_groupmax") {
      refuses(path, {"groupmax", "topk"});
      continue;
    }
    const auto sae = load_sae(path);
    const Tensor x = read_npy(entry.path() / "x.npy").clone();
    const Tensor features = read_npy(entry.path() / "features.npy").clone();
    const Tensor reconstruction = read_npy(entry.path() / "reconstruction.npy").clone();
    Tensor f = Tensor::zeros<float>({x.dim(0), sae->d_sae()});
    Tensor out = Tensor::zeros<float>({x.dim(0), sae->d_out()});
    sae->encode(x.mat<float>(), f.mutable_mat<float>());
    sae->reconstruct(x.mat<float>(), out.mutable_mat<float>());
    ASSERT_EQ(f.shape(), features.shape());
    ASSERT_EQ(out.shape(), reconstruction.shape());
    for (std::int64_t i = 0; i < f.elements(); ++i) {
      const auto e = static_cast<std::size_t>(i);
      EXPECT_EQ(f.data<float>()[e] != 0.0F, features.data<float>()[e] != 0.0F) << "entry " << i;
    }
    EXPECT_LT(relative_error(f.data<float>(), features.data<float>()), kTolerance);
    EXPECT_LT(relative_error(out.data<float>(), reconstruction.data<float>()), kTolerance);
    ++read;
  }
  EXPECT_GE(read, 34);
}

TEST_F(Formats, SayWhereTheyBelong) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  const auto record = [](const char* name) {
    return load_sae_with_record(sae_in(kFolders / name)).record;
  };
  for (const char* name : {"saelens_topk", "saelens_old_topk"}) {
    EXPECT_EQ(record(name).hook_name, "resid_pre") << name;
    EXPECT_EQ(record(name).layer, 3) << name;
    EXPECT_EQ(record(name).model_name, "gpt2-small") << name;
    EXPECT_EQ(record(name).context_size, 128) << name;
  }
  EXPECT_EQ(record("saelens_transcoder").foreign_hook_name_out, "blocks.3.hook_mlp_out");
  EXPECT_EQ(record("dictionary_learning_batchtopk").hook_name, "resid_post");
  EXPECT_EQ(record("dictionary_learning_batchtopk").layer, 3);
  EXPECT_EQ(record("sparsify_topk").hook_name, "resid_post");
  EXPECT_EQ(record("sparsify_topk").layer, 3);
  EXPECT_EQ(record("sparsify_topk").dataset, "text");
  EXPECT_EQ(record("gemma_scope_2").hook_name, "resid_post");
  EXPECT_EQ(record("gemma_scope").layer, 3);
  const SaeRecord standard = record("saelens_standard");
  ASSERT_EQ(standard.densities.size(), 48U);
  const Tensor logs =
      SafetensorsFile::open(kFolders / "saelens_standard" / "sparsity.safetensors").get("sparsity");
  EXPECT_NEAR(std::log10(standard.densities[5]), static_cast<double>(logs.clone().data<float>()[5]),
              1e-6);
}

// ---- Round trips
// ---------------------------------------------------------------------------------

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

// ---- The comparator
// ------------------------------------------------------------------------------

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

// ---- Wrong files
// ---------------------------------------------------------------------------------

class Wrong : public Formats {
 protected:
  // Copies a good folder and lets `change` work on its tensors.
  fs::path changed(const char* name, const std::function<void(std::map<std::string, Tensor>&)>& f) {
    const fs::path from = kFolders / name;
    const fs::path to = folder_ / (std::string(name) + std::to_string(count_++));
    fs::copy(from, to, fs::copy_options::recursive);
    const fs::path sae = sae_in(to);
    const fs::path file = fs::exists(sae / "sae_weights.safetensors")
                              ? sae / "sae_weights.safetensors"
                              : sae / "sae.safetensors";
    std::map<std::string, Tensor> tensors;
    {
      const SafetensorsFile open = SafetensorsFile::open(file);
      for (const SafetensorsEntry& entry : open.entries()) {
        tensors.emplace(entry.name, open.get(entry.name).clone());
      }
    }
    f(tensors);
    std::vector<NamedTensor> named;
    for (const auto& [key, tensor] : tensors) named.push_back({key, &tensor});
    write_safetensors(file, named);
    return sae;
  }
  fs::path with_text(const char* name, const char* file, const std::string& from,
                     const std::string& text) {
    const fs::path to = folder_ / (std::string(name) + std::to_string(count_++));
    fs::copy(kFolders / name, to, fs::copy_options::recursive);
    const fs::path sae = sae_in(to);
    std::string json = read_file(sae / file);
    if (from.empty()) {
      json = text;
    } else {
      const std::size_t at = json.find(from);
      EXPECT_NE(at, std::string::npos) << json;
      json.replace(at, from.size(), text);
    }
    write_file_atomic(sae / file, json);
    return sae;
  }
  int count_ = 0;
};

TEST_F(Wrong, TensorsAreNamed) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  using Map = std::map<std::string, Tensor>;
  const auto erase = [](const char* name) { return [name](Map& m) { m.erase(name); }; };
  const auto put = [](const char* name, std::vector<std::int64_t> shape, float value = 0.0F) {
    return [name, shape, value](Map& m) {
      Tensor tensor = Tensor::zeros<float>(shape);
      for (float& v : tensor.mutable_data<float>()) v = value;
      m.insert_or_assign(name, std::move(tensor));
    };
  };
  refuses(changed("saelens_jumprelu", erase("threshold")), {"threshold", "W_enc [16, 48]"});
  refuses(changed("saelens_jumprelu", put("threshold", {47})), {"threshold", "[47]", "[48]"});
  refuses(changed("saelens_jumprelu", put("threshold", {48}, NAN)), {"threshold", "NaN"});
  refuses(changed("saelens_jumprelu", put("W_dec", {16, 48})), {"W_dec", "[16, 48]", "[48, 16]"});
  refuses(changed("saelens_jumprelu", put("W_enc", {0, 48})), {"d_in"});
  refuses(changed("saelens_topk", put("W_enc", {16})), {"W_enc", "rank 2"});
  refuses(changed("saelens_gated", erase("r_mag")), {"r_mag"});
  refuses(changed("saelens_transcoder", put("b_dec", {13})), {"13"});
  refuses(changed("saelens_old_standard", put("scaling_factor", {48}, 2.0F)),
          {"scaling_factor", "finetuning_scaling_factor"});
  refuses(changed("sparsify_skip_transcoder", erase("W_skip")), {"skip_connection", "W_skip"});
  refuses(changed("sparsify_topk", put("W_dec", {16, 48})), {"W_dec", "[48, 16]"});
  refuses(changed("sparsify_topk", erase("encoder.bias")), {"encoder.bias"});
}

TEST_F(Wrong, ConfigurationsAreNamed) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  const auto cfg = [&](const char* name, const char* from, const char* to) {
    return with_text(name, "cfg.json", from, to);
  };
  refuses(cfg("saelens_topk", "\"k\": 5", "\"k\": 4000000000"), {"k"});
  refuses(cfg("saelens_topk", "\"k\": 5", "\"k\": 49"), {"k", "49", "48"});
  refuses(cfg("saelens_topk", "\"k\": 5", "\"k\": -1"), {"k", "-1"});
  refuses(cfg("saelens_topk", "\"k\": 5", "\"k\": \"five\""), {"k", "string"});
  refuses(cfg("saelens_topk", "\"d_sae\": 48", "\"d_sae\": 9000000000000000000"),
          {"d_sae", "9000000000000000000"});
  refuses(cfg("saelens_topk", "\"architecture\": \"topk\"", "\"architecture\": \"temporal\""),
          {"temporal", "known"});
  refuses(cfg("saelens_topk", "\"normalize_activations\": \"none\"",
              "\"normalize_activations\": \"expected_average_only_in\""),
          {"expected_average_only_in", "activation_scaler.json"});
  refuses(cfg("saelens_topk", "\"normalize_activations\": \"none\"",
              "\"normalize_activations\": \"covariance_whitening\""),
          {"covariance_whitening"});
  refuses(cfg("saelens_transcoder", "\"normalize_activations\": \"none\"",
              "\"normalize_activations\": \"layer_norm\""),
          {"layer_norm", "transcoder"});
  refuses(cfg("saelens_transcoder", "\"d_out\": 12", "\"d_out\": 11"), {"d_out", "11"});
  refuses(cfg("sparsify_topk", "\"d_in\": 16", "\"d_in\": 15"), {"d_in", "15"});
  refuses(cfg("sparsify_topk", "\"k\": 5", "\"k\": 1000"), {"k", "1000"});
  refuses(cfg("sparsify_topk", "{", "["), {"cfg.json"});
  const auto dl = [&](const char* from, const char* to) {
    return with_text("dictionary_learning_batchtopk", "config.json", from, to);
  };
  refuses(dl("\"BatchTopKSAE\"", "\"BatchTopKSEA\""), {"BatchTopKSEA", "did you mean"});
  refuses(dl("\"dict_size\": 48", "\"dict_size\": 47"), {"dict_size", "47"});
  refuses(dl("\"BatchTopKSAE\"", "\"GatedAutoEncoder\""), {"gate_bias"});
}

TEST_F(Wrong, FactorsOfTheInputAreFolded) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  const fs::path scaled =
      with_text("saelens_topk", "cfg.json", "\"normalize_activations\": \"none\"",
                "\"normalize_activations\": \"expected_average_only_in\"");
  write_file_atomic(scaled / "activation_scaler.json",
                    std::string_view(R"({"scaling_factor": 2})"));
  const auto sae = load_sae(scaled);
  const auto plain = load_sae(kFolders / "saelens_topk");
  Tensor x = read_npy(kFolders / "saelens_topk" / "x.npy").clone();
  Tensor half = x.clone();
  for (float& v : half.mutable_data<float>()) v *= 0.5F;
  Tensor wanted = Tensor::zeros<float>({x.dim(0), 16});
  Tensor got = Tensor::zeros<float>({x.dim(0), 16});
  plain->reconstruct(std::as_const(x).mat<float>(), wanted.mutable_mat<float>());
  sae->reconstruct(std::as_const(half).mat<float>(), got.mutable_mat<float>());
  for (float& v : wanted.mutable_data<float>()) v *= 0.5F;
  EXPECT_LT(relative_error(got.data<float>(), wanted.data<float>()), 1e-5);
  write_file_atomic(scaled / "activation_scaler.json",
                    std::string_view(R"({"scaling_factor": 0})"));
  refuses(scaled, {"scaling_factor", "positive"});
}

// z = (x − m) M with M = diag(2) and a shift: the weights take both.
TEST_F(Wrong, WhiteningIsFolded) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  for (const char* name : {"saelens_topk", "saelens_gated", "saelens_old_jumprelu"}) {
    SCOPED_TRACE(name);
    const bool centred = std::string_view(name) != "saelens_old_jumprelu";
    const fs::path folder =
        with_text(name, "cfg.json", "\"normalize_activations\": ",
                  "\"normalize_activations\": \"covariance_whitening\", \"was\": ");
    Rng rng(3);
    Tensor m = Tensor::zeros<float>({16, 16});
    Tensor inverse = Tensor::zeros<float>({16, 16});
    Tensor mean = Tensor::zeros<float>({16});
    // [[2, c], [0, 1]] blocks, whose inverse is [[1/2, −c/2], [0, 1]].
    for (std::int64_t i = 0; i < 16; i += 2) {
      const float c = rng.normal();
      m.mutable_mat<float>()(i, i) = 2.0F;
      m.mutable_mat<float>()(i, i + 1) = c;
      m.mutable_mat<float>()(i + 1, i + 1) = 1.0F;
      inverse.mutable_mat<float>()(i, i) = 0.5F;
      inverse.mutable_mat<float>()(i, i + 1) = -0.5F * c;
      inverse.mutable_mat<float>()(i + 1, i + 1) = 1.0F;
    }
    for (float& v : mean.mutable_data<float>()) v = rng.normal();
    const std::vector<NamedTensor> tensors = {
        {"matrix", &m}, {"inverse_matrix", &inverse}, {"mean", &mean}};
    write_safetensors(folder / "activation_whitening.safetensors", tensors);
    const auto sae = load_sae(folder);
    const auto plain = load_sae(kFolders / name);
    const Tensor z = read_npy(kFolders / name / "x.npy").clone();
    const auto unwhiten = [&](const Tensor& rows) {
      Tensor out = Tensor::zeros<float>({rows.dim(0), 16});
      for (std::int64_t r = 0; r < rows.dim(0); ++r) {
        for (std::int64_t c = 0; c < 16; ++c) {
          double sum =
              static_cast<double>(std::as_const(mean).data<float>()[static_cast<std::size_t>(c)]);
          for (std::int64_t k = 0; k < 16; ++k) {
            sum += static_cast<double>(rows.mat<float>()(r, k)) *
                   static_cast<double>(std::as_const(inverse).mat<float>()(k, c));
          }
          out.mutable_mat<float>()(r, c) = static_cast<float>(sum);
        }
      }
      return out;
    };
    Tensor inner = Tensor::zeros<float>({z.dim(0), 16});
    plain->reconstruct(z.mat<float>(), inner.mutable_mat<float>());
    const Tensor wanted = unwhiten(inner);
    const Tensor x = unwhiten(z);
    Tensor got = Tensor::zeros<float>({z.dim(0), 16});
    sae->reconstruct(x.mat<float>(), got.mutable_mat<float>());
    // Condition number of M below 10: its share of the rounding error.
    EXPECT_LT(relative_error(got.data<float>(), wanted.data<float>()), 1e-4) << centred;
  }
}

TEST_F(Wrong, TorchFilesAreChecked) {
  const auto write = [&](const char* name, const PtValue& value) {
    write_torch_file(folder_ / name, value);
    return folder_ / name;
  };
  const auto tensor = [](std::vector<std::int64_t> shape) {
    return PtValue(Tensor::zeros<float>(std::move(shape)));
  };
  PtValue openai = PtValue::dict();
  openai.set("pre_bias", tensor({4}));
  openai.set("latent_bias", tensor({6}));
  openai.set("encoder.weight", tensor({6, 4}));
  openai.set("decoder.weight", tensor({4, 6}));
  openai.set("activation", "TopK");
  refuses(write("a.pt", openai), {"a.pt", "activation_state_dict"});
  PtValue state = PtValue::dict();
  state.set("k", 7);
  openai.set("activation_state_dict", state);
  refuses(write("b.pt", openai), {"k", "7", "6"});
  state.set("k", 3);
  state.set("postact_fn", "Tanh");
  refuses(write("c.pt", openai), {"Tanh"});
  openai.set("activation", "Softmax");
  refuses(write("d.pt", openai), {"Softmax"});
  openai.set("activation", 3);
  refuses(write("e.pt", openai), {"int"});
  PtValue cc = PtValue::dict();
  cc.set("W_enc", tensor({2, 4, 6}));
  cc.set("W_dec", tensor({6, 4, 2}));
  refuses(write("f.pt", cc), {"W_dec", "[6, 2, 4]"});
  PtValue matryoshka = PtValue::dict();
  matryoshka.set("W_enc", tensor({4, 6}));
  matryoshka.set("W_dec", tensor({6, 4}));
  matryoshka.set("b_enc", tensor({6}));
  matryoshka.set("b_dec", tensor({4}));
  matryoshka.set("threshold", tensor({}));
  matryoshka.set("k", Tensor::from<std::int32_t>(std::vector<std::int32_t>{2}, {}));
  matryoshka.set("group_sizes",
                 Tensor::from<std::int64_t>(std::vector<std::int64_t>{3, 1LL << 62, 3}, {3}));
  refuses(write("g.pt", matryoshka), {"group_sizes", "6"});
  PtValue topk = PtValue::dict();
  for (const auto& [name, shape] :
       std::vector<std::pair<const char*, std::vector<std::int64_t>>>{{"encoder.weight", {6, 4}},
                                                                      {"encoder.bias", {6}},
                                                                      {"decoder.weight", {4, 6}},
                                                                      {"b_dec", {4}},
                                                                      {"k", {}},
                                                                      {"threshold", {}}}) {
    topk.set(name, tensor(shape));
  }
  refuses(write("h.pt", topk), {"AutoEncoderTopK", "BatchTopKSAE", "config.json"});
  refuses(write("i.pt", PtValue(3)), {"dictionary"});
  // Qwen Scope's k stands in the folder's name.
  PtValue qwen = PtValue::dict();
  qwen.set("W_enc", tensor({6, 4}));
  qwen.set("W_dec", tensor({4, 6}));
  qwen.set("b_enc", tensor({6}));
  qwen.set("b_dec", tensor({4}));
  refuses(write("layer3.sae.pt", qwen), {"L0_"});
  fs::create_directories(folder_ / "SAE-Res-Q-W32K-L0_2");
  const LoadedSae loaded = load_sae_with_record(write("SAE-Res-Q-W32K-L0_2/layer3.sae.pt", qwen));
  EXPECT_EQ(dynamic_cast<const SparseCoder&>(*loaded.sae).config().k, 2);
  EXPECT_EQ(loaded.record.layer, 3);
}

// Weights whose configuration is missing say at least that they are no ReLU's.
TEST_F(Wrong, ThresholdsAreNotForgotten) {
  if (!fs::exists(kFolders)) GTEST_SKIP() << "NOT CHECKED: no " << kFolders;
  fs::copy(kFolders / "saelens_jumprelu" / "sae_weights.safetensors", folder_ / "x.safetensors");
  refuses(folder_ / "x.safetensors", {"threshold", "configuration"});
  // With it beside them they mean what it says.
  const auto sae = load_sae(kFolders / "saelens_jumprelu" / "sae_weights.safetensors");
  EXPECT_EQ(sae->architecture(), "jumprelu");
}

TEST_F(Wrong, LlamaScopeNeedsItsNorms) {
  fs::create_directories(folder_ / "checkpoints");
  const Tensor e = normal_rows(6, 4, 1);
  const Tensor d = normal_rows(4, 6, 2);
  const Tensor eb = Tensor::from<float>(normal_rows(1, 6, 3).data<float>(), {6});
  const Tensor db = Tensor::from<float>(normal_rows(1, 4, 4).data<float>(), {4});
  const std::vector<NamedTensor> tensors = {
      {"encoder.weight", &e}, {"decoder.weight", &d}, {"encoder.bias", &eb}, {"decoder.bias", &db}};
  write_safetensors(folder_ / "checkpoints" / "final.safetensors", tensors);
  const auto hyper = [&](const char* text) {
    write_file_atomic(folder_ / "hyperparams.json", std::string_view(text));
  };
  hyper(R"({"d_model": 4, "d_sae": 6, "jump_relu_threshold": 0.5})");
  refuses(folder_, {"dataset_average_activation_norm"});
  hyper(R"({"d_model": 4, "jump_relu_threshold": 0.5,
            "dataset_average_activation_norm": {"in": 0, "out": 1}})");
  refuses(folder_, {"in", "positive"});
  hyper(R"({"d_model": 4, "d_sae": 6, "jump_relu_threshold": 0.5, "hook_point_in":
            "blocks.7.hook_resid_post", "hook_point_out": "blocks.7.hook_resid_post",
            "dataset_average_activation_norm": {"in": 8.0, "out": 8.0}})");
  SaeRecord record;
  const SparseCoder coder = load_sparse_coder(folder_, &record);
  EXPECT_EQ(record.layer, 7);
  EXPECT_EQ(record.hook_name, "resid_post");
  // s = √4 / 8: weights take the raw input, θ was kept in its units.
  EXPECT_FLOAT_EQ(coder.encoder()(2, 1), 0.25F * e.mat<float>()(2, 1));
  EXPECT_FLOAT_EQ(coder.decoder()(2, 1), 4.0F * d.mat<float>()(1, 2));
  EXPECT_FLOAT_EQ(coder.latent_parameter("threshold")[0], 0.125F);
}

}  // namespace
}  // namespace drrik
