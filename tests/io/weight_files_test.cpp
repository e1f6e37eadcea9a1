#include "drrik/io/weight_files.h"

#include <map>

#include "drrik/io/safetensors.h"
#include "drrik/io/torch_file.h"
#include "io/io_testing.h"

namespace drrik {
namespace {

using testing::counted;
using testing::data_file;
using testing::difference;
using testing::expect_data_error;
using testing::expect_error;

constexpr const char* kIndex = "model.safetensors.index.json";

class Weights : public ::testing::Test {
 protected:
  Weights() {
    const NamedTensor first{"a", &a_};
    const NamedTensor second{"b", &b_};
    write_safetensors(folder_ / "one.safetensors", {&first, 1});
    write_safetensors(folder_ / "two.safetensors", {&second, 1});
    torch("one.bin", {{"a", a_.clone()}, {"_step", 3}});
    torch("two.bin", {{"b", b_.clone()}});
  }
  void torch(std::string_view name, std::vector<PtValue::Member> members) const {
    write_torch_file(folder_ / name, PtValue::dict(true, std::move(members)));
  }
  void write(std::string_view name, std::string_view text) const {
    write_file_atomic(folder_ / name, text);
  }
  void index(std::string_view weight_map, const char* name = kIndex) const {
    write(name, str(R"({"metadata":{},"weight_map":)", weight_map, "}"));
  }
  void refuses(std::string_view weight_map, std::string_view part,
               const char* name = kIndex) const {
    index(weight_map, name);
    expect_data_error(part, [&] { WeightFiles::open(folder_.path()); });
  }
  std::vector<std::string> names() const { return WeightFiles::open(folder_.path()).names(); }

  testing::TempFolder folder_;
  Tensor a_ = counted(DType::kF32, {2});
  Tensor b_ = counted(DType::kI64, {3});
};

TEST_F(Weights, LooksUpAcrossShards) {
  for (const bool torch : {true, false}) {
    index(torch ? R"({"b":"two.bin","a":"one.bin"})"
                : R"({"b":"two.safetensors","a":"one.safetensors"})",
          torch ? "pytorch_model.bin.index.json" : kIndex);
    const auto opened = WeightFiles::open(folder_.path());
    EXPECT_EQ(opened.format() == WeightFiles::Format::kTorch, torch);
    EXPECT_EQ(opened.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(difference(opened.get("a"), a_), "");
    EXPECT_TRUE(opened.get("a").borrowed());
    EXPECT_EQ(difference(opened.get("b"), b_), "");
    EXPECT_EQ(opened.file_of("b").stem(), "two");
    EXPECT_EQ(opened.find("b")->dtype, DType::kI64);
    EXPECT_EQ(opened.find("b")->shape, (std::vector<std::int64_t>{3}));
    EXPECT_EQ(opened.total_bytes(), 8U + 24U);
    EXPECT_EQ(opened.find("c"), nullptr);
    expect_data_error("no tensor 'c'", [&] { opened.get("c"); });
  }
  EXPECT_EQ(WeightFiles::open(folder_ / "pytorch_model.bin.index.json").files().size(), 2U);
}

// The order of transformers: single file before index, safetensors before PyTorch.
TEST_F(Weights, TakesTheKindsInTheOrderOfTransformers) {
  const auto one = [&](const char* name) { return NamedTensor{name, &a_}; };
  index(R"({"a":"one.bin","b":"two.bin"})", "pytorch_model.bin.index.json");
  EXPECT_EQ(names().size(), 2U);
  torch("pytorch_model.bin", {{"from_bin", a_.clone()}});
  EXPECT_EQ(names(), (std::vector<std::string>{"from_bin"}));
  index(R"({"b":"two.safetensors"})");
  EXPECT_EQ(names(), (std::vector<std::string>{"b"}));
  const NamedTensor single = one("single");
  write_safetensors(folder_ / "model.safetensors", {&single, 1});
  EXPECT_EQ(names(), (std::vector<std::string>{"single"}));
}

TEST_F(Weights, OpensSingleFilesUnderAnyName) {
  EXPECT_EQ(WeightFiles::open(folder_ / "one.safetensors").names(),
            (std::vector<std::string>{"a"}));
  // What is no tensor is passed over.
  EXPECT_EQ(WeightFiles::open(folder_ / "one.bin").names(), (std::vector<std::string>{"a"}));
  EXPECT_EQ(WeightFiles::open(data_file("legacy.pt")).find("bf16")->dtype, DType::kBF16);
  const auto views = WeightFiles::open(data_file("views.pt"));
  EXPECT_EQ(views.get("transposed").shape(), (std::vector<std::int64_t>{6, 4}));
  EXPECT_EQ(difference(views.get("tied"), counted(DType::kF32, {4, 6})), "");
  EXPECT_EQ(views.get("transposed").mutable_raw(), nullptr);
}

TEST_F(Weights, FindsTheTensorsOfATrainingCheckpoint) {
  write_torch_file(
      folder_ / "c.pt",
      PtValue::dict(false,
                    {{"epoch", 3}, {"state_dict", PtValue::dict(true, {{"a", a_.clone()}})}}));
  EXPECT_EQ(WeightFiles::open(folder_ / "c.pt").names(), (std::vector<std::string>{"a"}));
  write_torch_file(folder_ / "d.pt", PtValue::dict(false, {{"epoch", 3}}));
  expect_data_error("d.pt: holds no tensors", [&] { WeightFiles::open(folder_ / "d.pt"); });
  write_torch_file(folder_ / "e.pt", PtValue(a_.clone()));
  expect_data_error("holds a tensor, wanted a dict", [&] { WeightFiles::open(folder_ / "e.pt"); });
}

TEST_F(Weights, RefusesWhatIsNotThere) {
  refuses(R"({"a":"three.safetensors"})", "shard 'three.safetensors' (holding 'a') does not exist");
  refuses(R"({"c":"one.safetensors"})", "tensor 'c' is not in its shard 'one.safetensors'");
  for (const char* name : {"../one.safetensors", "/etc/passwd", "x/y", "..", ".", "", "a\\\\b"}) {
    refuses(str(R"({"a":")", name, R"("})"), "not a plain file name");
  }
  refuses(R"({"a":7})", "wanted a string");
  refuses(R"({})", "is empty");
  refuses(R"([])", "wanted an object");
  write("one.safetensors", "short");
  refuses(R"({"a":"one.safetensors"})", "one.safetensors: not a safetensors file");
  write("one.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
  refuses(R"({"a":"one.safetensors"})", "one.safetensors: a pointer of Git LFS");
  std::filesystem::remove(folder_ / kIndex);
  refuses(R"({"a":"../one.bin"})", "not a plain file name", "pytorch_model.bin.index.json");
  refuses(R"({"c":"one.bin"})", "not in its shard 'one.bin'", "pytorch_model.bin.index.json");
}

TEST_F(Weights, SaysWhatAFolderHoldsInstead) {
  const std::map<std::string, std::string> cases = {
      {"x.Q4_K_M.gguf", "GGUF files are not read"},
      {"adapter_config.json", "PEFT adapter (LoRA)"},
      {"model_index.json", "diffusers pipeline"},
      {"tf_model.h5", "TensorFlow's weights"},
      {"flax_model.msgpack", "Flax's weights"},
      {"consolidated.00.pth", "an original checkpoint"},
      {"model.onnx", "ONNX files are not read"},
      {"model.fp16.safetensors", "name them model.safetensors"},
      {"weights.bin", "name them pytorch_model.bin"},
  };
  for (const auto& [name, part] : cases) {
    const testing::TempFolder folder;
    write_file_atomic(folder / name, std::string_view("x"));
    expect_data_error(part, [&] { WeightFiles::open(folder.path()); });
    expect_data_error(name, [&] { WeightFiles::open(folder.path()); });
  }
  const testing::TempFolder empty;
  expect_data_error("has no weights: wanted model.safetensors or pytorch_model.bin",
                    [&] { WeightFiles::open(empty.path()); });
  expect_error(ErrorKind::kIo, "absent", [&] { WeightFiles::open(folder_ / "absent"); });
}

}  // namespace
}  // namespace drrik
