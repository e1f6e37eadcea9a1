// What holds whatever the weights: packing, caching, early stop, edits, threads.

#include <ctime>
#include <thread>

#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/model/kv_cache.h"
#include "drrik/model/random_model.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::data_folder;
using test::flat;
using test::load_reference;
using test::relative_error;
using Logits = ForwardOptions::Logits;

// Products of few and of many rows sum in another order: float32's 2^-24 times the root of the
// longest sum (about 50), through two or three blocks.
constexpr double kOrderTolerance = 5e-6;

const char* const kModels[] = {
    "llama-mqa-tied", "llama-rope-longrope", "gpt2-base",    "neox-parallel",  "neox-sequential",
    "gpt_neo-local",  "mistral-window",      "qwen3-window", "gemma2-plain",   "gemma3-plain",
    "phi-qk-norm",    "phi3-partial",        "olmo-clip",    "olmo2-mqa-tied", "opt-post-norm",
    "bloom-residual", "falcon-grouped",      "falcon-alibi"};

TEST(Forward, PackedSequencesEqualSeparateOnes) {
  for (const char* name : kModels) {
    const Model model = Model::load(data_folder(name));
    const TokenBatch batch = load_reference(name).batch;
    ForwardOptions options;
    options.logits = Logits::kAll;
    const Tensor packed = model.forward(batch, options);
    for (std::int64_t s = 0; s < batch.sequences(); ++s) {
      const std::int64_t begin = batch.boundaries[static_cast<std::size_t>(s)];
      const std::int64_t end = batch.boundaries[static_cast<std::size_t>(s) + 1];
      TokenBatch one;
      one.append(std::span(batch.ids).subspan(static_cast<std::size_t>(begin),
                                              static_cast<std::size_t>(end - begin)));
      const Tensor alone = model.forward(one, options);
      const auto together = packed.mat<float>().rows_range(begin, end - begin);
      EXPECT_LE(relative_error(alone.data<float>(), flat(together)), kOrderTolerance) << name;
    }
  }
}

TEST(Forward, EarlierSequencesDoNotReachLaterOnes) {
  const Model model = Model::load(data_folder("llama-plain"));
  const auto last_of = [&](std::int32_t first) {
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>{first, 4, 5});
    batch.append(std::vector<std::int32_t>{6, 7});
    ForwardOptions options;
    options.logits = Logits::kLast;
    const Tensor logits = model.forward(batch, options);
    return flat(logits.mat<float>().rows_range(1, 1));
  };
  EXPECT_EQ(last_of(3), last_of(30));
}

TEST(Forward, CachedStepsEqualTheWhole) {
  for (const char* name : kModels) {
    const Model model = Model::load(data_folder(name));
    const TokenBatch batch = load_reference(name).batch;
    const auto sequence = std::span(batch.ids).subspan(6, 11);
    // What the cache holds was rotated for a shorter sequence.
    if (model.config().rope.stretched(11)) continue;
    TokenBatch one;
    one.append(sequence);
    ForwardOptions options;
    options.logits = Logits::kAll;
    const Tensor whole = model.forward(one, options);

    // In pieces of every size, among them single steps.
    for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{11}}) {
      KvCache cache = model.make_cache(11);
      std::vector<float> pieces;
      for (std::size_t at = 0; at < sequence.size(); at += piece) {
        const auto ids = sequence.subspan(at, std::min(piece, sequence.size() - at));
        const auto part = flat(model.forward(ids, cache, options).mat<float>());
        pieces.insert(pieces.end(), part.begin(), part.end());
      }
      EXPECT_EQ(cache.length(), 11);
      EXPECT_LE(relative_error(pieces, whole.data<float>()), kOrderTolerance) << name << piece;
    }
  }
}

// Windows, ALiBi and caps, over more rows than a block of the kernels has.
TEST(Forward, CachedStepsEqualTheWholeOverManyBlocks) {
  for (const char* name : {"mistral-window", "gemma2-layer-types", "gemma3-plain", "bloom-plain",
                           "falcon-alibi", "falcon-multi-query", "qwen2-layer-types"}) {
    const Model model = Model::load(data_folder(name));
    const Tensor long_ids = load_reference(name).file.get("long_ids");
    const auto ids = long_ids.data<std::int32_t>();
    TokenBatch one;
    one.append(ids);
    ForwardOptions options;
    options.logits = Logits::kLast;
    const Tensor whole = model.forward(one, options);
    KvCache cache = model.make_cache(static_cast<std::int64_t>(ids.size()));
    Tensor last;
    // A long prompt, single steps, then pieces of other sizes.
    for (std::size_t at = 0; at < ids.size();) {
      const std::size_t piece = at == 0 ? 130 : at < 140 ? 1 : 37;
      const std::size_t rows = std::min(piece, ids.size() - at);
      last = model.forward(ids.subspan(at, rows), cache, options);
      at += rows;
    }
    EXPECT_LE(relative_error(last.data<float>(), whole.data<float>()), kOrderTolerance) << name;
  }
}

// Sequences of one batch turn by their own lengths, whatever the others' are.
TEST(Forward, RotaryScalingGoesBySequence) {
  for (const char* name : {"llama-rope-dynamic", "llama-rope-longrope", "phi3-longrope"}) {
    const Model model = Model::load(data_folder(name));
    TokenBatch batch;
    for (const std::size_t length : {5U, 9U, 20U, 8U, 9U}) {
      std::vector<std::int32_t> ids(length);
      for (std::size_t i = 0; i < length; ++i) ids[i] = static_cast<std::int32_t>((i * 7) % 40);
      batch.append(ids);
    }
    ForwardOptions options;
    options.logits = Logits::kAll;
    const Tensor packed = model.forward(batch, options);
    for (std::size_t s = 0; s + 1 < batch.boundaries.size(); ++s) {
      const std::int64_t begin = batch.boundaries[s];
      const std::int64_t rows = batch.boundaries[s + 1] - begin;
      TokenBatch one;
      one.append(std::span(batch.ids).subspan(static_cast<std::size_t>(begin),
                                              static_cast<std::size_t>(rows)));
      const Tensor alone = model.forward(one, options);
      EXPECT_LE(
          relative_error(alone.data<float>(), flat(packed.mat<float>().rows_range(begin, rows))),
          kOrderTolerance)
          << name << " sequence " << s;
    }
  }
}

TEST(Forward, EveryPointOfEveryWiringReachesTheLogits) {
  for (const char* name : {"gemma2-plain", "olmo2-plain", "opt-post-norm", "bloom-residual",
                           "falcon-grouped", "phi-plain"}) {
    const Model model = Model::load(data_folder(name));
    const TokenBatch batch = load_reference(name).batch;
    ForwardOptions options;
    options.logits = Logits::kAll;
    const Tensor plain = model.forward(batch, options);
    for (const Hook& hook : test::all_hooks(model)) {
      options.hooks = {hook};
      options.on_hook = [](const Hook&, MatView<float> x) {
        for (std::int64_t r = 0; r < x.rows(); ++r) {
          // Not the same in every row: all keys moved alike change no softmax.
          for (std::int64_t c = 0; c < x.cols(); ++c) x(r, c) += static_cast<float>((c + r) % 3);
        }
      };
      const Tensor edited = model.forward(batch, options);
      EXPECT_GT(relative_error(edited.data<float>(), plain.data<float>()), 1e-3)
          << name << " " << hook_name(hook.point);
      // Reading alone changes nothing.
      options.on_hook = [](const Hook&, MatView<float>) {};
      const Tensor read = model.forward(batch, options);
      EXPECT_LE(relative_error(read.data<float>(), plain.data<float>()), kOrderTolerance) << name;
    }
  }
}

TEST(Forward, CacheCanBeCutBack) {
  const Model model = Model::load(data_folder("llama-plain"));
  KvCache cache = model.make_cache(8);
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  const std::vector<std::int32_t> other = {9, 9};
  const std::vector<std::int32_t> next = {4};
  model.forward(prompt, cache);
  const auto first = flat(model.forward(next, cache).mat<float>());
  cache.truncate(3);
  model.forward(other, cache);
  cache.truncate(3);
  EXPECT_EQ(flat(model.forward(next, cache).mat<float>()), first);
  EXPECT_THROW(cache.truncate(5), Error);
  // A failed call leaves the length alone.
  const std::vector<std::int32_t> bad = {1, 10000};
  EXPECT_THROW(model.forward(bad, cache), Error);
  EXPECT_EQ(cache.length(), 4);
}

TEST(Forward, EditsAreSeenByWhatFollows) {
  for (const char* name : {"llama-plain", "gpt2-plain", "neox-parallel", "neox-sequential"}) {
    const Model model = Model::load(data_folder(name));
    const TokenBatch batch = load_reference(name).batch;
    // Adding a vector to a point that the residual stream takes in moves resid_post by that vector
    // plus what the later parts of the block make of it; at the block's end by the vector alone.
    for (const HookPoint point : {HookPoint::kMlpOut, HookPoint::kResidPost}) {
      std::vector<float> before;
      std::vector<float> after;
      ForwardOptions options;
      options.logits = Logits::kAll;
      options.hooks = {Hook{point, 0}, Hook{HookPoint::kResidPre, 1}};
      bool edit = false;
      options.on_hook = [&](const Hook& hook, MatView<float> x) {
        if (hook.layer == 1) {
          (edit ? after : before) = flat(x);
        } else if (edit) {
          for (std::int64_t r = 0; r < x.rows(); ++r) {
            for (std::int64_t c = 0; c < x.cols(); ++c) x(r, c) += static_cast<float>(c % 3);
          }
        }
      };
      const Tensor plain = model.forward(batch, options);
      edit = true;
      const Tensor steered = model.forward(batch, options);
      ASSERT_EQ(before.size(), after.size());
      for (std::size_t i = 0; i < before.size(); ++i) {
        const auto column = i % static_cast<std::size_t>(model.config().d_model);
        before[i] += static_cast<float>(column % 3);
      }
      EXPECT_LE(relative_error(after, before), 1e-6) << name;
      EXPECT_GT(relative_error(steered.data<float>(), plain.data<float>()), 1e-2) << name;
    }
    // Every other point of the block reaches the logits as well.
    for (const std::string& point : hook_names()) {
      const Hook hook{parse_hook(point), 0};
      if (!has_hook(model.config(), hook.point)) continue;
      ForwardOptions options;
      options.logits = Logits::kAll;
      options.hooks = {hook};
      options.on_hook = [](const Hook&, MatView<float>) {};
      const Tensor plain = model.forward(batch, options);
      // The second row: the first sees itself alone, whatever its query is.
      options.on_hook = [](const Hook&, MatView<float> x) { x(1, 0) += 5.0F; };
      const Tensor steered = model.forward(batch, options);
      EXPECT_GT(relative_error(steered.data<float>(), plain.data<float>()), 1e-4) << name << point;
    }
  }
}

TEST(Forward, ZeroingEveryContributionLeavesTheEmbedding) {
  const Model model = Model::load(data_folder("llama-plain"));
  const TokenBatch batch = load_reference("llama-plain").batch;
  ForwardOptions options;
  std::vector<float> first;
  std::vector<float> last;
  options.hooks = {{HookPoint::kResidPre, 0}, {HookPoint::kAttnOut, 0}, {HookPoint::kMlpOut, 0},
                   {HookPoint::kAttnOut, 1},  {HookPoint::kMlpOut, 1},  {HookPoint::kResidPost, 1}};
  options.on_hook = [&](const Hook& hook, MatView<float> x) {
    if (hook.point == HookPoint::kResidPre) {
      first = flat(x);
    } else if (hook.point == HookPoint::kResidPost) {
      last = flat(x);
    } else {
      for (std::int64_t r = 0; r < x.rows(); ++r) std::fill(x.row(r).begin(), x.row(r).end(), 0.0F);
    }
  };
  model.forward(batch, options);
  EXPECT_EQ(first, last);
}

TEST(Forward, LongBatchesGoInChunksWithoutASeam) {
  // More rows than a chunk holds, in sequences that straddle its ends.
  ModelConfig config = bench_llama_config();
  config.d_model = 32;
  config.n_layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 8;
  config.rope.dim = 8;
  config.d_mlp = 48;
  config.vocab_size = 97;
  const Model model = make_random_model(config, 5);
  Rng rng(11);
  TokenBatch batch;
  for (const std::int64_t length : {300, 700, 1, 450}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(length));
    for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(97));
    batch.append(ids);
  }
  const auto collect = [&](const TokenBatch& b, std::vector<Hook> hooks) {
    std::vector<float> out;
    ForwardOptions options;
    const Hook last = hooks.back();
    options.hooks = std::move(hooks);
    options.on_hook = [&](const Hook& hook, MatView<float> x) {
      if (hook == last) out = flat(x);
    };
    model.forward(b, options);
    return out;
  };
  const Hook end{HookPoint::kResidPost, 1};
  const std::vector<float> all = collect(batch, {end});
  const std::vector<float> seen =
      collect(batch, {{HookPoint::kMlpIn, 0}, {HookPoint::kMlpPost, 1}, end});
  EXPECT_LE(relative_error(seen, all), kOrderTolerance);
  for (std::size_t s = 0; s < 4; ++s) {
    TokenBatch one;
    const auto begin = static_cast<std::size_t>(batch.boundaries[s]);
    const auto end_row = static_cast<std::size_t>(batch.boundaries[s + 1]);
    one.append(std::span(batch.ids).subspan(begin, end_row - begin));
    const auto part = std::span(all).subspan(begin * 32, (end_row - begin) * 32);
    EXPECT_LE(relative_error(collect(one, {end}), part), kOrderTolerance);
  }
}

TEST(Forward, DoesNotDependOnTheNumberOfThreads) {
  const Model model = Model::load(data_folder("llama-plain"));
  const TokenBatch batch = load_reference("llama-plain").batch;
  ForwardOptions options;
  options.logits = Logits::kAll;
  const int threads = num_threads();
  set_num_threads(1);
  const auto one = flat(model.forward(batch, options).mat<float>());
  set_num_threads(4);
  const auto four = flat(model.forward(batch, options).mat<float>());
  set_num_threads(threads);
  EXPECT_EQ(one, four);
}

TEST(Forward, RunsFromSeveralThreadsAtOnce) {
  const Model model = Model::load(data_folder("llama-rope-yarn"));
  const TokenBatch batch = load_reference("llama-rope-yarn").batch;
  ForwardOptions options;
  options.logits = Logits::kAll;
  const auto want = flat(model.forward(batch, options).mat<float>());
  std::vector<std::vector<float>> got(3);
  std::vector<std::thread> threads;
  for (auto& result : got) {
    threads.emplace_back([&model, &batch, &options, &result] {
      for (int i = 0; i < 5; ++i) result = flat(model.forward(batch, options).mat<float>());
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : got) EXPECT_EQ(result, want);
}

ModelConfig small_config() {
  ModelConfig config = bench_llama_config();
  config.d_model = 128;
  config.n_heads = 2;
  config.n_kv_heads = 2;
  config.d_mlp = 256;
  config.vocab_size = 64;
  return config;
}

/// Processor time of this thread, which other programs do not lengthen much; the best of some.
double cost_of(const Model& model, const Hook& hook) {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>(256, 3));
  const int threads = num_threads();
  set_num_threads(1);
  ForwardOptions options;
  options.hooks = {hook};
  options.on_hook = [](const Hook&, MatView<float>) {};
  double best = 1e9;
  for (int i = 0; i < 7; ++i) {
    const std::clock_t start = std::clock();
    model.forward(batch, options);
    best = std::min(best, static_cast<double>(std::clock() - start));
  }
  set_num_threads(threads);
  return best;
}

TEST(Forward, StopsAfterTheLastHook) {
  const Model model = make_random_model(small_config(), 1);
  const double first = cost_of(model, {HookPoint::kMlpOut, 0});
  const double last = cost_of(model, {HookPoint::kMlpOut, 11});
  // A twelfth; a third would already mean that later layers ran.
  EXPECT_LT(first, last / 3.0) << first << " " << last;
}

TEST(Forward, StopsInsideABlock) {
  ModelConfig config = small_config();
  config.n_layers = 2;
  config.d_mlp = 8192;  // The MLPs' 3 · d_mlp are 64 times the width of queries, keys and values.
  for (const bool parallel : {false, true}) {
    config.parallel_residual = parallel;
    const Model model = make_random_model(config, 1);
    const double all = cost_of(model, {HookPoint::kMlpOut, 0});
    for (const HookPoint point : {HookPoint::kEmbed, HookPoint::kQ, HookPoint::kK, HookPoint::kV,
                                  HookPoint::kAttnZ, HookPoint::kAttnOut}) {
      const double part = cost_of(model, {point, 0});
      EXPECT_LT(part, all / 3.0) << hook_name(point) << " " << part << " " << all;
    }
  }
}

TEST(Forward, NothingAskedIsNothingDone) {
  const Model model = Model::load(data_folder("llama-plain"));
  TokenBatch batch;
  EXPECT_FALSE(model.forward(batch).defined());
  batch.append(std::vector<std::int32_t>{1, 2});
  EXPECT_FALSE(model.forward(batch).defined());
  batch.clear();
  ForwardOptions options;
  options.logits = Logits::kAll;
  EXPECT_EQ(model.forward(batch, options).shape(), (std::vector<std::int64_t>{0, 67}));
}

TEST(RandomModel, SameSeedSameWeights) {
  ModelConfig config = bench_llama_config();
  config.d_model = 16;
  config.n_layers = 1;
  config.n_heads = 2;
  config.n_kv_heads = 2;
  config.head_dim = 8;
  config.rope.dim = 8;
  config.d_mlp = 24;
  config.vocab_size = 50;
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 2, 3});
  ForwardOptions options;
  options.logits = Logits::kAll;
  const auto logits = [&](std::uint64_t seed) {
    return flat(make_random_model(config, seed).forward(batch, options).mat<float>());
  };
  EXPECT_EQ(logits(1), logits(1));
  EXPECT_NE(logits(1), logits(2));
  EXPECT_EQ(config.parameter_count(), 50 * 16 * 2 + 16 + 2 * 16 + 16 * 48 + 16 * 16 + 3 * 16 * 24);
}

}  // namespace
}  // namespace drrik
