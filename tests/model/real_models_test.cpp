// Trained models: greedy text must be what other implementations wrote.

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "drrik/model/generate.h"
#include "drrik/text/tokenizer.h"
#include "io/json.h"
#include "model/compare.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

struct Case {
  const char* model;
  const char* expected;
  const char* prompt;  // after the tokenizer's own <s>
  std::int64_t tokens;
};

// The bundled model against transformers in float32; the closest choice was won by 0.126.
TEST(BundledModel, GreedyIdsEqualTransformers) {
  const fs::path folder = fs::path(DRRIK_ASSETS_DIR) / "demo";
  const Json expected = read_json_file(folder / "expected_greedy.json");
  const Model model = Model::load(folder / "model");
  const Tokenizer tokenizer = Tokenizer::from_folder(folder / "model");
  const auto ids = expected.at("input_ids").get<std::vector<std::int32_t>>();
  EXPECT_EQ(tokenizer.encode(expected.at("prompt").get<std::string>()), ids);
  const auto want = expected.at("output_ids").get<std::vector<std::int32_t>>();
  ASSERT_EQ(want.size(), 64U);
  SamplingOptions options;
  options.temperature = 0.0;
  options.max_new_tokens = static_cast<std::int64_t>(want.size());
  EXPECT_EQ(generate(model, ids, options).ids, want);
}

class RealModel : public testing::TestWithParam<Case> {};

TEST_P(RealModel, GreedyTextEqualsTheExpectedFile) {
  const Case c = GetParam();
  const fs::path folder = fs::path(DRRIK_SHARED_DIR) / "models" / c.model;
  if (!fs::exists(folder / c.expected)) GTEST_SKIP() << "no " << folder << "; nothing was tested";
  const Model model = Model::load(folder);
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  std::vector<std::int32_t> ids = tokenizer.encode(c.prompt);
  if (ids.empty() || ids.front() != model.config().bos_id) {
    ids.insert(ids.begin(), *model.config().bos_id);
  }
  SamplingOptions options;
  options.temperature = 0.0;
  options.max_new_tokens = c.tokens;
  const Generated got = generate(model, ids, options);
  ids.insert(ids.end(), got.ids.begin(), got.ids.end());
  const std::string text = tokenizer.decode(ids);
  std::string want = read(folder / c.expected);
  ASSERT_GT(want.size(), 200U);
  // The file ends where its writer stopped, which need not be where we do.
  ASSERT_GE(text.size() + 2, want.size());
  EXPECT_EQ(text.substr(0, want.size()), want.substr(0, text.size()));
}

INSTANTIATE_TEST_SUITE_P(
    All, RealModel,
    testing::Values(Case{"stories260K", "EXPECTED_greedy_n200.txt", "", 200},
                    Case{"babyllama-105", "EXPECTED_greedy_n256_prompt_Once_upon_a_time_.txt",
                         "Once upon a time ", 255},
                    Case{"babyllama-361", "EXPECTED_greedy_n256_prompt_Once_upon_a_time_.txt",
                         "Once upon a time ", 255}),
    [](const auto& test) {
      std::string name = test.param.model;
      for (char& ch : name) ch = ch == '-' ? '_' : ch;
      return name;
    });

// minGPT's gpt-nano: true GPT-2 blocks with activations that another implementation recorded. Its
// file is JSON with matrices as torch's Linear keeps them; here it becomes a GPT-2 folder.

std::vector<float> base64_floats(const std::string& text) {
  std::string bytes;
  std::uint32_t word = 0;
  int bits = 0;
  const std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (const char c : text) {
    const auto digit = digits.find(c);
    if (digit == std::string_view::npos) continue;
    word = (word << 6) | static_cast<std::uint32_t>(digit);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>((word >> bits) & 0xFFU));
  }
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

Tensor nano_tensor(const Json& json, bool transposed) {
  std::vector<std::int64_t> shape = get_ints(json, "shape", "tensor");
  std::vector<float> values = base64_floats(get_string(json, "data", "tensor"));
  if (transposed) {
    std::vector<float> turned(values.size());
    const auto rows = static_cast<std::size_t>(shape[0]);
    const auto cols = static_cast<std::size_t>(shape[1]);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) turned[c * rows + r] = values[r * cols + c];
    }
    std::swap(shape[0], shape[1]);
    values = std::move(turned);
  }
  return Tensor::from<float>(values, shape);
}

TEST(RealModel, GptNanoGivesTheRecordedActivations) {
  const fs::path source = fs::path(DRRIK_SHARED_DIR) / "models" / "gpt-nano-sort";
  if (!fs::exists(source)) GTEST_SKIP() << "no " << source << "; nothing was tested";
  const Json stored = read_json_file(source / "gpt-nano-sort-model.json");
  const Json partials = read_json_file(source / "gpt-nano-sort-t0-partials.json");
  const fs::path folder = fs::temp_directory_path() / str("drrik_nano_", ::getpid());
  fs::create_directories(folder);
  {
    std::ofstream(folder / "config.json")
        << R"({"model_type": "gpt2", "vocab_size": 3, "n_positions": 11, "n_embd": 48, "n_layer": 3,
               "n_head": 3, "activation_function": "gelu_new", "tie_word_embeddings": false})";
    std::vector<std::string> names;
    std::vector<Tensor> tensors;
    for (const auto& [name, value] : stored.items()) {
      if (name == "config") continue;
      const bool conv = name.find(".h.") != std::string::npos && name.ends_with(".weight") &&
                        name.find(".ln_") == std::string::npos;
      names.push_back(name);
      tensors.push_back(nano_tensor(value, conv));
    }
    std::vector<NamedTensor> named;
    for (std::size_t i = 0; i < names.size(); ++i) named.push_back({names[i], &tensors[i]});
    write_safetensors(folder / "model.safetensors", named);
  }
  const Model model = Model::load(folder);
  TokenBatch batch;
  const std::vector<float> ids = base64_floats(get_string(partials["idx"], "data", "idx"));
  for (std::size_t s = 0; s < 3; ++s) {
    std::vector<std::int32_t> sequence;
    for (std::size_t i = 0; i < 11; ++i) {
      sequence.push_back(static_cast<std::int32_t>(ids[s * 11 + i]));
    }
    batch.append(sequence);
  }
  const std::map<std::string, Hook> recorded = {
      {"x", {HookPoint::kResidPre, 0}},         {"yProj", {HookPoint::kAttnOut, 0}},
      {"attnResid", {HookPoint::kResidMid, 0}}, {"ln2", {HookPoint::kMlpIn, 0}},
      {"gelu", {HookPoint::kMlpPost, 0}},       {"mlp", {HookPoint::kMlpOut, 0}},
      {"mlpResid", {HookPoint::kResidPost, 0}}, {"block1", {HookPoint::kResidPost, 1}},
      {"block2", {HookPoint::kResidPost, 2}},
  };
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  for (const auto& [name, hook] : recorded) options.hooks.push_back(hook);
  std::size_t calls = 0;
  options.on_hook = [&](const Hook& hook, MatView<float> x) {
    for (const auto& [name, at] : recorded) {
      if (!(at == hook)) continue;
      ++calls;
      const auto want = base64_floats(get_string(partials[name], "data", name));
      EXPECT_LE(test::relative_error(test::flat(x), want), 1e-5) << name;
    }
  };
  const Tensor logits = model.forward(batch, options);
  EXPECT_EQ(calls, recorded.size());
  const auto want = base64_floats(get_string(partials["lm_head"], "data", "lm_head"));
  EXPECT_LE(test::relative_error(logits.data<float>(), want), 1e-5);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace drrik
