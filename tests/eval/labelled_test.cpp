// Labelled texts, their pooling and the probes on them, with the demo model.

#include "drrik/eval/labelled.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "drrik/base/error.h"
#include "drrik/eval/ablation_probes.h"
#include "drrik/eval/absorption.h"
#include "drrik/eval/logistic.h"
#include "drrik/eval/sparse_probing.h"
#include "eval/fake_sae.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

class LabelledFile {
 public:
  LabelledFile(const std::string& name, const std::string& text)
      : path_(fs::temp_directory_path() / ("drrik_labelled_" + std::to_string(::getpid()) + name)) {
    std::ofstream(path_) << text;
  }
  ~LabelledFile() { fs::remove(path_); }
  DatasetOptions options() const {
    DatasetOptions out;
    out.path = path_.string();
    return out;
  }

 private:
  fs::path path_;
};

TEST(Labelled, ReadsTextsWithWhateverLabels) {
  const LabelledFile file(
      ".jsonl",
      "{\"text\": \"one\", \"stars\": 5, \"good\": true, \"who\": \"ann\"}\n"
      "{\"text\": null, \"stars\": 1, \"good\": false, \"who\": \"bob\"}\n"
      "{\"text\": \"three\", \"stars\": null, \"good\": true, \"who\": \"cy\"}\n"
      "{\"text\": \"four\", \"stars\": 2.5, \"good\": false, \"who\": \"di\"}\n");
  const LabelledTexts data = read_labelled(file.options(), {"stars", "good", "who"});
  EXPECT_EQ(data.texts, (std::vector<std::string>{"one", "four"}));
  EXPECT_EQ(data.labels[0], (std::vector<std::string>{"5", "2.5"}));
  EXPECT_EQ(data.labels[1], (std::vector<std::string>{"true", "false"}));
  EXPECT_EQ(data.labels[2], (std::vector<std::string>{"ann", "di"}));
  EXPECT_EQ(read_labelled(file.options(), {"who"}, 1).texts.size(), 1U);
  EXPECT_THROW(read_labelled(file.options(), {"none"}), Error);
  EXPECT_THROW(read_labelled(file.options(), {}), Error);
}

TEST(Labelled, ReadsCsv) {
  const LabelledFile file(".csv", "text,label\n\"a, b\",x\nc,\nd,y\n");
  const LabelledTexts data = read_labelled(file.options(), {"label"});
  EXPECT_EQ(data.texts, (std::vector<std::string>{"a, b", "d"}));
  EXPECT_EQ(data.labels[0], (std::vector<std::string>{"x", "y"}));
}

TEST(Labelled, SplitsClassesWithoutOverlap) {
  std::vector<std::string> labels;
  for (int i = 0; i < 300; ++i) labels.push_back(i % 3 == 0 ? "rare" : i % 3 == 1 ? "b" : "a");
  for (int i = 0; i < 60; ++i) labels.push_back("b");
  labels.push_back("once");
  Rng rng(1);
  const ClassSplit split = split_classes(labels, {.train_size = 120, .test_size = 20}, rng);
  EXPECT_EQ(split.names, (std::vector<std::string>{"b", "a", "rare"}));
  EXPECT_EQ(split.classes_left_out, 1);
  std::set<std::int64_t> seen;
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_EQ(split.train[c].size(), 60U);
    EXPECT_EQ(split.test[c].size(), 10U);
    for (const auto* share : {&split.train[c], &split.test[c]}) {
      for (const std::int64_t text : *share) {
        EXPECT_TRUE(seen.insert(text).second);
        EXPECT_EQ(labels[static_cast<std::size_t>(text)], split.names[c]);
      }
    }
  }
  // Few texts: a fifth of them test.
  Rng again(1);
  EXPECT_EQ(split_classes(labels, {}, again).test[0].size(), 32U);
  try {
    split_classes({"x", "x", "y"}, {}, rng);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'x' 2, 'y' 1"), std::string::npos) << error.what();
  }
}

TEST(Labelled, OneVersusRestIsBalanced) {
  const std::vector<std::vector<std::int64_t>> by_class = {{0, 1, 2, 3, 4}, {10, 11, 12, 13}, {20}};
  Rng rng(1);
  const BinaryTask task = one_versus_rest(by_class, 0, rng);
  // Three from each other class, of which the last has one; no more than the positives.
  EXPECT_EQ(task.samples.size(), 5U + 4U);
  EXPECT_EQ(std::ranges::count(task.labels, std::uint8_t{1}), 5);
  EXPECT_EQ(std::ranges::count_if(task.samples, [](std::int64_t s) { return s >= 20; }), 1);
  const BinaryTask small = one_versus_rest(by_class, 2, rng);
  EXPECT_EQ(small.samples.size(), 2U);
}

struct Demo {
  Model model = Model::load(fs::path(DRRIK_ASSETS_DIR) / "demo/model");
  Tokenizer tokenizer = Tokenizer::from_folder(fs::path(DRRIK_ASSETS_DIR) / "demo/model");
  FakeSae sae = identity_sae(model.hook_width(HookPoint::kResidPost));
  ProbeModel probe{model, tokenizer, sae, {HookPoint::kResidPost, 1}};
};

TEST(Labelled, PoolsTokensThatAreNotSpecial) {
  const Demo demo;
  const std::vector<std::string> texts = {"The sea was calm.", "", "He laughed, and went on."};
  const PooledTexts pooled = pool_texts(demo.probe, texts, std::vector<std::int64_t>{2, 0, 1});
  ASSERT_EQ(pooled.activations.dim(0), 2);
  EXPECT_EQ(pooled.row_of[1], -1);
  for (const std::size_t text : {0, 2}) {
    TokenBatch batch;
    batch.append(demo.tokenizer.encode(texts[text]));
    Tensor rows = Tensor::zeros<float>({batch.rows(), demo.sae.d_in()});
    demo.model.forward(
        batch, {.hooks = {demo.probe.hook}, .on_hook = [&](const Hook&, MatView<float> seen) {
                  std::ranges::copy(std::span(seen.data(), rows.data<float>().size()),
                                    rows.mutable_data<float>().begin());
                }});
    std::vector<double> mean(static_cast<std::size_t>(demo.sae.d_in()));
    std::vector<double> positive(mean.size());
    double counted = 0;
    for (std::int64_t t = 0; t < batch.rows(); ++t) {
      if (demo.tokenizer.is_special(batch.ids[static_cast<std::size_t>(t)])) continue;
      ++counted;
      for (std::size_t c = 0; c < mean.size(); ++c) {
        const auto value = static_cast<double>(rows.mat<float>()(t, static_cast<std::int64_t>(c)));
        mean[c] += value;
        positive[c] += std::max(value, 0.0);
      }
    }
    const std::int64_t row = pooled.row_of[text];
    const ProbeRows latents(pooled.latents, demo.sae.d_sae());
    std::vector<double> pooled_latents(static_cast<std::size_t>(demo.sae.d_sae()));
    latents.add(row, 1.0, pooled_latents);
    for (std::size_t c = 0; c < mean.size(); ++c) {
      // Another number of rows in the batch: other kernels, and so other last bits.
      EXPECT_NEAR(pooled.activations.mat<float>()(row, static_cast<std::int64_t>(c)),
                  mean[c] / counted, 1e-4);
      EXPECT_NEAR(pooled_latents[2 * c], positive[c] / counted, 1e-4);  // identity_sae's pairs
    }
  }
}

// Texts about one of two things in one of two moods: labels that a word gives away.
struct Sentences {
  std::vector<std::string> texts;
  std::vector<std::string> thing;
  std::vector<std::string> mood;

  explicit Sentences(int n) {
    const char* begins[] = {"One day", "At last", "Then", "Some time after that", "In the end"};
    Rng rng(3);
    for (int i = 0; i < n; ++i) {
      const bool sea = rng.below(2) == 0;
      const bool glad = rng.below(2) == 0;
      texts.push_back(std::string(begins[rng.below(5)]) + " he saw the " + (sea ? "sea" : "house") +
                      " and was very " + (glad ? "happy" : "sad") + " for " +
                      std::to_string(rng.below(90)) + " days.");
      thing.push_back(sea ? "sea" : "house");
      mood.push_back(glad ? "happy" : "sad");
    }
  }
};

TEST(SparseProbing, FindsWhatAWordGivesAway) {
  const Demo demo;
  const Sentences data(200);
  const SparseProbingReport report = sparse_probing(demo.probe, data.texts, data.thing);
  EXPECT_EQ(report.classes.size(), 2U);
  EXPECT_EQ(report.train_texts + report.test_texts, 200);
  ASSERT_EQ(report.accuracies.size(), 4U);
  EXPECT_EQ(report.accuracies[1].k, 2);
  EXPECT_EQ(report.accuracies[1].chosen[0].size(), 2U);
  EXPECT_EQ(report.accuracies.back().k, 0);
  EXPECT_GT(report.accuracies[2].latents.value, 0.9);
  EXPECT_GT(report.accuracies.back().latents.value, 0.95);
  EXPECT_GT(report.accuracies.back().activations.value, 0.95);
  EXPECT_EQ(report.remarks.size(), 1U);  // 40 test texts
  // Labels that have nothing to do with the texts: one half, by an interval that holds it.
  std::vector<std::string> noise;
  Rng rng(9);
  for (int i = 0; i < 200; ++i) noise.push_back(rng.below(2) == 0 ? "x" : "y");
  const SparseProbingReport nothing = sparse_probing(demo.probe, data.texts, noise);
  EXPECT_LT(nothing.accuracies[2].latents.low, 0.55);
  EXPECT_THROW(sparse_probing(demo.probe, data.texts, data.thing, {.k = {0}}), Error);
}

TEST(Tpp, OwnProbeLosesMostWhenItsLatentsGo) {
  const Demo demo;
  const Sentences data(240);
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < data.texts.size(); ++i) {
    labels.push_back(data.thing[i] + (data.mood[i] == "sad" ? " sad" : ""));
  }
  const TppReport report =
      targeted_probe_perturbation(demo.probe, data.texts, labels, {.n = {5, 50}});
  EXPECT_EQ(report.classes.size(), 4U);
  ASSERT_EQ(report.rows.size(), 2U);
  EXPECT_GT(report.rows[1].intended.value, report.rows[1].unintended.value);
  EXPECT_NEAR(report.rows[1].score.value,
              report.rows[1].intended.value - report.rows[1].unintended.value, 1e-12);
}

TEST(Scr, RunsOnTwoAttributes) {
  const Demo demo;
  const Sentences data(400);
  const ScrReport report =
      spurious_correlation_removal(demo.probe, data.texts, data.thing, data.mood, {"thing", "", ""},
                                   {"mood", "happy", "sad"}, {.n = {2, 20}});
  EXPECT_EQ(report.spurious.positive, "happy");
  EXPECT_FALSE(report.target.positive.empty());
  EXPECT_GT(report.target_accuracy.value, 0.9);
  EXPECT_GT(report.spurious_accuracy.value, 0.9);
  EXPECT_GT(report.train_per_quadrant, 30);
  EXPECT_EQ(report.rows.size(), 2U);
  try {
    spurious_correlation_removal(demo.probe, data.texts, data.thing, data.thing, {"a", "", ""},
                                 {"b", "", ""});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("there are 0 and 0"), std::string::npos)
        << error.what();
  }
}

TEST(Absorption, AsksTheDemoModelForFirstLetters) {
  const Demo demo;
  const AbsorptionReport report =
      first_letter_absorption(demo.probe, {.max_words = 300, .examples = 2});
  EXPECT_EQ(report.words + report.words_left_out, 300);
  EXPECT_EQ(report.examples, 2);
  EXPECT_EQ(report.letters.size() + report.unscored.size(), 26U);
  // A model of a few million parameters: said to be too small.
  ASSERT_FALSE(report.remarks.empty());
  EXPECT_NE(report.remarks.back().find("2 billion"), std::string::npos);
}

TEST(Labelled, ProbesRefuseATranscoder) {
  class Wide : public FakeSae {
   public:
    explicit Wide(const FakeSae& like) : FakeSae(like) {}
    std::int64_t d_out() const override { return d_in() + 1; }
  };
  const Demo demo;
  const Wide wide(demo.sae);
  const ProbeModel probe{demo.model, demo.tokenizer, wide, demo.probe.hook};
  EXPECT_THROW(probe.check(), Error);
  const FakeSae narrow = identity_sae(3);
  EXPECT_THROW((ProbeModel{demo.model, demo.tokenizer, narrow, demo.probe.hook}.check()), Error);
}

}  // namespace
}  // namespace drrik
