#include "drrik/sae/io.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "sae/made.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::make_sae;
using testing::normal_rows;
using testing::relative_error;

const fs::path kData = fs::path(DRRIK_TEST_DATA) / "sae";

class SaeFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              ("drrik_sae_" + std::to_string(getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static SaeRecord record() {
    SaeRecord r;
    r.model_name = "stories";
    r.hook_name = "mlp_out";
    r.layer = 3;
    r.dataset = "books";
    r.context_size = 128;
    r.history.training_losses = {0.5, 0.1234567890123456789};
    r.history.training_l0_norms = {9.0, 8.0};
    r.history.validation_losses = {0.6, NAN};
    r.history.validation_l0_norms = {9.5, NAN};
    r.metrics["final_train_loss"] = 0.125;
    r.facts["seed"] = "42";
    return r;
  }

  fs::path folder_;
};

void expect_same(const ReluSae& a, const ReluSae& b) {
  ASSERT_EQ(a.d_in(), b.d_in());
  ASSERT_EQ(a.d_sae(), b.d_sae());
  for (std::int64_t j = 0; j < a.d_sae(); ++j) {
    EXPECT_TRUE(std::ranges::equal(a.encoder().row(j), b.encoder().row(j)));
    EXPECT_TRUE(std::ranges::equal(a.decoder().row(j), b.decoder().row(j)));
  }
  EXPECT_TRUE(std::ranges::equal(a.encoder_bias(), b.encoder_bias()));
  EXPECT_TRUE(std::ranges::equal(a.bias(), b.bias()));
}

// Encodes and decodes the reference rows as PyTorch did.
void expect_reference(const Sae& sae) {
  const SafetensorsFile file = SafetensorsFile::open(kData / "expected.safetensors");
  const Tensor x = file.get("x").clone();
  Tensor f = Tensor::zeros<float>({x.dim(0), sae.d_sae()});
  Tensor xhat = Tensor::zeros<float>({x.dim(0), sae.d_in()});
  sae.encode(x.mat<float>(), f.mutable_mat<float>());
  sae.decode(f.mat<float>(), xhat.mutable_mat<float>());
  EXPECT_LT(relative_error(f.data<float>(), file.get("features").clone().data<float>()), 1e-6);
  EXPECT_LT(relative_error(xhat.data<float>(), file.get("reconstruction").clone().data<float>()),
            1e-6);
}

void expect_error(ErrorKind kind, const std::vector<std::string>& parts,
                  const std::function<void()>& f) {
  try {
    f();
    FAIL() << "no error with '" << parts.front() << "'";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << e.what() << " lacks " << part;
    }
  }
}

TEST_F(SaeFiles, ReadTheDescribedTorchFile) {
  const LoadedSae loaded = load_sae_with_record(kData / "described.pt");
  EXPECT_EQ(loaded.format, "described .pt");
  expect_reference(*loaded.sae);
  const auto& relu = dynamic_cast<const ReluSae&>(*loaded.sae);
  EXPECT_EQ(relu.config().l1_coefficient, 0.02);
  EXPECT_TRUE(relu.config().normalize_decoder);
  EXPECT_TRUE(relu.config().pre_encoder_bias);
  EXPECT_EQ(loaded.record.history.training_losses, (std::vector<double>{0.5, 0.25}));
  EXPECT_EQ(loaded.record.history.training_l0_norms, (std::vector<double>{4.0, 3.0}));
}

TEST_F(SaeFiles, ReadADescribedHistoryOfNumpyNumbers) {
  const LoadedSae loaded = load_sae_with_record(kData / "described_numpy.pt");
  EXPECT_EQ(loaded.format, "described .pt");
  expect_reference(*loaded.sae);
  EXPECT_EQ(dynamic_cast<const ReluSae&>(*loaded.sae).config().l1_coefficient, 0.02);
  EXPECT_EQ(loaded.record.history.training_losses, (std::vector<double>{0.1, 0.25}));
  EXPECT_EQ(loaded.record.history.training_l0_norms, (std::vector<double>{4.0, 3.1}));
}

TEST_F(SaeFiles, RefuseAHistoryThatIsNotNumbers) {
  PtValue file = read_torch_file(kData / "described.pt");
  PtValue other = PtValue::dict();
  for (const auto& [key, value] : file.members()) other.set(key, value);
  const auto refuses = [&](const char* part, const PtValue& history) {
    other.set("training_losses", history);
    write_torch_file(folder_ / "x.pt", other);
    expect_error(ErrorKind::kData, {"x.pt", "training_losses", part},
                 [&] { load_sae(folder_ / "x.pt"); });
  };
  refuses("[0]", PtValue::list({Tensor(DType::kF32, {0})}));
  refuses("[2]", PtValue::list({Tensor(DType::kF32, {2})}));
  refuses("[2, 2]", Tensor(DType::kF32, {2, 2}));
  refuses("wanted a float", PtValue::list({"text"}));
  refuses("wanted a list", 3);
}

TEST_F(SaeFiles, ReadPlainSafetensors) {
  expect_reference(*load_sae(kData / "weights.safetensors"));
}

TEST_F(SaeFiles, ReadSaelensFolder) {
  const LoadedSae loaded = load_sae_with_record(kData / "saelens");
  EXPECT_EQ(loaded.record.hook_name, "mlp_out");
  EXPECT_EQ(loaded.record.layer, 1);
  expect_reference(*loaded.sae);
  EXPECT_EQ(loaded.format, "SAELens");
  EXPECT_EQ(loaded.record.model_name, "some-model");
}

// Somebody else's: W_enc [64, 32] as torch.nn.Linear keeps it.
TEST_F(SaeFiles, ReadTheRoutingTransformersSae) {
  const fs::path path =
      fs::path(DRRIK_SHARED_DIR) / "models" / "routing-transformer-sae" / "sae.pt";
  if (!fs::exists(path)) GTEST_SKIP() << "NOT CHECKED: no " << path;
  const auto sae = load_relu_sae(path);
  EXPECT_EQ(sae->d_in(), 32);
  EXPECT_EQ(sae->d_sae(), 64);
  EXPECT_TRUE(sae->config().normalize_decoder);  // its author's columns are unit ones
  const PtValue file = read_torch_file(path);
  const Tensor w_enc = file.get("W_enc").as_tensor().clone();
  const Tensor w_dec = file.get("W_dec").as_tensor().clone();
  EXPECT_EQ(sae->encoder()(5, 7), w_enc.mat<float>()(5, 7));
  EXPECT_EQ(sae->decoder()(5, 7), w_dec.mat<float>()(7, 5));
}

TEST_F(SaeFiles, FolderKeepsEverything) {
  const ReluSae sae = make_sae(7, 12);
  save_sae(sae, record(), folder_ / "sae");
  EXPECT_TRUE(is_sae_path(folder_ / "sae"));
  SaeRecord got;
  const auto back = load_relu_sae(folder_ / "sae", &got);
  expect_same(*back, sae);
  EXPECT_EQ(back->config().l1_coefficient, 0.01);
  const SaeRecord wanted = record();
  EXPECT_EQ(got.model_name, wanted.model_name);
  EXPECT_EQ(got.hook_name, wanted.hook_name);
  EXPECT_EQ(got.layer, 3);
  EXPECT_EQ(got.dataset, wanted.dataset);
  EXPECT_EQ(got.context_size, 128);
  EXPECT_EQ(got.history.training_losses, wanted.history.training_losses);
  EXPECT_EQ(got.history.validation_losses[0], 0.6);
  EXPECT_TRUE(std::isnan(got.history.validation_losses[1]));
  EXPECT_EQ(got.metrics, wanted.metrics);
  EXPECT_EQ(got.facts, wanted.facts);
  // As SAELens wants it.
  const SafetensorsFile file = SafetensorsFile::open(folder_ / "sae" / "sae_weights.safetensors");
  EXPECT_EQ(file.get("W_enc").shape(), (std::vector<std::int64_t>{7, 12}));
  EXPECT_EQ(file.get("W_dec").shape(), (std::vector<std::int64_t>{12, 7}));
  const std::string cfg = read_file(folder_ / "sae" / "cfg.json");
  for (const char* part : {"\"architecture\": \"standard\"", "\"d_in\": 7", "\"d_sae\": 12",
                           "\"apply_b_dec_to_input\": true", "blocks.3.hook_mlp_out"}) {
    EXPECT_NE(cfg.find(part), std::string::npos) << part << " in " << cfg;
  }
}

TEST_F(SaeFiles, KeepFreeDecodersAndMissingBias) {
  ReluSaeConfig config;
  config.activation_dim = 5;
  config.hidden_dim = 5;  // square: orientation cannot be told from shapes
  config.normalize_decoder = false;
  config.pre_encoder_bias = false;
  config.l1_coefficient = 0.3;
  Rng rng(1);
  const ReluSae sae = ReluSae::random(config, rng);
  save_sae(sae, {}, folder_ / "sae");
  save_torch_sae(sae, {}, folder_ / "sae.pt");
  for (const char* name : {"sae", "sae.pt"}) {
    const auto back = load_relu_sae(folder_ / name);
    expect_same(*back, sae);
    EXPECT_FALSE(back->config().normalize_decoder) << name;
    EXPECT_FALSE(back->config().pre_encoder_bias) << name;
    EXPECT_EQ(back->config().l1_coefficient, 0.3) << name;
  }
}

TEST_F(SaeFiles, TorchFileKeepsWeightsAndHistory) {
  const ReluSae sae = make_sae(7, 12);
  SaeRecord kept = record();
  save_torch_sae(sae, kept, folder_ / "sae.pt");
  SaeRecord got;
  expect_same(*load_relu_sae(folder_ / "sae.pt", &got), sae);
  EXPECT_EQ(got.history.training_losses, kept.history.training_losses);
  EXPECT_EQ(got.history.training_l0_norms, kept.history.training_l0_norms);
}

// Without centring of the input, b_dec only moves the encoder's bias.
TEST_F(SaeFiles, UncentredSaelensFoldersEncodeTheSame) {
  const ReluSae sae = make_sae(6, 9);
  save_sae(sae, {}, folder_ / "sae");
  fs::remove(folder_ / "sae" / "drrik.json");
  std::string cfg = read_file(folder_ / "sae" / "cfg.json");
  const std::string from = "\"apply_b_dec_to_input\": true";
  ASSERT_NE(cfg.find(from), std::string::npos);
  cfg.replace(cfg.find(from), from.size(), "\"apply_b_dec_to_input\": false");
  write_file_atomic(folder_ / "sae" / "cfg.json", cfg);
  const auto back = load_sae(folder_ / "sae");
  const Tensor x = normal_rows(20, 6);
  Tensor got = Tensor::zeros<float>({20, 9});
  back->encode(x.mat<float>(), got.mutable_mat<float>());
  std::vector<float> wanted;
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t j = 0; j < 9; ++j) {
      double f = static_cast<double>(sae.encoder_bias()[static_cast<std::size_t>(j)]);
      for (std::int64_t c = 0; c < 6; ++c) {
        f += static_cast<double>(x.mat<float>()(r, c)) * static_cast<double>(sae.encoder()(j, c));
      }
      wanted.push_back(static_cast<float>(std::max(f, 0.0)));
    }
  }
  EXPECT_LT(relative_error(got.data<float>(), wanted), 1e-6);
}

TEST_F(SaeFiles, RefuseWrongShapesAndNamesTellingBoth) {
  const Tensor e = normal_rows(4, 3);
  const Tensor d = normal_rows(4, 3, 9);  // wanted [3, 4]
  const Tensor eb = normal_rows(1, 4);
  const Tensor flat = Tensor::from<float>(eb.data<float>(), {4});
  Tensor nan = Tensor::from<float>(eb.data<float>(), {4});
  nan.mutable_data<float>()[2] = NAN;
  const fs::path path = folder_ / "x.safetensors";
  const auto write = [&](std::vector<NamedTensor> tensors) { write_safetensors(path, tensors); };
  const auto load = [&] { load_sae(path); };
  write({{"encoder.weight", &e}, {"decoder.weight", &d}, {"encoder_bias", &flat}});
  expect_error(ErrorKind::kData, {path.string(), "decoder.weight", "[4, 3]", "[3, 4]"}, load);
  write({{"encoder.weight", &e}, {"encoder_bias", &flat}});
  expect_error(ErrorKind::kData, {path.string(), "decoder.weight"}, load);
  write({{"weight", &e}});
  expect_error(ErrorKind::kData, {"W_enc", "weight [4, 3]"}, load);
  const Tensor good = normal_rows(3, 4);
  write({{"encoder.weight", &e}, {"decoder.weight", &good}, {"encoder_bias", &nan}});
  expect_error(ErrorKind::kData, {"encoder_bias", "NaN"}, load);
  write({{"encoder.weight", &flat}});
  expect_error(ErrorKind::kData, {"encoder.weight", "rank 2"}, load);
}

TEST_F(SaeFiles, RefuseWhatIsNotAnSae) {
  expect_error(ErrorKind::kIo, {"nowhere"}, [&] { load_sae(folder_ / "nowhere"); });
  expect_error(ErrorKind::kData, {"cfg.json"}, [&] { load_sae(folder_); });
  write_file_atomic(folder_ / "a.txt", std::string_view("x"));
  expect_error(ErrorKind::kData, {"a.txt"}, [&] { load_sae(folder_ / "a.txt"); });
  EXPECT_FALSE(is_sae_path(folder_));
  EXPECT_FALSE(is_sae_path(folder_ / "a.txt"));

  const ReluSae sae = make_sae(3, 4);
  const auto with_cfg = [&](const std::string& text) {
    save_sae(sae, {}, folder_ / "sae");
    fs::remove(folder_ / "sae" / "drrik.json");
    write_file_atomic(folder_ / "sae" / "cfg.json", text);
    return [this] { load_sae(folder_ / "sae"); };
  };
  expect_error(ErrorKind::kData, {"architecture 'standart'", "did you mean 'standard'"},
               with_cfg(R"({"architecture": "standart"})"));
  expect_error(ErrorKind::kData, {"d", "5"},
               with_cfg(R"({"architecture": "standard", "d_in": 5})"));
  expect_error(
      ErrorKind::kData, {"some_norm"},
      with_cfg(R"({"architecture": "standard", "normalize_activations": "some_norm"})"));
  expect_error(ErrorKind::kData, {"cfg.json"}, with_cfg("{"));
  expect_error(ErrorKind::kData, {"cfg.json"}, with_cfg("[]"));
  EXPECT_NO_THROW(with_cfg(R"({"d_in": 3, "d_sae": 4, "activation_fn_str": "relu"})")());
}

TEST_F(SaeFiles, RefuseTruncatedFiles) {
  const ReluSae sae = make_sae(5, 8);
  save_sae(sae, record(), folder_ / "sae");
  save_torch_sae(sae, record(), folder_ / "sae.pt");
  for (const fs::path& path :
       {folder_ / "sae" / "sae_weights.safetensors", folder_ / "sae" / "drrik.json",
        folder_ / "sae" / "cfg.json", folder_ / "sae.pt"}) {
    const std::string whole = read_file(path);
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, whole.size() / 2}) {
      std::ofstream(path, std::ios::binary) << whole.substr(0, size);
      EXPECT_THROW(load_sae(path.extension() == ".pt" ? path : folder_ / "sae"), Error)
          << path << " " << size;
    }
    std::ofstream(path, std::ios::binary) << whole;
    EXPECT_NO_THROW(load_sae(path.extension() == ".pt" ? path : folder_ / "sae")) << path;
  }
}

TEST_F(SaeFiles, AreNotWrittenWithNan) {
  ReluSae sae = make_sae(5, 8);
  sae.encoder()(2, 3) = NAN;
  expect_error(ErrorKind::kNumeric, {"W_enc"}, [&] { save_sae(sae, {}, folder_ / "sae"); });
  EXPECT_FALSE(fs::exists(folder_ / "sae" / "cfg.json"));
}

TEST(SaeArchitectures, AreListed) {
  EXPECT_EQ(sae_architectures(), (std::vector<std::string>{"relu"}));
}

}  // namespace
}  // namespace drrik
