// Reading the formats: against what the packages themselves made
// (tools/reference/sae_format_folders.py), and files that are wrong.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "drrik/sae/io.h"
#include "sae/formats_testing.h"
#include "sae/made.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::Formats;
using testing::normal_rows;
using testing::relative_error;

const fs::path kFolders = fs::path(DRRIK_TEST_DATA) / "sae_formats";

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
