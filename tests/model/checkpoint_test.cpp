// The forms that checkpoints come in, and the names that tensors have in them.

#include "model/checkpoint.h"

#include <unistd.h>

#include <map>

#include "drrik/io/torch_file.h"
#include "drrik/io/weight_files.h"
#include "model/compare.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using test::data_folder;
using test::error_of;
using test::load_reference;
using test::relative_error;

constexpr double kTolerance = 1e-5;  // as in reference_test.cpp

fs::path checkpoint(const std::string& name) {
  return fs::path(DRRIK_TEST_DATA) / "checkpoints" / name;
}

class Folder {
 public:
  Folder() {
    static int count = 0;
    path_ = fs::temp_directory_path() / str("drrik_checkpoint_", ::getpid(), "_", count++);
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

  void config_of(const std::string& model) const {
    fs::copy_file(data_folder(model) / "config.json", path_ / "config.json");
  }
  void write(const std::map<std::string, Tensor>& tensors,
             const std::string& name = "model.safetensors") const {
    std::vector<NamedTensor> named;
    for (const auto& [key, tensor] : tensors) named.push_back({key, &tensor});
    write_safetensors(path_ / name, named);
  }
  void write(const std::string& name, std::string_view text) const {
    write_file_atomic(path_ / name, text);
  }

 private:
  fs::path path_;
};

std::map<std::string, Tensor> tensors_of(const std::string& model) {
  std::map<std::string, Tensor> out;
  const auto file = SafetensorsFile::open(data_folder(model) / "model.safetensors");
  for (const auto& entry : file.entries()) out.emplace(entry.name, file.get(entry.name).clone());
  return out;
}

Tensor logits_of(const fs::path& folder, const TokenBatch& batch) {
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  return Model::load(folder).forward(batch, options);
}

void expect_reference(const fs::path& folder, const std::string& model) {
  const auto reference = load_reference(model);
  const Tensor logits = logits_of(folder, reference.batch);
  EXPECT_LE(relative_error(logits.data<float>(), reference.file.get("logits").data<float>()),
            kTolerance);
}

TEST(Checkpoint, TorchFilesGiveTheNumbersOfSafetensors) {
  for (const char* name : {"zip.bin", "legacy.bin", "strided.bin"}) {
    SCOPED_TRACE(name);
    const Folder folder;
    folder.config_of("llama-plain");
    fs::copy_file(checkpoint("torch") / name, folder / "pytorch_model.bin");
    expect_reference(folder.path(), "llama-plain");
  }
}

TEST(Checkpoint, TorchFilesMayComeInShards) {
  const Folder folder;
  folder.config_of("llama-plain");
  std::string map;
  std::vector<PtValue::Member> members[2];
  for (auto& [name, tensor] : tensors_of("llama-plain")) {
    const bool first = name < "model.layers.1";
    members[first ? 0 : 1].emplace_back(name, std::move(tensor));
    map += str(map.empty() ? "" : ",", '"', name, "\":\"part", first ? 0 : 1, ".bin\"");
  }
  for (std::size_t i = 0; i < 2; ++i) {
    write_torch_file(folder / str("part", i, ".bin"), PtValue::dict(true, std::move(members[i])));
  }
  folder.write("pytorch_model.bin.index.json", str("{\"weight_map\":{", map, "}}"));
  expect_reference(folder.path(), "llama-plain");
  fs::remove(folder / "part1.bin");
  const auto [kind, text] = error_of([&] { Model::load(folder.path()); });
  EXPECT_EQ(kind, ErrorKind::kData);
  EXPECT_NE(text.find("shard 'part1.bin'"), std::string::npos) << text;
}

TEST(Checkpoint, TensorsThatTheModelDoesNotAskForAreIgnored) {
  const Folder folder;
  folder.config_of("gpt2-plain");
  auto tensors = tensors_of("gpt2-plain");
  // Buffers of old versions, among them one that looks like a bias; ints; a type of its own.
  tensors.emplace("transformer.h.0.attn.bias", Tensor(DType::kBool, {1, 1, 8, 8}));
  tensors.emplace("transformer.h.0.attn.masked_bias", Tensor(DType::kF32, {}));
  tensors.emplace("classifier.weight", Tensor(DType::kI64, {3, 3}));
  folder.write(tensors);
  expect_reference(folder.path(), "gpt2-plain");
}

// facts: a multimodal Gemma 3 stores its text model in either of two ways.
TEST(Checkpoint, ATextModelInsideAMultimodalOneIsFound) {
  for (const bool old : {true, false}) {
    const Folder folder;
    folder.config_of("gemma3-plain");
    std::map<std::string, Tensor> renamed;
    for (auto& [name, tensor] : tensors_of("gemma3-plain")) {
      const std::string inner = name.substr(name.find('.') + 1);
      const bool base = name.starts_with("model.");
      const std::string key = old    ? "language_model." + name
                              : base ? "model.language_model." + inner
                                     : name;
      renamed.emplace(key, std::move(tensor));
    }
    renamed.emplace("vision_tower.x.weight", Tensor(DType::kF32, {2, 2}));
    folder.write(renamed);
    expect_reference(folder.path(), "gemma3-plain");
  }
}

TEST(Checkpoint, NormsMayHaveTheirOldNames) {
  const Folder folder;
  std::map<std::string, Tensor> tensors;
  const float one = 1.0F;
  for (const char* name : {"bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta"}) {
    tensors.emplace(name, Tensor::from<float>({&one, 1}, {1}));
  }
  folder.write(tensors);
  const auto source = detail::open_checkpoint(folder.path(), "bert.");
  const std::int64_t shape[] = {1};
  EXPECT_NO_THROW(source->get("bert.embeddings.LayerNorm.weight", shape));
  EXPECT_NO_THROW(source->get("bert.embeddings.LayerNorm.bias", shape));
  const auto [kind, text] = error_of([&] { source->get("bert.embeddings.LayerNorm.wait", shape); });
  EXPECT_NE(text.find("did you mean 'bert.embeddings.LayerNorm.weight'"), std::string::npos)
      << text;
}

// The packages' own widening is the oracle: see tools/reference/checkpoint_reference.py.
TEST(Checkpoint, EightBitFloatsWithScalesGiveWhatTransformersMakesOfThem) {
  for (const char* name : {"fp8-block", "fp8-matrix", "compressed-channel", "compressed-tensor",
                           "compressed-block", "fbgemm"}) {
    SCOPED_TRACE(name);
    const auto file = SafetensorsFile::open(checkpoint(name) / "logits.safetensors");
    const Tensor ids = file.get("ids");
    TokenBatch batch;
    batch.append(ids.data<std::int32_t>());
    const Tensor logits = logits_of(checkpoint(name), batch);
    EXPECT_LE(relative_error(logits.data<float>(), file.get("logits").data<float>()), kTolerance);
  }
}

TEST(Checkpoint, ScalesMustFit) {
  struct Case {
    std::vector<std::int64_t> scales;
    const char* block;
    const char* part;  // of the error; "" for none
  };
  const Case cases[] = {
      {{3, 2}, "[16, 32]", ""},  // 40 x 40 in blocks that do not divide it
      {{40, 1}, "null", ""},
      {{1}, "null", ""},
      {{2, 3}, "[16, 32]", "its scales have shape [2, 3], wanted one for each block of [16, 32]"},
      {{3, 2}, "null", "wanted one, or one a row of [40, 40]"},
      {{3, 2}, "[16]", "'weight_block_size' is [16], wanted two positive numbers"},
      {{3, 2}, "[16, 0]", "wanted two positive numbers"},
      {{}, "none", "without a weight_scale_inv"},
  };
  const std::int64_t shape[] = {40, 40};
  for (const Case& c : cases) {
    const Folder folder;
    std::map<std::string, Tensor> tensors;
    Tensor codes(DType::kF8E4M3, {40, 40});
    std::fill_n(codes.mutable_raw(), 1600, std::byte{0x38});  // 1.0
    tensors.emplace("a.weight", std::move(codes));
    const bool scaled = std::string_view(c.block) != "none";
    if (scaled) {
      Tensor scales(DType::kF32, c.scales);
      for (std::int64_t i = 0; i < scales.elements(); ++i) {
        scales.mutable_data<float>()[static_cast<std::size_t>(i)] = static_cast<float>(i + 1);
      }
      tensors.emplace("a.weight_scale_inv", std::move(scales));
    }
    folder.write(tensors);
    folder.write("config.json",
                 str(R"({"quantization_config":{"quant_method":"fp8","weight_block_size":)",
                     scaled ? c.block : "null", "}}"));
    if (*c.part != 0) {
      const auto [kind, text] =
          error_of([&] { detail::open_checkpoint(folder.path(), "")->get("a.weight", shape); });
      EXPECT_EQ(kind, ErrorKind::kData);
      EXPECT_NE(text.find(c.part), std::string::npos) << text;
      continue;
    }
    const Tensor got = detail::open_checkpoint(folder.path(), "")->get("a.weight", shape);
    for (std::int64_t r = 0; r < 40; ++r) {
      for (std::int64_t col = 0; col < 40; ++col) {
        const float wanted = c.scales.size() == 1 ? 1.0F
                             : c.scales[0] == 40  ? static_cast<float>(r + 1)
                                                  : static_cast<float>(r / 16 * 2 + col / 32 + 1);
        ASSERT_EQ(got.mat<float>()(r, col), wanted) << r << " " << col;
      }
    }
  }
}

TEST(Checkpoint, OtherTypesAreConvertedExactly) {
  const Folder folder;
  std::map<std::string, Tensor> tensors;
  for (const DType dtype :
       {DType::kF8E4M3, DType::kF8E5M2, DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz}) {
    Tensor codes(dtype, {16, 16});
    for (std::size_t i = 0; i < 256; ++i) codes.mutable_raw()[i] = static_cast<std::byte>(i);
    tensors.emplace(std::string(dtype_name(dtype)), std::move(codes));
  }
  const double third = 1.0 / 3.0;
  tensors.emplace("f64", Tensor::from<double>({&third, 1}, {1}));
  tensors.emplace("i32", Tensor(DType::kI32, {1}));
  tensors.emplace("scales", Tensor(DType::kF8E8M0, {1}));
  folder.write(tensors);
  const auto source = detail::open_checkpoint(folder.path(), "model.");
  const std::int64_t square[] = {16, 16};
  const std::int64_t one[] = {1};
  for (const auto& [name, tensor] : tensors) {
    if (tensor.rank() != 2) continue;
    const Tensor got = source->get(name, square);
    EXPECT_EQ(got.dtype(), DType::kBF16);
    const Tensor wide = got.to(DType::kF32);
    const Tensor wanted = tensor.to(DType::kF32);
    for (std::size_t i = 0; i < 256; ++i) {
      const float a = wide.data<float>()[i];
      const float b = wanted.data<float>()[i];
      EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << name << " " << i;
    }
  }
  EXPECT_EQ(source->get("f64", one).data<float>()[0], static_cast<float>(third));
  for (const char* name : {"i32", "scales"}) {
    const auto [kind, text] = error_of([&] { source->get(name, one); });
    EXPECT_EQ(kind, ErrorKind::kData);
    EXPECT_NE(text.find("wanted a floating one"), std::string::npos) << text;
  }
}

TEST(Checkpoint, OtherQuantisedModelsAreRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quant_method":"gptq","bits":4})", "quantised with gptq (4 bits)"},
      {R"({"quant_method":"awq","bits":4})", "quantised with awq (4 bits)"},
      {R"({"load_in_4bit":true})", "quantised with bitsandbytes"},
      {R"({"quant_method":"mxfp4"})", "quantised with mxfp4"},
      {R"({})", "quantised with an unnamed method"},
      {R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{}})",
       "'format' is pack-quantized"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized"})",
       "'config_groups' is absent"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":
           {"weights":{"num_bits":4,"type":"float"}}}})",
       "config_groups.g.weights: 'num_bits' is 4"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":
           {"weights":{"num_bits":8,"type":"int"}}}})",
       "'type' is int"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":
           {"weights":{"num_bits":8,"type":"float","strategy":"group"}}}})",
       "'strategy' is group"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":
           {"weights":{"num_bits":8,"type":"float","symmetric":false}}}})",
       "'symmetric' is false"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":
           {"weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":[16]}}}})",
       "'block_structure' is [16], wanted two positive numbers"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{
           "a":{"weights":{"num_bits":8,"type":"float","strategy":"channel"}},"b":
           {"weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":[4,4]}}}})",
       "its scales serve other blocks"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":7},
           "sparsity_config":{"format":"sparse-24-bitmask"}})",
       "'sparsity_config.format' is sparse-24-bitmask"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":7},
           "transform_config":{"config_groups":{}}})",
       "'transform_config' is set"},
      {R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"g":7}})",
       "wanted an object"},
      {R"(7)", "wanted an object"},
  };
  for (const auto& [config, part] : cases) {
    const Folder folder;
    folder.write(tensors_of("llama-plain"));
    std::string text = read_file(data_folder("llama-plain") / "config.json");
    text.insert(text.find('{') + 1, str("\"quantization_config\":", config, ","));
    folder.write("config.json", text);
    const auto [kind, message] = error_of([&] { Model::load(folder.path()); });
    EXPECT_EQ(kind, ErrorKind::kData);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace drrik
