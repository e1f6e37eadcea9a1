#include "drrik/activations/extractor.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <iterator>
#include <limits>

#include "activations/fixture.h"
#include "drrik/activations/row_source.h"
#include "drrik/base/interrupt.h"
#include "drrik/io/safetensors.h"

namespace drrik {
namespace {

using test::folder_bytes;
using test::LogCapture;
using test::Scratch;
using test::text_of;
using test::texts_of;

// Sums of some 50 products in float32 err by about √50 · 2^-24 of the norm; three blocks multiply
// that by a few. Packing changes the shape of the products, so bits may differ.
constexpr double kTolerance = 1e-5;

double relative_error(std::span<const float> got, std::span<const float> want) {
  double difference = 0.0;
  double norm = 0.0;
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += d * d;
    norm += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  const double error = std::sqrt(difference / norm);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

struct Subject {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
};

Subject tiny(bool bos = false) {
  const ModelConfig config = test::tiny_config();
  return {std::make_shared<const Model>(make_random_model(config, 3)),
          std::make_shared<const Tokenizer>(
              Tokenizer::from_json(test::tokenizer_json(config.vocab_size, bos)))};
}

ExtractorOptions options_for(std::vector<std::int64_t> layers, Positions positions,
                             HookPoint hook = HookPoint::kMlpOut) {
  ExtractorOptions options;
  options.extraction.mlp_layers = std::move(layers);
  options.extraction.positions = positions;
  options.extraction.hook = hook;
  options.extraction.max_batch_tokens = 50;
  return options;
}

ActivationExtractor extractor_for(const Subject& subject, const ExtractorOptions& options,
                                  std::vector<std::string> texts) {
  ActivationExtractor extractor(options);
  extractor.use_model(subject.model, subject.tokenizer);
  extractor.use_texts(std::move(texts));
  return extractor;
}

// One text's hook activations [tokens, dim], computed alone.
std::vector<std::vector<float>> alone(const Model& model, const std::vector<std::int32_t>& ids,
                                      const Hook& hook) {
  TokenBatch batch;
  batch.append(ids);
  std::vector<std::vector<float>> rows;
  ForwardOptions forward;
  forward.hooks = {hook};
  forward.on_hook = [&](const Hook&, MatView<float> activations) {
    for (std::int64_t r = 0; r < activations.rows(); ++r) {
      const auto row = activations.row(r);
      rows.emplace_back(row.begin(), row.end());
    }
  };
  model.forward(batch, forward);
  return rows;
}

std::vector<std::vector<float>> kept(const std::vector<std::vector<float>>& rows,
                                     Positions positions) {
  if (positions == Positions::kAll) return rows;
  if (positions == Positions::kFirst) return {rows.front()};
  if (positions == Positions::kLast) return {rows.back()};
  std::vector<float> mean(rows[0].size());
  for (std::size_t c = 0; c < mean.size(); ++c) {
    double sum = 0.0;
    for (const auto& row : rows) sum += static_cast<double>(row[c]);
    mean[c] = static_cast<float>(sum / static_cast<double>(rows.size()));
  }
  return {mean};
}

// Every position and several layers, in the order asked for, against one text at a time.
TEST(ActivationExtractor, GivesEachTextsRowsWhateverItsBatch) {
  const Subject subject = tiny();
  const auto ids = test::random_ids(9, 30, 40, 11);
  const std::vector<std::int64_t> layers = {2, 0};
  for (const HookPoint hook : {HookPoint::kMlpOut, HookPoint::kMlpPost, HookPoint::kResidPre}) {
    std::map<std::pair<std::size_t, std::int64_t>, std::vector<std::vector<float>>> wanted;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      for (const std::int64_t l : layers) wanted[{i, l}] = alone(*subject.model, ids[i], {hook, l});
    }
    for (const auto positions :
         {Positions::kLast, Positions::kAll, Positions::kFirst, Positions::kMean}) {
      auto extractor = extractor_for(subject, options_for(layers, positions, hook), texts_of(ids));
      const Activations got = extractor.extract();
      const std::int64_t dim = subject.model->hook_width(hook);
      const auto rows = got.activations.mat<float>();
      ASSERT_EQ(rows.cols(), 2 * dim);
      ASSERT_EQ(got.metadata.samples.size(), ids.size());
      std::int64_t row = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const SampleRecord& sample = got.metadata.samples[i];
        EXPECT_EQ(sample.index, static_cast<std::int64_t>(i));
        EXPECT_EQ(sample.row, row);
        EXPECT_EQ(sample.input_ids, ids[i]);
        for (std::size_t l = 0; l < layers.size(); ++l) {
          const auto want = kept(wanted[{i, layers[l]}], positions);
          ASSERT_EQ(sample.rows, static_cast<std::int64_t>(want.size()));
          for (std::size_t r = 0; r < want.size(); ++r) {
            const auto part = rows.cols_range(static_cast<std::int64_t>(l) * dim, dim)
                                  .row(row + static_cast<std::int64_t>(r));
            EXPECT_LE(relative_error(part, want[r]), kTolerance) << i << " " << l << " " << r;
          }
        }
        row += sample.rows;
      }
      EXPECT_EQ(row, rows.rows());
      EXPECT_EQ(got.metadata.num_rows, rows.rows());
    }
  }
}

// The negative control of the comparison above.
TEST(ActivationExtractor, ComparisonSeesWrongRows) {
  const std::vector<float> want = {1.0F, -2.0F, 3.0F};
  EXPECT_LE(relative_error(want, want), kTolerance);
  for (const std::vector<float>& wrong : {std::vector<float>{1.0F, -2.0F, 3.001F},
                                          {-1.0F, 2.0F, -3.0F},
                                          {1.0F, -2.0F},
                                          {1.0F, -2.0F, std::nanf("")}}) {
    EXPECT_GT(relative_error(wrong, want), kTolerance);
  }
}

TEST(ActivationExtractor, AgreesWithTransformers) {
  for (const std::string name : {"llama-plain", "gpt2-plain", "neox-parallel"}) {
    const auto folder = std::filesystem::path(DRRIK_TEST_DATA) / "model" / name;
    ASSERT_TRUE(std::filesystem::exists(folder / "reference.safetensors")) << folder;
    const Scratch scratch;
    std::filesystem::copy(folder, scratch / "model");
    const std::int64_t vocab = read_model_config(scratch / "model").vocab_size;
    write_file_atomic(scratch / "model" / "tokenizer.json", test::tokenizer_json(vocab));
    // GPT-2's own class would split the texts its own way.
    write_file_atomic(scratch / "model" / "tokenizer_config.json",
                      R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
    const auto reference = SafetensorsFile::open(folder / "reference.safetensors");
    const Tensor all_ids = reference.get("ids");
    const Tensor boundaries = reference.get("boundaries");
    std::vector<std::vector<std::int32_t>> ids;
    const auto b = boundaries.data<std::int64_t>();
    for (std::size_t s = 0; s + 1 < b.size(); ++s) {
      const auto all = all_ids.data<std::int32_t>();
      ids.emplace_back(all.begin() + b[s], all.begin() + b[s + 1]);
    }
    for (const auto positions : {Positions::kLast, Positions::kAll, Positions::kFirst}) {
      ExtractorOptions options = options_for({0, 1}, positions);
      options.model.model_name = (scratch / "model").string();
      ActivationExtractor extractor(options);
      extractor.use_texts(texts_of(ids));
      const Activations got = extractor.extract();
      const auto rows = got.activations.mat<float>();
      for (std::int64_t l = 0; l < 2; ++l) {
        const Tensor want = reference.get(str(l, ".mlp_out"));
        const std::int64_t dim = want.dim(1);
        for (std::int64_t r = 0; r < rows.rows(); ++r) {
          const auto origin = got.metadata.origin(r);
          EXPECT_LE(
              relative_error(rows.cols_range(l * dim, dim).row(r),
                             want.mat<float>().row(b[static_cast<std::size_t>(origin.sample)] +
                                                   origin.position)),
              kTolerance)
              << name << " row " << r;
        }
      }
    }
  }
}

TEST(ActivationExtractor, TakesTheFirstSamplesAndCutsLongOnes) {
  const Subject subject = tiny();
  const auto ids = test::random_ids(9, 40, 40, 4);
  ExtractorOptions options = options_for({0}, Positions::kAll);
  options.dataset.max_length = 7;
  auto extractor = extractor_for(subject, options, texts_of(ids));
  const Activations got = extractor.extract(5);
  ASSERT_EQ(got.metadata.num_samples, 5);
  for (std::size_t i = 0; i < 5; ++i) {
    const auto want = std::min<std::size_t>(7, ids[i].size());
    EXPECT_EQ(got.metadata.samples[i].rows, static_cast<std::int64_t>(want));
  }
  EXPECT_EQ(got.metadata.config.dataset.num_samples, 5);
  // A second call starts over, and more than there is means all.
  EXPECT_EQ(extractor.extract(500).metadata.num_samples, 9);
  // No text is longer than the model's positions either.
  const std::vector<std::int32_t> endless(200, 3);
  auto other = extractor_for(subject, options_for({0}, Positions::kAll), {text_of(endless)});
  EXPECT_EQ(other.extract().metadata.num_rows, subject.model->config().max_positions);
}

TEST(ActivationExtractor, RecordsTextsByCharacters) {
  const Subject subject = tiny(/*bos=*/true);
  const std::vector<std::int32_t> ids(300, 5);
  ExtractorOptions options = options_for({0}, Positions::kFirst);
  auto extractor = extractor_for(subject, options, {text_of(ids), text_of({{7}})});
  const Activations got = extractor.extract();
  EXPECT_EQ(got.metadata.samples[0].text, text_of(std::span(ids).first(200)));
  EXPECT_EQ(got.metadata.samples[1].text, test::character(7));
  EXPECT_EQ(got.metadata.samples[1].input_ids, (std::vector<std::int32_t>{1, 7}));
  options.dataset.bos = BosRule::kNever;
  auto bare = extractor_for(subject, options, {text_of({{7}})});
  const Activations without = bare.extract();
  EXPECT_EQ(without.metadata.samples[0].input_ids, std::vector<std::int32_t>{7});
  EXPECT_EQ(without.metadata.config.dataset.bos, BosRule::kNever);
  options.dataset.bos = BosRule::kAsTokenizer;
  options.dataset.add_special_tokens = false;
  auto plain = extractor_for(subject, options, {text_of({{7}})});
  EXPECT_EQ(plain.extract().metadata.samples[0].input_ids, std::vector<std::int32_t>{7});
}

TEST(ActivationExtractor, ReadsEmptyTextsAsTheirBos) {
  const Subject subject = tiny(/*bos=*/true);
  auto extractor =
      extractor_for(subject, options_for({1}, Positions::kLast), {"", text_of({{3, 4}})});
  const Activations got = extractor.extract();
  ASSERT_EQ(got.metadata.num_samples, 2);
  EXPECT_EQ(got.metadata.samples[0].input_ids.size(), 1U);
  EXPECT_EQ(got.metadata.skipped, 0);
}

TEST(ActivationExtractor, SkipsTextsWithoutTokensAndKeepsIndices) {
  const Subject subject = tiny();
  auto extractor = extractor_for(subject, options_for({1}, Positions::kLast),
                                 {"", text_of({{3, 4}}), "", text_of({{5}}), ""});
  const LogCapture log;
  const Activations got = extractor.extract();
  ASSERT_EQ(got.metadata.num_samples, 2);
  EXPECT_EQ(got.metadata.skipped, 3);
  EXPECT_EQ(got.metadata.samples[0].index, 1);
  EXPECT_EQ(got.metadata.samples[1].index, 3);
  EXPECT_TRUE(log.has("sample 0 has no tokens"));
  EXPECT_TRUE(log.has("3 of 5 samples"));
  auto none = extractor_for(subject, options_for({1}, Positions::kLast), {"", ""});
  EXPECT_ERROR(none.extract(), kData, "none of the dataset's 2 samples");
  auto empty = extractor_for(subject, options_for({1}, Positions::kLast), {});
  EXPECT_ERROR(empty.extract(), kData, "no texts");
}

// A model folder with its tokenizer, and a dataset beside it.
struct Files {
  Scratch scratch;
  ExtractorOptions options = options_for({0}, Positions::kLast);
  Files() {
    std::filesystem::copy(std::filesystem::path(DRRIK_TEST_DATA) / "model" / "llama-plain",
                          scratch / "model");
    write_file_atomic(scratch / "model" / "tokenizer.json", test::tokenizer_json(67));
    std::string lines;
    for (std::int32_t i = 0; i < 20; ++i) {
      lines +=
          str("{\"title\":\"x\",\"story\":\"", text_of({{2, 3, static_cast<int>(4 + i)}}), "\"}\n");
    }
    write_file_atomic(scratch / "data.jsonl", lines);
    options.model.model_name = (scratch / "model").string();
    options.dataset.dataset_name = (scratch / "data.jsonl").string();
    options.dataset.text_column = "story";
  }
};

TEST(ActivationExtractor, RunsFromFiles) {
  Files files;
  ActivationExtractor extractor(files.options);
  EXPECT_EQ(&extractor.load_model(), &extractor.load_model());
  EXPECT_EQ(&extractor.load_dataset(), &extractor.load_dataset());
  const Activations got = extractor.extract();
  EXPECT_EQ(got.metadata.num_samples, 20);
  EXPECT_EQ(got.metadata.layer_paths, std::vector<std::string>{"model.layers[0].mlp"});
  EXPECT_ERROR(extractor.save_activations(got), kUsage, "output_dir");
  extractor.save_activations(got, files.scratch / "saved");
  const Activations back = load_activations(files.scratch / "saved");
  EXPECT_EQ(relative_error(back.activations.data<float>(), got.activations.data<float>()), 0.0);
  // Streaming to disk gives what collecting and saving gives.
  EXPECT_ERROR(extractor.extract_to(), kUsage, "output_dir");
  extractor.extract_to(files.scratch / "streamed");
  const Activations streamed = load_activations(files.scratch / "streamed");
  EXPECT_EQ(relative_error(streamed.activations.data<float>(), got.activations.data<float>()), 0.0);
  EXPECT_EQ(streamed.metadata.samples.size(), got.metadata.samples.size());
  EXPECT_EQ(streamed.metadata.samples[19].input_ids, got.metadata.samples[19].input_ids);
}

// The rows that drrik data prints for the same settings.
TEST(ActivationExtractor, ShufflesAndSkips) {
  Files files;
  files.options.dataset.skip = 5;
  files.options.dataset.shuffle_seed = 3;
  DatasetOptions dataset;
  dataset.path = files.options.dataset.dataset_name;
  dataset.text_column = "story";
  dataset.shuffle_seed = 3;
  dataset.skip = 5;
  std::vector<std::string> wanted;
  for (const auto source = open_dataset(dataset); auto sample = source->next();) {
    wanted.push_back(sample->text);
  }
  ActivationExtractor extractor(files.options);
  std::vector<std::string> got;
  const Activations made = extractor.extract();
  for (const SampleRecord& sample : made.metadata.samples) got.push_back(sample.text);
  EXPECT_EQ(got, wanted);
  EXPECT_EQ(got.size(), 15U);
  EXPECT_FALSE(std::ranges::is_sorted(got));
  extractor.extract_to(files.scratch / "kept");
  const auto& kept = load_activation_metadata(files.scratch / "kept").config.dataset;
  EXPECT_EQ(kept.skip, 5);
  EXPECT_EQ(kept.shuffle_seed, 3);
  files.options.dataset.skip = -1;
  EXPECT_ERROR(ActivationExtractor{files.options}, kUsage, "skip -1");
}

TEST(ActivationExtractor, TellsWhatIsWrongBeforeTouchingAnything) {
  Files files;
  const auto run = [&](const std::function<void(ExtractorOptions&)>& change) {
    ExtractorOptions options = files.options;
    change(options);
    ActivationExtractor extractor(options);
    extractor.extract_to(files.scratch / "out");
  };
  EXPECT_ERROR(run([](auto& o) {
                 o.extraction.mlp_layers = {1, 2};
               }),
               kUsage, "layer 2 does not exist");
  EXPECT_ERROR(run([](auto& o) { o.model.model_name = "no/such/model"; }), kIo, "no/such/model");
  EXPECT_ERROR(run([](auto& o) { o.model.model_name = ""; }), kUsage, "model_name");
  EXPECT_ERROR(run([](auto& o) { o.dataset.dataset_name = ""; }), kUsage, "dataset_name");
  EXPECT_ERROR(run([](auto& o) { o.dataset.text_column = "body"; }), kData, "body");
  write_file_atomic(files.scratch / "empty.jsonl", "");
  EXPECT_ERROR(
      run([&](auto& o) { o.dataset.dataset_name = (files.scratch / "empty.jsonl").string(); }),
      kData, "");
  EXPECT_ERROR(run([](auto& o) { o.dataset.dataset_name = "absent.jsonl"; }), kIo, "absent.jsonl");
  std::filesystem::remove(files.scratch / "model" / "tokenizer.json");
  EXPECT_ERROR(run([](auto&) {}), kIo, "tokenizer.json");
  EXPECT_FALSE(std::filesystem::exists(files.scratch / "out"));
}

TEST(ActivationExtractor, NamesTheSampleOfANan) {
  Files files;
  const auto path = files.scratch / "model" / "model.safetensors";
  std::string bytes = read_file(path);
  {
    // Token 10's embedding becomes NaN, so the sample that uses it does too.
    const auto file = SafetensorsFile::open(path);
    const auto* entry = file.find_entry("model.embed_tokens.weight");
    ASSERT_NE(entry, nullptr);
    const std::size_t row = entry->bytes / 67;
    const float nan = std::nanf("");
    bytes.replace(entry->offset + 10 * row, 4, reinterpret_cast<const char*>(&nan), 4);
  }
  write_file_atomic(path, bytes);
  files.options.extraction.max_batch_tokens = 9;
  for (const auto positions : {Positions::kLast, Positions::kAll, Positions::kMean}) {
    files.options.extraction.positions = positions;
    ActivationExtractor extractor(files.options);
    EXPECT_ERROR(extractor.extract(), kNumeric, "model.layers[0].mlp is NaN for sample 6");
  }
  // What came before stays, as a store that says it is not whole.
  ActivationExtractor extractor(files.options);
  EXPECT_ERROR(extractor.extract_to(files.scratch / "out"), kNumeric, "sample 6");
  const ActivationMetadata metadata = load_activation_metadata(files.scratch / "out");
  EXPECT_FALSE(metadata.complete);
  EXPECT_EQ(metadata.num_samples, 6);
}

class Uninterrupted {
 public:
  ~Uninterrupted() { set_interrupted(false); }
};

// Ctrl-C after any batch, then --resume: the bytes of a run that nobody disturbed.
class Resuming : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Packed, Resuming, testing::Bool());

TEST_P(Resuming, GivesTheSameBytes) {
  const Uninterrupted guard;
  Files files;
  files.options.dataset.pack = GetParam();
  files.options.dataset.max_length = 17;
  std::string lines;
  for (const auto& ids : test::random_ids(60, 20, 67, 8)) {
    lines += str("{\"story\":\"", ids.size() % 5 == 0 ? "" : text_of(ids), "\"}\n");
  }
  write_file_atomic(files.scratch / "data.jsonl", lines);
  files.options.extraction.positions = Positions::kAll;
  files.options.extraction.shard_bytes = 5'000;
  files.options.extraction.store_dtype = DType::kBF16;
  files.options.dataset.num_samples = 55;
  ActivationExtractor whole(files.options);
  std::int64_t batches = 0;
  whole.set_batch_callback([&](std::int64_t) { ++batches; });
  const ActivationMetadata done = whole.extract_to(files.scratch / "whole");
  EXPECT_TRUE(done.complete);
  EXPECT_GT(done.skipped, 0);
  if (!GetParam()) {
    EXPECT_EQ(done.num_samples + done.skipped, 55);
  }
  const auto want = folder_bytes(files.scratch / "whole");
  ASSERT_GT(want.size(), 3U);
  ASSERT_GT(batches, 8);
  for (std::int64_t stop = 1; stop < batches; stop += 3) {
    const auto folder = files.scratch / str("stopped-", stop);
    ActivationExtractor extractor(files.options);
    std::int64_t seen = 0;
    extractor.set_batch_callback([&](std::int64_t) {
      if (++seen == stop) set_interrupted(true);
    });
    EXPECT_ERROR(extractor.extract_to(folder), kInterrupted, "extracting");
    EXPECT_EQ(seen, stop);
    set_interrupted(false);
    const ActivationMetadata between = load_activation_metadata(folder);
    EXPECT_FALSE(between.complete);
    EXPECT_GT(between.num_rows, 0);
    EXPECT_EQ(open_row_source(folder)->rows(), between.num_rows);
    ActivationExtractor again(files.options);
    again.extract_to(folder, /*resume=*/true);
    EXPECT_EQ(folder_bytes(folder), want) << "stopped after " << stop << " batches";
    // Once it is whole there is nothing to resume, and nothing is touched.
    ActivationExtractor third(files.options);
    third.set_batch_callback([&](std::int64_t) { ADD_FAILURE() << "worked again"; });
    EXPECT_EQ(third.extract_to(folder, /*resume=*/true).num_rows, done.num_rows);
  }
}

// Every token of every text, in order, in contexts of one length but for the last.
TEST(ActivationExtractor, PacksTextsIntoContexts) {
  Files files;
  const auto ids = test::random_ids(30, 40, 67, 4);
  std::string lines;
  for (const auto& text : ids) lines += str("{\"story\":\"", text_of(text), "\"}\n");
  write_file_atomic(files.scratch / "data.jsonl", lines);
  files.options.extraction.positions = Positions::kAll;
  files.options.dataset.pack = true;
  files.options.dataset.max_length = 13;
  for (const bool bos : {false, true}) {
    if (bos) {  // as GPT-2 has it: a BOS that the template does not add
      write_file_atomic(files.scratch / "model" / "tokenizer_config.json",
                        str("{\"bos_token\":\"", test::character(1), "\"}"));
    }
    std::vector<std::int32_t> stream;
    std::vector<std::int64_t> owner;  // the text that each token is of
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (bos) stream.push_back(1);
      stream.insert(stream.end(), ids[i].begin(), ids[i].end());
      owner.resize(stream.size(), static_cast<std::int64_t>(i));
    }
    ActivationExtractor extractor(files.options);
    const Activations got = extractor.extract();
    std::vector<std::int32_t> packed;
    for (const SampleRecord& sample : got.metadata.samples) {
      EXPECT_EQ(sample.index, owner[packed.size()]);
      if (&sample != &got.metadata.samples.back()) {
        EXPECT_EQ(sample.input_ids.size(), 13U);
      }
      EXPECT_EQ(sample.rows, static_cast<std::int64_t>(sample.input_ids.size()));
      packed.insert(packed.end(), sample.input_ids.begin(), sample.input_ids.end());
    }
    EXPECT_EQ(packed, stream);
    EXPECT_EQ(got.metadata.num_rows, static_cast<std::int64_t>(stream.size()));
  }
}

// A signal from outside, twice at once as timeout(1) sends it: what was done stays valid.
TEST(ActivationExtractor, ResumesAfterARealSignal) {
  const Uninterrupted guard;
  constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ};
  struct sigaction before[std::size(kSignals)];
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], nullptr, &before[i]);
  install_interrupt_handler();
  Files files;
  std::string lines;
  for (const auto& ids : test::random_ids(60, 20, 67, 9)) {
    lines += str("{\"story\":\"", text_of(ids), "\"}\n");
  }
  write_file_atomic(files.scratch / "data.jsonl", lines);
  files.options.extraction.positions = Positions::kAll;
  files.options.extraction.shard_bytes = 5'000;
  ActivationExtractor whole(files.options);
  whole.extract_to(files.scratch / "whole");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const auto folder = files.scratch / str("signal-", signal);
    ActivationExtractor extractor(files.options);
    std::int64_t seen = 0;
    extractor.set_batch_callback([&](std::int64_t) {
      if (++seen != 3) return;
      kill(getpid(), signal);
      kill(getpid(), signal);
      // Another thread may take it.
      for (int i = 0; i < 1000 && !interrupted(); ++i) usleep(1000);
    });
    EXPECT_ERROR(extractor.extract_to(folder), kInterrupted, "extracting");
    EXPECT_EQ(seen, 3);
    set_interrupted(false);
    EXPECT_FALSE(load_activation_metadata(folder).complete);
    ActivationExtractor again(files.options);
    again.extract_to(folder, /*resume=*/true);
    EXPECT_EQ(folder_bytes(folder), folder_bytes(files.scratch / "whole"));
  }
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

// Fewer texts a batch than the tokens allow: other batches, the same rows.
TEST(ActivationExtractor, BatchSizeBoundsTheTextsOfABatch) {
  const Subject subject = tiny();
  const auto texts = texts_of(test::random_ids(10, 6, 40, 2));
  ExtractorOptions options = options_for({1}, Positions::kLast);
  options.extraction.batch_size = 3;
  auto small = extractor_for(subject, options, texts);
  std::vector<std::int64_t> done;
  small.set_batch_callback([&](std::int64_t samples) { done.push_back(samples); });
  const Activations got = small.extract();
  EXPECT_EQ(done, (std::vector<std::int64_t>{3, 6, 9, 10}));
  options.extraction.batch_size = 0;
  options.extraction.max_batch_tokens = 1;  // A text longer than the budget goes alone.
  auto single = extractor_for(subject, options, texts);
  done.clear();
  single.set_batch_callback([&](std::int64_t samples) { done.push_back(samples); });
  const Activations one = single.extract();
  EXPECT_EQ(done.size(), 10U);
  EXPECT_LE(relative_error(one.activations.data<float>(), got.activations.data<float>()),
            kTolerance);
}

}  // namespace
}  // namespace drrik
