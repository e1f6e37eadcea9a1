#include "drrik/activations/store.h"

#include <sys/resource.h>
#include <csignal>

#include "activations/fixture.h"
#include "activations/metadata.h"
#include "base/small_files.h"
#include "drrik/activations/extractor.h"
#include "drrik/activations/row_source.h"

namespace drrik {
namespace {

using test::folder_bytes;
using test::Scratch;
using Mode = ActivationWriter::Mode;

ActivationMetadata head_of(std::int64_t dim, std::int64_t shard_bytes, DType dtype = DType::kF32) {
  ActivationMetadata head;
  head.activation_dim = dim;
  head.layer_paths = {"model.layers[1].mlp"};
  head.dtype = dtype;
  head.config.extraction.mlp_layers = {1};
  head.config.extraction.store_dtype = dtype;
  head.config.extraction.shard_bytes = shard_bytes;
  return head;
}

constexpr std::int64_t kDim = 4;
constexpr std::int64_t kPerBatch = 3;

// Batch b: rows of value b; sample indices leave out every seventh dataset row.
void append_batch(ActivationWriter& writer, std::int64_t b) {
  std::vector<float> values(static_cast<std::size_t>(kPerBatch * kDim), static_cast<float>(b));
  std::vector<SampleRecord> samples(static_cast<std::size_t>(kPerBatch));
  for (std::int64_t i = 0; i < kPerBatch; ++i) {
    auto& sample = samples[static_cast<std::size_t>(i)];
    const std::int64_t n = b * kPerBatch + i;
    sample.index = n + n / 6;
    sample.rows = 1;
    sample.text = str("text ", n, " \"é\"");
    sample.input_ids = {1, static_cast<std::int32_t>(n)};
  }
  const std::int64_t next = samples.back().index + 1;
  writer.append({values.data(), kPerBatch, kDim}, std::move(samples), {next, next, next / 7});
}

void write_batches(const std::filesystem::path& folder, std::int64_t batches) {
  ActivationWriter writer(folder, head_of(kDim, 200), Mode::kReplace);
  for (std::int64_t b = 0; b < batches; ++b) append_batch(writer, b);
  writer.finish(writer.progress());
}

TEST(ActivationWriter, KeepsMetadataAndSamples) {
  const Scratch scratch;
  write_batches(scratch / "acts", 30);
  const ActivationMetadata metadata = load_activation_metadata(scratch / "acts");
  EXPECT_TRUE(metadata.complete);
  EXPECT_EQ(metadata.num_samples, 90);
  EXPECT_EQ(metadata.num_rows, 90);
  EXPECT_EQ(metadata.layer_paths, std::vector<std::string>{"model.layers[1].mlp"});
  ASSERT_EQ(metadata.samples.size(), 90U);
  EXPECT_EQ(metadata.samples[89].row, 89);
  EXPECT_EQ(metadata.samples[89].index, 89 + 89 / 6);
  EXPECT_EQ(metadata.samples[89].text, "text 89 \"é\"");
  EXPECT_EQ(metadata.samples[89].input_ids, (std::vector<std::int32_t>{1, 89}));
  EXPECT_TRUE(load_activation_metadata(scratch / "acts", WithSamples::kNo).samples.empty());
  // Everything is in metadata.json: no file of lines stays behind.
  for (const auto& [name, bytes] : folder_bytes(scratch / "acts")) {
    EXPECT_EQ(name.find("samples-"), std::string::npos) << name;
    EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
  }
}

TEST(ActivationWriter, KeepsVeryManySamplesBeside) {
  const Scratch scratch;
  ActivationWriter writer(scratch / "acts", head_of(1, std::int64_t{1} << 18), Mode::kReplace);
  constexpr std::int64_t kMany = 100'001;
  for (std::int64_t n = 0; n < kMany;) {
    std::vector<SampleRecord> samples;
    const std::int64_t count = std::min<std::int64_t>(kMany - n, 5000);
    for (std::int64_t i = 0; i < count; ++i) samples.push_back({n + i, 0, 1, "t", {7}});
    const std::vector<float> values(static_cast<std::size_t>(count), 1.0F);
    n += count;
    writer.append({values.data(), count, 1}, std::move(samples), {n, n, 0});
  }
  writer.finish(writer.progress());
  EXPECT_LT(std::filesystem::file_size(scratch / "acts" / "metadata.json"), 10000U);
  EXPECT_TRUE(std::filesystem::exists(scratch / "acts" / "samples-00001.jsonl"));
  const ActivationMetadata metadata = load_activation_metadata(scratch / "acts");
  ASSERT_EQ(metadata.samples.size(), static_cast<std::size_t>(kMany));
  EXPECT_EQ(metadata.samples.back().index, kMany - 1);
  EXPECT_EQ(metadata.samples.back().row, kMany - 1);
  const std::string lines = read_file(scratch / "acts" / "samples-00000.jsonl");
  write_file_atomic(scratch / "acts" / "samples-00000.jsonl",
                    std::string_view(lines).substr(0, lines.size() / 2));
  EXPECT_EQ(test::error_of([&] { load_activation_metadata(scratch / "acts"); }).first,
            ErrorKind::kData);
  EXPECT_EQ(open_row_source(scratch / "acts")->rows(), kMany);  // The arrays are whole.
}

// Stopped after any batch, closed properly (Ctrl-C) or not at all (kill -9), and resumed: the bytes
// of an extraction that ran through.
TEST(ActivationWriter, ResumesToTheSameBytes) {
  const Scratch scratch;
  constexpr std::int64_t kBatches = 11;
  write_batches(scratch / "whole", kBatches);
  const auto want = folder_bytes(scratch / "whole");
  ASSERT_GT(want.size(), 3U);
  for (const bool proper : {true, false}) {
    for (std::int64_t stop = 0; stop <= kBatches; ++stop) {
      const auto folder = scratch / str("stopped-", proper, "-", stop);
      {
        ActivationWriter writer(folder, head_of(kDim, 200), Mode::kReplace);
        for (std::int64_t b = 0; b < stop; ++b) append_batch(writer, b);
        if (proper) writer.suspend();
      }
      const ActivationMetadata between = load_activation_metadata(folder);
      EXPECT_FALSE(between.complete);
      if (proper) {
        EXPECT_EQ(between.num_samples, stop * kPerBatch);
      }
      EXPECT_EQ(between.samples.size(), static_cast<std::size_t>(between.num_samples));
      if (between.num_rows > 0) {
        EXPECT_EQ(open_row_source(folder)->rows(), between.num_rows);
      } else {
        EXPECT_ERROR(open_row_source(folder), kData, "no rows yet");
      }
      ActivationWriter writer(folder, head_of(kDim, 200), Mode::kResume);
      EXPECT_FALSE(writer.already_complete());
      const std::int64_t done = between.num_samples / kPerBatch;
      EXPECT_EQ(writer.progress().next_index, done == 0 ? 0 : between.samples.back().index + 1);
      for (std::int64_t b = done; b < kBatches; ++b) append_batch(writer, b);
      writer.finish(writer.progress());
      EXPECT_EQ(folder_bytes(folder), want) << "stopped after " << stop << " batches";
    }
  }
}

TEST(ActivationWriter, ResumesAFinishedStoreWithoutWork) {
  const Scratch scratch;
  write_batches(scratch / "acts", 5);
  const auto before = folder_bytes(scratch / "acts");
  ActivationWriter writer(scratch / "acts", head_of(kDim, 200), Mode::kResume);
  EXPECT_TRUE(writer.already_complete());
  EXPECT_EQ(writer.finish({}).num_samples, 15);
  EXPECT_EQ(folder_bytes(scratch / "acts"), before);
}

TEST(ActivationWriter, RefusesToResumeWithOtherOptions) {
  const Scratch scratch;
  {
    ActivationWriter writer(scratch / "acts", head_of(kDim, 200), Mode::kReplace);
    append_batch(writer, 0);
    writer.suspend();
  }
  const auto resume = [&](const ActivationMetadata& head) {
    const ActivationWriter writer(scratch / "acts", head, Mode::kResume);
  };
  EXPECT_ERROR(resume(head_of(kDim, 400)), kUsage, "shard_bytes was 200, now 400");
  EXPECT_ERROR(resume(head_of(kDim + 1, 200)), kUsage, "activation_dim");
  EXPECT_ERROR(resume(head_of(kDim, 200, DType::kF16)), kUsage, "store_dtype");
  ActivationMetadata other = head_of(kDim, 200);
  other.config.dataset.max_length = 77;
  EXPECT_ERROR(resume(other), kUsage, "max_length was 512, now 77");
  other = head_of(kDim, 200);
  other.layer_paths = {"model.layers[2].mlp"};
  EXPECT_ERROR(resume(other), kUsage, "layers");
  // Where the output lies may change: a folder can be moved.
  other = head_of(kDim, 200);
  other.config.extraction.output_dir = "elsewhere";
  resume(other);
}

TEST(ActivationWriter, ReplacesAStoreWithNothingLeftOver) {
  const Scratch scratch;
  write_file_atomic(scratch / "acts" / "notes.txt", "keep me");
  write_batches(scratch / "acts", 20);
  write_file_atomic(scratch / "acts" / "activations-00009.npy.tmp-1-2", "left by a crash");
  write_batches(scratch / "acts", 2);
  const auto files = folder_bytes(scratch / "acts");
  EXPECT_EQ(files.size(), 3U);
  EXPECT_TRUE(files.contains("notes.txt"));
  EXPECT_TRUE(files.contains("activations.npy"));
  EXPECT_TRUE(files.contains("metadata.json"));
}

// The names are common; what they hold may be somebody's work.
TEST(ActivationWriter, DoesNotReplaceFilesOfSomebodyElse) {
  const Scratch scratch;
  const auto start = [&](Mode mode) {
    const ActivationWriter writer(scratch / "acts", head_of(kDim, 200), mode);
  };
  for (const Mode mode : {Mode::kReplace, Mode::kResume}) {
    for (const char* text :
         {"{\"name\": \"a dataset\"}", "{\"format\": \"other\"}", "[1, 2]", "not JSON", ""}) {
      write_file_atomic(scratch / "acts" / "metadata.json", text);
      write_file_atomic(scratch / "acts" / "activations-00000.npy", "mine");
      const auto before = folder_bytes(scratch / "acts");
      const auto error = test::error_of([&] { start(mode); });
      EXPECT_NE(error.second.find("metadata.json"), std::string::npos) << error.second;
      if (mode == Mode::kReplace) {
        EXPECT_EQ(error.first, ErrorKind::kUsage);
        EXPECT_NE(error.second.find("another folder"), std::string::npos) << error.second;
      }
      EXPECT_EQ(folder_bytes(scratch / "acts"), before);
    }
    std::filesystem::remove(scratch / "acts" / "metadata.json");
    for (const char* name : {"activations.npy", "activations-00000.npy", "samples-00000.jsonl"}) {
      std::filesystem::remove_all(scratch / "acts");
      write_file_atomic(scratch / "acts" / name, "mine");
      EXPECT_ERROR(start(mode), kUsage, name);
      EXPECT_EQ(folder_bytes(scratch / "acts").size(), 1U);
    }
  }
  // A store of a later version of the format is still one.
  std::filesystem::remove_all(scratch / "acts");
  write_file_atomic(scratch / "acts" / "metadata.json",
                    "{\"format\": \"drrik-activations\", \"version\": 99}");
  start(Mode::kReplace);
  EXPECT_EQ(load_activation_metadata(scratch / "acts").num_rows, 0);
}

TEST(ActivationWriter, ResumesOnlyOntoTheLinesItWrote) {
  const Scratch scratch;
  const auto stop = [&] {
    ActivationWriter writer(scratch / "acts", head_of(kDim, 1 << 20), Mode::kReplace);
    append_batch(writer, 0);
    writer.suspend();
  };
  const auto resume = [&] {
    const ActivationWriter writer(scratch / "acts", head_of(kDim, 1 << 20), Mode::kResume);
  };
  const auto lines = scratch / "acts" / "samples-00000.jsonl";
  stop();
  const std::string good = read_file(lines);
  for (const std::string& bad : {good + good, good.substr(0, good.size() - 1),
                                 good.substr(0, good.size() / 2), good + "x", std::string()}) {
    write_file_atomic(lines, bad);
    EXPECT_ERROR(resume(), kData, "3 samples that metadata.json says");
    for (const auto& [name, bytes] : folder_bytes(scratch / "acts")) {
      EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
    }
  }
  std::filesystem::remove(lines);
  EXPECT_ERROR(resume(), kIo, "samples-00000.jsonl");
  write_file_atomic(lines, good);
  resume();
}

TEST(ActivationWriter, FinishesOnlyWithAllItsSamples) {
  const Scratch scratch;
  ActivationWriter writer(scratch / "acts", head_of(kDim, 40), Mode::kReplace);
  append_batch(writer, 0);
  append_batch(writer, 1);
  std::filesystem::remove(scratch / "acts" / "samples-00000.jsonl");
  EXPECT_ERROR(writer.finish(writer.progress()), kIo, "samples-00000.jsonl");
  EXPECT_FALSE(load_activation_metadata(scratch / "acts", WithSamples::kNo).complete);
}

TEST(ActivationWriter, RefusesRowsThatDoNotFitTheSamples) {
  const Scratch scratch;
  ActivationMetadata head = head_of(kDim, 200, DType::kF16);
  head.config.extraction.positions = Positions::kAll;
  ActivationWriter writer(scratch / "acts", head, Mode::kReplace);
  std::vector<float> values(static_cast<std::size_t>(2 * kDim), 1.0F);
  EXPECT_ERROR(writer.append({values.data(), 2, kDim}, {{0, 0, 2, "", {1}}}, {}), kUsage,
               "sample 0: 2 rows, wanted 1");
  EXPECT_ERROR(writer.append({values.data(), 2, kDim}, {{0, 0, 1, "", {1}}}, {}), kUsage, "1 rows");
  EXPECT_ERROR(writer.append({values.data(), 2, kDim - 1}, {{0, 0, 2, "", {1, 2}}}, {}), kUsage,
               "width");
  values[3] = 65536.0F;
  EXPECT_ERROR(writer.append({values.data(), 2, kDim}, {{0, 0, 2, "", {1, 2}}}, {}), kNumeric,
               "float16");
  values[3] = -65504.0F;
  writer.append({values.data(), 2, kDim}, {{0, 0, 2, "", {1, 2}}}, {});
  EXPECT_EQ(writer.finish({1, 1, 0}).num_rows, 2);
  EXPECT_EQ(load_activations(scratch / "acts").activations.mat<float>()(0, 3), -65504.0F);
}

// The array is buffered by the megabyte, so batches are large here.
TEST(ActivationWriter, KeepsClosedShardsWhenTheDiskIsFull) {
  const Scratch scratch;
  constexpr std::int64_t kRows = 1000;
  constexpr std::int64_t kWide = 600;  // 2.4 MB a batch
  const auto append = [](ActivationWriter& writer, std::int64_t b) {
    const std::vector<float> values(static_cast<std::size_t>(kRows * kWide), static_cast<float>(b));
    SampleRecord sample{b, 0, kRows, "t", {}};
    sample.input_ids.assign(static_cast<std::size_t>(kRows), 1);
    writer.append({values.data(), kRows, kWide}, {sample}, {b + 1, b + 1, 0});
  };
  ActivationMetadata head = head_of(kWide, 4'000'000);  // two batches a shard
  head.config.extraction.positions = Positions::kAll;
  {
    ActivationWriter writer(scratch / "whole", head, Mode::kReplace);
    for (std::int64_t b = 0; b < 5; ++b) append(writer, b);
    writer.finish(writer.progress());
  }
  {
    ActivationWriter writer(scratch / "acts", head, Mode::kReplace);
    for (std::int64_t b = 0; b < 3; ++b) append(writer, b);
    const testing::SmallFiles limit(3'000'000);
    EXPECT_ERROR(append(writer, 3), kIo, "activations-00001.npy");
    writer.suspend();  // As the extractor does on any error; nothing is left to close.
    EXPECT_ERROR(writer.finish({}), kUsage, "failed");
  }
  for (const auto& [name, bytes] : folder_bytes(scratch / "acts")) {
    EXPECT_EQ(name.find(".tmp-"), std::string::npos) << name;
  }
  EXPECT_EQ(open_row_source(scratch / "acts")->rows(), 2 * kRows);
  EXPECT_EQ(load_activation_metadata(scratch / "acts").num_samples, 2);
  ActivationWriter writer(scratch / "acts", head, Mode::kResume);
  EXPECT_EQ(writer.progress().next_index, 2);
  for (std::int64_t b = 2; b < 5; ++b) append(writer, b);
  writer.finish(writer.progress());
  EXPECT_EQ(folder_bytes(scratch / "acts"), folder_bytes(scratch / "whole"));
}

TEST(ActivationMetadata, TellsWhereARowComesFrom) {
  ActivationMetadata metadata;
  metadata.samples = {{4, 0, 3, "", {9, 8, 7}}, {6, 3, 1, "", {5}}, {7, 4, 2, "", {4, 3}}};
  metadata.config.extraction.positions = Positions::kAll;
  const std::int64_t want[][2] = {{0, 0}, {0, 1}, {0, 2}, {1, 0}, {2, 0}, {2, 1}};
  for (std::int64_t r = 0; r < 6; ++r) {
    EXPECT_EQ(metadata.origin(r).sample, want[r][0]) << r;
    EXPECT_EQ(metadata.origin(r).position, want[r][1]) << r;
  }
  EXPECT_ERROR(metadata.origin(6), kUsage, "row 6");
  EXPECT_ERROR(metadata.origin(-1), kUsage, "row -1");
  EXPECT_ERROR(ActivationMetadata{}.origin(0), kUsage, "row 0");
  metadata.samples = {{4, 0, 1, "", {9, 8, 7}}, {6, 1, 1, "", {5}}};
  metadata.config.extraction.positions = Positions::kLast;
  EXPECT_EQ(metadata.origin(0).position, 2);
  EXPECT_EQ(metadata.origin(1).position, 0);
  metadata.config.extraction.positions = Positions::kFirst;
  EXPECT_EQ(metadata.origin(0).position, 0);
  metadata.config.extraction.positions = Positions::kMean;
  EXPECT_EQ(metadata.origin(0).position, -1);
}

TEST(Activations, SaveRefusesWhatDoesNotFit) {
  const Scratch scratch;
  ActivationMetadata metadata = head_of(3, 1 << 20);
  metadata.config.extraction.positions = Positions::kAll;
  metadata.samples = {{0, 0, 2, "", {1, 2}}};
  const auto save = [&](const Tensor& rows) { save_activations(rows, metadata, scratch / "a"); };
  EXPECT_ERROR(save(Tensor(DType::kF32, {3, 3})), kUsage, "3 rows");
  EXPECT_ERROR(save(Tensor(DType::kF32, {2, 4})), kUsage, "4 columns");
  EXPECT_ERROR(save(Tensor(DType::kF64, {2, 3})), kUsage, "float64");
  EXPECT_ERROR(save(Tensor(DType::kF32, {6})), kUsage, "[6]");
  metadata.samples[0].row = 1;
  EXPECT_ERROR(save(Tensor(DType::kF32, {2, 3})), kUsage, "begins at row 1");
  EXPECT_FALSE(std::filesystem::exists(scratch / "a"));
  metadata.samples.clear();
  save(Tensor(DType::kF32, {2, 3}));
  EXPECT_EQ(load_activations(scratch / "a").metadata.num_rows, 2);
}

TEST(StoreFile, NamesAreRecognised) {
  for (const char* name :
       {"metadata.json", "activations.npy", "activations-00000.npy", "activations-123456.npy",
        "samples-00002.jsonl", "activations-00002.npy.tmp-77-0", "metadata.json.tmp-1-1"}) {
    EXPECT_TRUE(detail::is_store_file(name)) << name;
  }
  for (const char* name : {"activations", "my-activations.npy", "activations-1.npy",
                           "activations-00000.npy.bak", "samples-00000.npy", "config.json", ""}) {
    EXPECT_FALSE(detail::is_store_file(name)) << name;
  }
}

TEST(Utf8Prefix, CutsBetweenCharacters) {
  EXPECT_EQ(utf8_prefix("abc", 200), "abc");
  EXPECT_EQ(utf8_prefix("abc", 2), "ab");
  EXPECT_EQ(utf8_prefix("aé一😀b", 4), "aé一😀");
  EXPECT_EQ(utf8_prefix("aé一😀b", 3), "aé一");
  EXPECT_EQ(utf8_prefix("é", 0), "");
}

}  // namespace
}  // namespace drrik
