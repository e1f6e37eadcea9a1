#include "drrik/activations/live_stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "activations/fixture.h"
#include "drrik/activations/extractor.h"
#include "drrik/base/interrupt.h"
#include "drrik/io/safetensors.h"

namespace drrik {
namespace {

using test::LogCapture;
using test::Scratch;
using test::text_of;
using test::texts_of;

using Row = std::vector<float>;  // of all sites, side by side
using Rows = std::vector<Row>;

constexpr std::int32_t kBos = 1;

LiveStreamInputs tiny(std::vector<std::string> texts, bool bos = true) {
  const ModelConfig config = test::tiny_config();
  return {std::make_shared<const Model>(make_random_model(config, 3)),
          std::make_shared<const Tokenizer>(
              Tokenizer::from_json(test::tokenizer_json(config.vocab_size, bos))),
          std::move(texts)};
}

/// Small batches and no sinks, for comparisons with extractions.
LiveStreamOptions options_for(std::vector<Hook> hooks) {
  LiveStreamOptions options;
  options.hooks = std::move(hooks);
  options.dataset.max_length = 17;
  options.max_batch_tokens = 50;
  options.buffer_rows = 64;
  options.sink_multiple = 0.0;
  return options;
}

const std::vector<Hook> kOneHook = {{HookPoint::kMlpOut, 1}};

/// Up to `count` rows, `batch` at a time.
Rows take(RowStream& stream, std::int64_t batch,
          std::int64_t count = std::numeric_limits<std::int64_t>::max()) {
  Rows out;
  while (count > 0) {
    const std::int64_t wanted = std::min(batch, count);
    std::vector<std::vector<float>> values;
    std::vector<MatView<float>> views;
    for (const RowSite& site : stream.sites()) {
      values.emplace_back(static_cast<std::size_t>(wanted * site.width), std::nanf(""));
      views.emplace_back(values.back().data(), wanted, site.width);
    }
    const std::int64_t got = stream.next(views);
    for (std::int64_t r = 0; r < got; ++r) {
      Row row;
      for (const auto& view : views) row.insert(row.end(), view.row(r).begin(), view.row(r).end());
      out.push_back(std::move(row));
    }
    count -= got;
    if (got < wanted) break;
  }
  return out;
}

/// What `drrik extract --positions all` stores, less the rows of tokens that `drop` names.
template <typename F>
Rows stored(const LiveStreamOptions& options, const LiveStreamInputs& inputs, F&& drop) {
  const Scratch scratch;
  ExtractorOptions extract;
  extract.model = options.model;
  extract.dataset = options.dataset;
  extract.extraction.hook = options.hooks[0].point;
  for (const Hook& hook : options.hooks) extract.extraction.mlp_layers.push_back(hook.layer);
  extract.extraction.positions = Positions::kAll;
  extract.extraction.max_batch_tokens = options.max_batch_tokens;
  extract.extraction.batch_size = options.batch_size;
  extract.extraction.store_dtype = options.buffer_dtype;
  ActivationExtractor extractor(extract);
  if (inputs.model) extractor.use_model(inputs.model, inputs.tokenizer);
  if (inputs.texts) extractor.use_texts(*inputs.texts);
  extractor.extract_to(scratch / "store");
  const Activations loaded = load_activations(scratch / "store");
  const auto matrix = loaded.activations.mat<float>();
  Rows out;
  for (const SampleRecord& sample : loaded.metadata.samples) {
    for (std::int64_t r = 0; r < sample.rows; ++r) {
      if (drop(sample.input_ids[static_cast<std::size_t>(r)])) continue;
      const auto row = matrix.row(sample.row + r);
      out.emplace_back(row.begin(), row.end());
    }
  }
  return out;
}

Rows stored(const LiveStreamOptions& options, const LiveStreamInputs& inputs) {
  return stored(options, inputs, [](std::int32_t id) { return id == kBos; });
}

Rows sorted(Rows rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

constexpr LiveOverlap kOverlaps[] = {LiveOverlap::kNone, LiveOverlap::kTexts, LiveOverlap::kModel};

// Packed and not, in every dtype, whatever runs ahead: bit for bit what a store holds.
TEST(LiveStream, GivesTheRowsOfAStoreWithoutSpecialTokens) {
  const auto inputs = tiny(texts_of(test::random_ids(40, 30, 40, 5)));
  for (const bool pack : {false, true}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      LiveStreamOptions options = options_for({{HookPoint::kMlpOut, 2}, {HookPoint::kMlpOut, 0}});
      options.dataset.pack = pack;
      options.buffer_dtype = dtype;
      options.shuffle = false;
      const Rows want = stored(options, inputs);
      const Rows all = stored(options, inputs, [](std::int32_t) { return false; });
      ASSERT_GT(want.size(), 300U);
      ASSERT_GT(all.size(), want.size() + 20);
      for (const LiveOverlap overlap : kOverlaps) {
        options.overlap = overlap;
        const auto stream = make_live_stream(options, inputs);
        EXPECT_EQ(stream->rows(), -1);
        EXPECT_EQ(take(*stream, 7), want);
        EXPECT_EQ(stream->rows(), static_cast<std::int64_t>(want.size()));
        EXPECT_TRUE(take(*stream, 7).empty());
        stream->rewind();
        EXPECT_EQ(take(*stream, 200), want);
      }
      options.drop_special_tokens = false;
      EXPECT_EQ(take(*make_live_stream(options, inputs), 64), all);
    }
  }
}

TEST(LiveStream, TellsItsSites) {
  const auto inputs = tiny({text_of({{2, 3}})});
  const auto stream =
      make_live_stream(options_for({{HookPoint::kMlpPost, 1}, {HookPoint::kMlpOut, 0}}), inputs);
  ASSERT_EQ(stream->sites().size(), 2U);
  EXPECT_EQ(stream->sites()[0].hook_name, "mlp_post");
  EXPECT_EQ(stream->sites()[0].foreign_name, "blocks.1.mlp.hook_post");
  EXPECT_EQ(stream->sites()[0].layer, 1);
  EXPECT_EQ(stream->sites()[0].width, 24);
  EXPECT_EQ(stream->sites()[1].hook_name, "mlp_out");
  EXPECT_EQ(stream->sites()[1].width, 16);
}

// One pass for all of them. A hook that takes a module's output apart changes the order of the sums
// above it, so those differ as sums of some 50 products in float32 do, over three blocks.
TEST(LiveStream, SeveralSitesAreThoseOfSinglePasses) {
  const auto inputs = tiny(texts_of(test::random_ids(20, 30, 40, 6)));
  const std::vector<Hook> hooks = {{HookPoint::kResidPost, 2},
                                   {HookPoint::kMlpPost, 0},
                                   {HookPoint::kMlpIn, 1},
                                   {HookPoint::kMlpOut, 1},
                                   {HookPoint::kResidPre, 0}};
  LiveStreamOptions options = options_for(hooks);
  options.shuffle = false;
  const auto together = make_live_stream(options, inputs);
  const Rows rows = take(*together, 31);
  ASSERT_GT(rows.size(), 200U);
  std::size_t column = 0;
  for (std::size_t s = 0; s < hooks.size(); ++s) {
    const auto width = static_cast<std::size_t>(together->sites()[s].width);
    LiveStreamOptions one = options;
    one.hooks = {hooks[s]};
    const Rows alone = take(*make_live_stream(one, inputs), 31);
    ASSERT_EQ(alone.size(), rows.size());
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      ASSERT_EQ(alone[r].size(), width);
      for (std::size_t c = 0; c < width; ++c) {
        const double want = static_cast<double>(alone[r][c]);
        difference += std::pow(static_cast<double>(rows[r][column + c]) - want, 2.0);
        norm += want * want;
      }
    }
    EXPECT_LE(std::sqrt(difference / norm), 1e-5) << s;
    column += width;
  }
}

// A permutation of the rows; its order is the seed's and the pass's alone.
TEST(LiveStream, Shuffles) {
  const auto inputs = tiny(texts_of(test::random_ids(40, 30, 40, 7)));
  LiveStreamOptions options = options_for(kOneHook);
  options.shuffle = false;
  const Rows in_order = take(*make_live_stream(options, inputs), 100);
  options.shuffle = true;
  for (const std::int64_t buffer : {1, 5, 64, 100'000}) {
    options.buffer_rows = buffer;
    options.overlap = LiveOverlap::kNone;
    options.seed = 42;
    const auto stream = make_live_stream(options, inputs);
    const Rows want = take(*stream, 13);
    EXPECT_EQ(sorted(want), sorted(in_order));
    EXPECT_EQ(want == in_order, buffer == 1);
    stream->rewind();
    const Rows second = take(*stream, 13);
    EXPECT_EQ(sorted(second), sorted(in_order));
    EXPECT_EQ(second == want, buffer == 1);
    for (const LiveOverlap overlap : kOverlaps) {
      options.overlap = overlap;
      EXPECT_EQ(take(*make_live_stream(options, inputs), 1000), want);
      EXPECT_EQ(take(*make_live_stream(options, inputs), 1), want);
    }
    options.seed = 43;
    EXPECT_EQ(take(*make_live_stream(options, inputs), 13) == want, buffer == 1);
  }
}

// The whole data in the buffer: every row is equally likely at every place. Over 400 seeds, the
// place of the first row of n has mean (n - 1) / 2 with a deviation of n / √12 / 20; four of them.
TEST(LiveStream, ShufflesEvenly) {
  const auto inputs = tiny({text_of({{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}})}, false);
  LiveStreamOptions options = options_for({{HookPoint::kMlpOut, 0}});
  options.overlap = LiveOverlap::kNone;
  options.shuffle = false;
  const Rows in_order = take(*make_live_stream(options, inputs), 100);
  options.shuffle = true;
  const auto n = static_cast<double>(in_order.size());
  double sum = 0.0;
  const LogCapture quiet;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    options.seed = seed;
    const Rows rows = take(*make_live_stream(options, inputs), 100);
    sum += static_cast<double>(std::find(rows.begin(), rows.end(), in_order[0]) - rows.begin());
  }
  EXPECT_NEAR(sum / 400.0, (n - 1.0) / 2.0, 4.0 * n / std::sqrt(12.0) / 20.0);
}

RowStreamState copy_of(const RowStreamState& state) {
  RowStreamState out;
  out.json = state.json;
  for (const auto& [name, tensor] : state.tensors) out.tensors.emplace_back(name, tensor.clone());
  return out;
}

class ResumingLive : public testing::TestWithParam<std::tuple<bool, DType, LiveOverlap>> {};
INSTANTIATE_TEST_SUITE_P(, ResumingLive,
                         testing::Combine(testing::Bool(),
                                          testing::Values(DType::kF32, DType::kBF16),
                                          testing::Values(LiveOverlap::kNone, LiveOverlap::kTexts,
                                                          LiveOverlap::kModel)));

// From any place, in the first pass and in the second: what would have come anyway, bit for bit.
TEST_P(ResumingLive, GoesOnWithTheSameRows) {
  const auto inputs = tiny(texts_of(test::random_ids(30, 30, 40, 8)));
  LiveStreamOptions options = options_for({{HookPoint::kMlpOut, 1}, {HookPoint::kMlpPost, 0}});
  options.sink_multiple = 1.2;  // many rows, so that the norms' counts matter
  std::tie(options.dataset.pack, options.buffer_dtype, options.overlap) = GetParam();
  const auto whole = make_live_stream(options, inputs);
  Rows want = take(*whole, 9);
  const auto pass = static_cast<std::int64_t>(want.size());
  ASSERT_GT(pass, 150);
  whole->rewind();
  for (Row& row : take(*whole, 9)) want.push_back(std::move(row));
  ASSERT_EQ(want.size(), static_cast<std::size_t>(2 * pass));
  const auto rest = [&](RowStream& stream, std::int64_t from) {
    Rows rows = take(stream, 11);
    if (from < pass) {
      stream.rewind();
      for (Row& row : take(stream, 11)) rows.push_back(std::move(row));
    }
    EXPECT_TRUE(rows == Rows(want.begin() + from, want.end())) << "from row " << from;
  };
  std::vector<std::int64_t> places = {0, 1, pass / 2, pass - 64, pass - 2, pass + 40};
  for (const std::int64_t from : places) {
    const auto stream = make_live_stream(options, inputs);
    take(*stream, 10, std::min(from, pass));
    if (from > pass) {
      stream->rewind();
      take(*stream, 10, from - pass);
    }
    const RowStreamState state = stream->state();
    const auto again = make_live_stream(options, inputs);
    take(*again, 5, 23);  // wherever it was
    again->restore(state);
    EXPECT_EQ(again->state().json, state.json);
    rest(*again, from);
    rest(*stream, from);  // asking for the state disturbed nothing
  }
}

TEST(LiveStream, RefusesTheStateOfAnotherStream) {
  const auto inputs = tiny(texts_of(test::random_ids(10, 30, 40, 9)));
  LiveStreamOptions options = options_for(kOneHook);
  options.sink_multiple = 10.0;
  const auto stream = make_live_stream(options, inputs);
  take(*stream, 5, 5);
  const RowStreamState state = stream->state();
  const auto refused = [&](auto&& change, std::string_view why) {
    LiveStreamOptions other = options;
    change(other);
    EXPECT_ERROR(make_live_stream(other, inputs)->restore(state), kData, why);
  };
  refused([](auto& o) { o.seed = 7; }, "seed was \"42\", now \"7\"");
  refused([](auto& o) { o.buffer_rows = 65; }, "buffer_rows was 64, now 65");
  refused([](auto& o) { o.dataset.max_length = 16; }, "max_length was 17, now 16");
  refused([](auto& o) { o.hooks[0].layer = 0; }, "mlp_out of layer 1");
  refused([](auto& o) { o.sink_multiple = 9.0; }, "sink_multiple");
  refused([](auto& o) { o.model.torch_dtype = DType::kBF16; }, "torch_dtype");
  options.overlap = LiveOverlap::kModel;  // does not change the rows
  make_live_stream(options, inputs)->restore(state);

  // Damaged ones; none touches the stream.
  const auto damaged = [&](auto&& damage, std::string_view why) {
    RowStreamState bad = copy_of(state);
    damage(bad);
    EXPECT_ERROR(stream->restore(bad), kData, why);
  };
  const auto replaced = [](std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) text.replace(at, from.size(), to);
    return text;
  };
  damaged([](auto& s) { s.json = "{"; }, "state of a live stream");
  damaged([](auto& s) { s.json = "[]"; }, "object");
  damaged([&](auto& s) { s.json = replaced(s.json, "drrik-live-stream", "drrik-store-stream"); },
          "another kind");
  damaged([&](auto& s) { s.json = replaced(s.json, "\"consumed\":", "\"consumed\":-"); }, "count");
  damaged([&](auto& s) { s.json = replaced(s.json, "\"drawn\":\"", "\"drawn\":\"x"); }, "number");
  damaged([](auto& s) { s.tensors.erase(s.tensors.begin()); }, "no tensor 'buffer'");
  damaged([](auto& s) { s.tensors[1].second = Tensor(DType::kF32, {3, 5}); }, "waiting");
  damaged([](auto& s) { s.tensors[0].second = Tensor(DType::kF16, {3, 16}); }, "float16");
  damaged([](auto& s) { s.tensors[0].second = Tensor(DType::kF32, {65, 16}); }, "buffer of 64");
  damaged([](auto& s) { s.tensors[2].second = Tensor(DType::kI64, {1, 3}); }, "norms");
  damaged([](auto& s) { s.tensors[2].second.template mutable_data<std::int64_t>()[7] = -1; },
          "norms");
  const auto whole = make_live_stream(options, inputs);
  take(*whole, 5, 5);
  EXPECT_EQ(take(*stream, 9), take(*whole, 9));
}

class Uninterrupted {
 public:
  ~Uninterrupted() { set_interrupted(false); }
};

// No row is lost between the call that was interrupted and the state that is saved after it.
TEST(LiveStream, LosesNothingToAnInterrupt) {
  const Uninterrupted guard;
  const auto inputs = tiny(texts_of(test::random_ids(30, 30, 40, 8)));
  const LiveStreamOptions options = options_for(kOneHook);
  const Rows want = take(*make_live_stream(options, inputs), 9);
  for (const std::int64_t from : {0, 40}) {
    const auto stream = make_live_stream(options, inputs);
    take(*stream, 10, from);
    set_interrupted(true);
    EXPECT_ERROR(take(*stream, 200), kInterrupted, "interrupted while running the model");
    set_interrupted(false);
    const auto again = make_live_stream(options, inputs);
    again->restore(stream->state());
    EXPECT_EQ(take(*again, 9), Rows(want.begin() + from, want.end()));
    EXPECT_EQ(take(*stream, 9), Rows(want.begin() + from, want.end()));
  }
}

// A model folder whose token 10 has another embedding.
struct Files {
  Scratch scratch;
  LiveStreamOptions options = options_for({{HookPoint::kMlpOut, 0}});
  explicit Files(float embedding) {
    std::filesystem::copy(std::filesystem::path(DRRIK_TEST_DATA) / "model" / "llama-plain",
                          scratch / "model");
    write_file_atomic(scratch / "model" / "tokenizer.json", test::tokenizer_json(67));
    const auto path = scratch / "model" / "model.safetensors";
    std::string bytes = read_file(path);
    {
      const auto file = SafetensorsFile::open(path);
      const auto* entry = file.find_entry("model.embed_tokens.weight");
      const std::size_t row = entry->bytes / 67;
      for (std::size_t at = 0; at < row; at += sizeof(float)) {
        std::memcpy(&bytes[entry->offset + 10 * row + at], &embedding, sizeof(float));
      }
    }
    write_file_atomic(path, bytes);
    std::string lines;
    for (std::int32_t i = 0; i < 20; ++i) {
      lines += str("{\"story\":\"", text_of({{2, 3, static_cast<int>(4 + i)}}), "\"}\n");
    }
    write_file_atomic(scratch / "data.jsonl", lines);
    options.model.model_name = (scratch / "model").string();
    options.dataset.dataset_name = (scratch / "data.jsonl").string();
    options.dataset.text_column = "story";
    options.dataset.pack = false;
    options.max_batch_tokens = 9;
  }
};

TEST(LiveStream, NamesTheSampleOfANan) {
  Files files(std::nanf(""));
  std::string want;
  {
    ExtractorOptions extract;
    extract.model = files.options.model;
    extract.dataset = files.options.dataset;
    extract.extraction.mlp_layers = {0};
    extract.extraction.positions = Positions::kAll;
    extract.extraction.max_batch_tokens = 9;
    ActivationExtractor extractor(extract);
    want = test::error_of([&] { extractor.extract(); }).second;
  }
  EXPECT_NE(want.find("model.layers[0].mlp is NaN for sample 6 at token 2"), std::string::npos);
  for (const LiveOverlap overlap : kOverlaps) {
    files.options.overlap = overlap;
    const auto stream = make_live_stream(files.options);
    EXPECT_ERROR(take(*stream, 50), kNumeric, want);
    EXPECT_ERROR(take(*stream, 50), kNumeric, want);  // again, and nothing hangs
    // Six samples of three tokens came before.
    files.options.shuffle = false;
    const auto ordered = make_live_stream(files.options);
    EXPECT_EQ(take(*ordered, 1, 18).size(), 18U);
    EXPECT_ERROR(take(*ordered, 1), kNumeric, want);
    files.options.shuffle = true;
  }
}

TEST(LiveStream, LeavesSinksOut) {
  Files files(1000.0F);
  files.options.hooks = {{HookPoint::kMlpOut, 0}, {HookPoint::kResidPre, 0}};
  files.options.shuffle = false;
  files.options.dataset.num_samples = 12;
  const Rows all = take(*make_live_stream(files.options), 8);
  ASSERT_EQ(all.size(), 36U);
  files.options.sink_multiple = 10.0;
  const auto stream = make_live_stream(files.options);
  Rows want = all;
  want.erase(want.begin() + 6 * 3 + 2);  // sample 6's token 10
  EXPECT_EQ(take(*stream, 8), want);
  bool told = false;
  for (const auto& [name, value] : stream->facts()) {
    if (name != "attention sinks") continue;
    told = value.find("beyond 10 times") != std::string::npos &&
           value.find("1 of the 36 tokens") != std::string::npos;
  }
  EXPECT_TRUE(told);
}

TEST(LiveStream, RefusesWhatFloat16CannotHold) {
  Files files(1e6F);
  files.options.hooks = {{HookPoint::kResidPre, 0}};
  files.options.buffer_dtype = DType::kF16;
  EXPECT_ERROR(take(*make_live_stream(files.options), 8), kNumeric, "does not fit float16");
}

TEST(LiveStream, TellsWhatIsWrongBeforeAnyWork) {
  const auto inputs = tiny({text_of({{2, 3}})});
  const auto refused = [&](auto&& change, std::string_view why) {
    LiveStreamOptions options = options_for(kOneHook);
    change(options);
    EXPECT_ERROR(make_live_stream(options, inputs), kUsage, why);
  };
  refused([](auto& o) { o.hooks.clear(); }, "no hook");
  refused([](auto& o) { o.hooks.push_back(o.hooks[0]); }, "mlp_out of layer 1 is asked for twice");
  refused([](auto& o) { o.hooks[0].layer = -1; }, "layer -1");
  refused([](auto& o) { o.hooks[0].layer = 3; }, "layer 3");
  refused([](auto& o) { o.hooks[0].point = HookPoint::kAttnAdd; }, "attn_add");
  refused([](auto& o) { o.buffer_rows = 0; }, "buffer_rows 0");
  refused([](auto& o) { o.buffer_bytes = 10; }, "buffer_bytes 10");
  refused([](auto& o) { o.buffer_dtype = DType::kI64; }, "buffer_dtype int64");
  refused([](auto& o) { o.sink_multiple = 0.5; }, "sink_multiple 0.5");
  refused([](auto& o) { o.sink_multiple = std::nan(""); }, "sink_multiple");
  refused([](auto& o) { o.max_batch_tokens = 0; }, "max_batch_tokens 0");
  refused([](auto& o) { o.dataset.max_length = 0; }, "max_length 0");
  LiveStreamInputs missing = inputs;
  missing.texts.reset();
  LiveStreamOptions options = options_for(kOneHook);
  EXPECT_ERROR(make_live_stream(options, missing), kUsage, "no dataset");
  options.dataset.dataset_name = "/nowhere/at-all.jsonl";
  EXPECT_ERROR(make_live_stream(options, missing), kIo, "nowhere");
  EXPECT_ERROR(make_live_stream(options_for(kOneHook), {{}, {}, inputs.texts}), kUsage, "no model");
  for (const LiveOverlap overlap : kOverlaps) {
    EXPECT_EQ(parse_live_overlap(live_overlap_name(overlap)), overlap);
  }
  EXPECT_ERROR(parse_live_overlap("all"), kUsage, "overlap 'all'");

  const auto stream = make_live_stream(options_for(kOneHook), inputs);
  EXPECT_ERROR(stream->next({}), kUsage, "0 matrices");
  std::vector<float> values(32);
  const MatView<float> narrow(values.data(), 2, 15);
  EXPECT_ERROR(stream->next({&narrow, 1}), kUsage, "[2, 15], wanted [2, 16]");
}

TEST(LiveStream, RefusesTextsThatGiveNoRow) {
  LogCapture log;
  for (const LiveOverlap overlap : kOverlaps) {
    LiveStreamOptions options = options_for(kOneHook);
    options.overlap = overlap;
    EXPECT_ERROR(make_live_stream(options, tiny({})), kData, "no texts");
    const auto blank = make_live_stream(options, tiny({"", ""}, /*bos=*/false));
    EXPECT_ERROR(take(*blank, 3), kData, "none of the dataset's 2 samples");
    const auto special = make_live_stream(options, tiny({"", text_of({{kBos, kBos}})}));
    EXPECT_ERROR(take(*special, 3), kData, "4 tokens give no row: 4 are special");
  }
}

TEST(LiveStream, BoundsItsMemory) {
  const auto inputs = tiny(texts_of(test::random_ids(30, 30, 40, 8)));
  LiveStreamOptions options = options_for(kOneHook);
  options.buffer_bytes = 10 * 16 * 4 + 63;  // ten rows of 16 floats and no eleventh
  const auto stream = make_live_stream(options, inputs);
  take(*stream, 3, 3);
  const RowStreamState state = stream->state();
  EXPECT_EQ(state.tensors[0].first, "buffer");
  EXPECT_EQ(state.tensors[0].second.dim(0), 10);
  // A batch of at most 50 tokens, part of which may be used.
  EXPECT_LT(state.tensors[1].second.dim(0), 50);
  bool told = false;
  for (const auto& [name, value] : stream->facts()) {
    if (name != "memory") continue;
    told = true;
    // Ten rows with a pointer each, two batches of 50 rows.
    EXPECT_EQ(value.find("7120 bytes at most (buffer 720, batches 6400)"), 0U) << value;
  }
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace drrik
