// An encoder through the whole command: a tiny random BERT with a WordPiece vocabulary.

#include <array>

#include "cli/command.h"
#include "drrik/base/file.h"
#include "drrik/io/npy.h"
#include "io/json.h"

namespace drrik::cli_test {
namespace {

namespace fs = std::filesystem;

// As many as the model's vocabulary has rows.
constexpr std::array<const char*, 41> kVocabulary = {
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the",  "sea",  "was",  "calm", "a",    "ship",
    "came",  "home",  "wind",  "and",   "sun",    "rose", "on",   "hill", "old",  "man",  "sat",
    "by",    "fire",  "told",  "tale",  "of",     "long", "ago",  ".",    "##s",  "##ed", "night",
    "day",   "fell",  "song",  "##y",   "stone",  "in",   "deep", "blue"};

class Encoder : public CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    const fs::path from = fs::path(DRRIK_TEST_DATA) / "encoders" / "bert-plain";
    fs::create_directory(folder_ / "bert");
    for (const char* file : {"config.json", "model.safetensors"}) {
      fs::copy_file(from / file, folder_ / "bert" / file);
    }
    Json vocabulary = Json::object();
    for (std::size_t i = 0; i < kVocabulary.size(); ++i) vocabulary[kVocabulary[i]] = i;
    Json added = Json::array();
    for (std::size_t i = 0; i < 5; ++i) {
      added.push_back({{"id", i},
                       {"content", kVocabulary[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    const Json tokenizer = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer",
         {{"type", "BertNormalizer"},
          {"clean_text", true},
          {"handle_chinese_chars", true},
          {"strip_accents", nullptr},
          {"lowercase", true}}},
        {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
        {"post_processor",
         {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}},
        {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
        {"model",
         {{"type", "WordPiece"},
          {"unk_token", "[UNK]"},
          {"continuing_subword_prefix", "##"},
          {"max_input_chars_per_word", 100},
          {"vocab", vocabulary}}}};
    write("bert/tokenizer.json", json_text(tokenizer));
    std::string text;
    for (std::size_t line = 0; line < 40; ++line) {
      for (std::size_t word = 0; word < 9; ++word) {
        text += kVocabulary[5 + (line * 7 + word * (line + 3)) % 24];
        text += word < 8 ? " " : ".\n";
      }
    }
    write("text.txt", text);
  }
  void refuses(const std::vector<std::string>& args, const std::string& part) const {
    const Result result = run(args);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(part), std::string::npos) << "wanted '" << part << "' in\n"
                                                        << result.err;
  }
};

TEST_F(Encoder, GivesActivationsToTrainOnAndShow) {
  EXPECT_EQ(run_ok({"tokenize", "--model", path("bert"), "--text", "The ships."}).out,
            "[2, 5, 10, 30, 29, 3]\n");
  const std::string module = "bert.encoder.layer[1].output.dense";
  run_ok({"extract", "--model", path("bert"), "--dataset", path("text.txt"), "--hook", module,
          "--positions", "all", "--output", path("acts")});
  const Tensor rows = read_npy(folder_ / "acts/activations.npy");
  EXPECT_EQ(rows.shape(), (std::vector<std::int64_t>{40 * 12, 16}));
  const Json metadata = read_json_file(folder_ / "acts/metadata.json");
  EXPECT_EQ(metadata.at("layer_paths").at(0), module);

  run_ok({"train", "--activations", path("acts"), "--output", path("sae"), "--hidden-dim", "32",
          "--steps", "40", "--batch-size", "64", "--learning-rate", "0.01"});
  run_ok({"eval", "--sae", path("sae"), "--activations", path("acts")});
  const Json found = parse_json(run_ok({"features", "--sae", path("sae"), "--model", path("bert"),
                                        "--text", "the sea was calm.", "--json"})
                                    .out,
                                "features");
  EXPECT_FALSE(found.at("features").empty());
  run_ok({"visualize", "--sae", path("sae"), "--activations", path("acts"), "--output", path("viz"),
          "--top", "1"});

  // What takes a next token is refused, saying what there is instead.
  refuses({"eval", "--sae", path("sae"), "--activations", path("acts"), "--model", path("bert"),
           "--dataset", path("text.txt")},
          "without --model the autoencoder is evaluated on its activations");
  refuses({"steer", "--sae", path("sae"), "--model", path("bert"), "--prompt", "the sea",
           "--feature", "1", "--strength", "2"},
          "does not generate");
  refuses({"generate", "--model", path("bert"), "--prompt", "the sea"}, "does not generate");
}

TEST_F(Encoder, GivesTheLogitsOfItsMaskedLanguageModel) {
  run_ok({"logits", "--model", path("bert"), "--tokens", "2 5 4 3", "--output", path("l.npy")});
  EXPECT_EQ(read_npy(folder_ / "l.npy").shape(), (std::vector<std::int64_t>{4, 41}));
  const Json info = parse_json(run_ok({"info", path("bert"), "--json"}).out, "info");
  EXPECT_EQ(info.at("architecture"), "bert");
  EXPECT_EQ(info.at("hook_names").at("mlp_out").at("module"), "bert.encoder.layer[0].output.dense");
}

TEST_F(Encoder, SaysWhatABaseModelLacks) {
  const std::string bare = (fs::path(DRRIK_TEST_DATA) / "encoders" / "bert-bare").string();
  const Result logits =
      run({"logits", "--model", bare, "--tokens", "1 2", "--output", path("logits.npy")});
  EXPECT_EQ(logits.exit_code, 3);
  for (const char* part :
       {"cls.predictions.transform.dense.weight", "absent from", "wanted [15, 15]",
        "tensors there have no such output head", "saved with the head"}) {
    EXPECT_NE(logits.err.find(part), std::string::npos) << logits.err;
  }
  run_ok({"hooks", "--model", bare, "--tokens", "1 2", "--hook", "attn_z", "--layer", "1",
          "--output", path("hooks.npy")});
}

TEST_F(Encoder, RunsThePipelineWithoutWhatNeedsANextToken) {
  write("run.yaml", "extractor:\n  model: {model_name: '" + path("bert") +
                        "'}\n  dataset: {dataset_name: '" + path("text.txt") +
                        "'}\n  extraction: {hook: 'encoder.layer.1', positions: all}\n"
                        "autoencoder: {hidden_dim: 32}\n"
                        "training: {steps: 30, batch_size: 64, learning_rate: 0.01}\n"
                        "visualization: {top_features: 1}\noutput_dir: '" +
                        path("out") + "'\n");
  const Result result = run_ok({"run", path("run.yaml")});
  EXPECT_NE(result.err.find("steering left out: an encoder does not generate"), std::string::npos)
      << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "out/report.html"));
  EXPECT_NE(read_file(folder_ / "out/config.yaml").find("hook: resid_post"), std::string::npos);
}

}  // namespace
}  // namespace drrik::cli_test
