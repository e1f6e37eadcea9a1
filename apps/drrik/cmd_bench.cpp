// drrik bench: how fast this machine does the work, as a fraction of a limit measured in the same
// run: the rate of the matrix products alone, or the memory's bandwidth.

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "bench_load.h"
#include "bench_store.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/rng.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/data/source.h"
#include "drrik/model/generate.h"
#include "drrik/model/random_model.h"
#include "drrik/ops/cpu.h"
#include "drrik/ops/gemm.h"
#include "drrik/sae/io.h"
#include "drrik/sae/sparse_coder.h"
#include "drrik/text/tokenizer.h"
#include "drrik/train/bench.h"
#include "drrik/viz/dashboard.h"
#include "model_flags.h"
#include "sae_flags.h"
#include "temporary_folder.h"

namespace drrik::cli {
namespace {

constexpr std::uint64_t kSeed = 42;

struct Measured {
  std::string name;
  double value = 0;
  std::string unit;
  double limit = 0;  ///< In the same unit; 0: none.
  std::string limit_is;
};

struct Flags {
  std::vector<std::string> what;
  std::string dtype;
  double seconds = 2.0;
  std::int64_t d = 512;
  std::string architecture = "relu";
  double l0 = 32;
  double dead = 0;
  std::int64_t hidden = 4096;
  std::vector<std::int64_t> batch = {256, 4096};
  std::string tokenizer;
  std::string dataset;
  std::string text_column;
  std::int64_t size = 1000;
  int rounds = 5;
  std::string model;
  std::string sae;
  std::int64_t tokens = 200'000;
};

using Results = std::vector<Measured>;

std::vector<Compute> precisions(const Flags& flags) {
  if (!flags.dtype.empty()) return {parse_compute(flags.dtype)};
  return {Compute::kF32, Compute::kBF16};
}

std::string name_of(Compute compute) { return compute == Compute::kF32 ? "float32" : "bfloat16"; }

void bench_gemm(const Flags& flags, Results& results) {
  const std::vector<GemmShape> shapes = {{4096, 512, 4096}, {4096, 768, 2304}, {4096, 768, 4096},
                                         {4096, 2048, 768}, {256, 512, 4096},  {4096, 2048, 16384}};
  for (const Compute compute : precisions(flags)) {
    std::vector<double> rates;
    for (const GemmShape& shape : shapes) {
      check_interrupt("measuring");
      rates.push_back(measure_gemm_rate(std::span(&shape, 1), compute, flags.seconds / 4));
    }
    const double best = *std::ranges::max_element(rates);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      results.push_back({str("gemm ", name_of(compute), " ", shapes[i].rows, "x", shapes[i].in, "x",
                             shapes[i].out),
                         rates[i] / 1e9, "GFLOP/s", best / 1e9, "best shape"});
    }
  }
  results.push_back({"stream read", measure_stream_bandwidth() / 1e9, "GB/s", 0, ""});
}

// Seconds of the fastest call.
template <typename F>
double best_time(double budget, F&& f) {
  double best = 1e300;
  const double end = monotonic_seconds() + budget;
  do {
    check_interrupt("measuring");
    const double start = monotonic_seconds();
    f();
    best = std::min(best, monotonic_seconds() - start);
  } while (monotonic_seconds() < end);
  return best;
}

void bench_extract(const Flags& flags, Results& results) {
  const ModelConfig config = bench_llama_config();
  constexpr std::int64_t kTokens = 512;
  constexpr std::int64_t kTexts = 4;  // the extractor's default of 2048 tokens a pass
  Rng rng(kSeed);
  TokenBatch batch;
  for (std::int64_t s = 0; s < kTexts; ++s) {
    std::vector<std::int32_t> ids(kTokens);
    for (auto& id : ids) {
      id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(config.vocab_size)));
    }
    batch.append(ids);
  }
  const auto rows = static_cast<double>(batch.rows());
  for (const Compute compute : precisions(flags)) {
    const Model model = make_random_model(config, kSeed, {.compute = compute, .skip_head = true});
    const auto forward = [&](std::int64_t layer) {
      model.forward(batch, {.hooks = {{HookPoint::kMlpOut, layer}},
                            .on_hook = [](const Hook&, MatView<float>) {}});
    };
    const std::vector<GemmShape> products = forward_products(config, batch.rows());
    double flop = 0;
    for (const GemmShape& p : products) {
      flop += 2.0 * static_cast<double>(p.rows * p.in * p.out * p.count);
    }
    forward(config.n_layers - 1);
    // Limit and work take turns, so that a slow moment of the machine falls on both.
    double rate = 0;
    double whole = 1e300;
    for (int round = 0; round < 3; ++round) {
      rate = std::max(rate, measure_gemm_rate(products, compute, flags.seconds / 3));
      whole = std::min(whole, best_time(flags.seconds / 3, [&] { forward(config.n_layers - 1); }));
    }
    const double first = best_time(flags.seconds / 3, [&] { forward(0); });
    results.push_back({str("extract ", name_of(compute), " 134M Llama, layer 11"), rows / whole,
                       "tokens/s", rows * rate / flop, "products alone"});
    results.push_back({str("extract ", name_of(compute), " 134M Llama, layer 0 cost"),
                       first / whole, "of layer 11", 0, ""});
  }
}

void bench_generate(const Flags& flags, Results& results) {
  const ModelConfig config = bench_llama_config();
  const std::vector<std::int32_t> prompt = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const Compute compute : precisions(flags)) {
    // From its file, as any model runs.
    const TemporaryFolder folder;
    write_random_model(config, kSeed, compute == Compute::kF32 ? DType::kF32 : DType::kBF16,
                       folder.path());
    const Model model =
        Model::load(folder.path(), {.compute = compute, .residency = Residency::kResident});
    double bandwidth = 0;
    double rate = 0;
    for (int round = 0; round < 3; ++round) {
      bandwidth = std::max(bandwidth, measure_stream_bandwidth(std::size_t{512} << 20, 0.5));
      SamplingOptions sampling;
      sampling.temperature = 0.0;
      sampling.max_new_tokens = 64;
      sampling.stop_at_eos = false;
      check_interrupt("measuring");
      const Generated made = generate(model, prompt, sampling);
      rate = std::max(rate, static_cast<double>(made.ids.size() - 1) / made.decode_seconds);
    }
    results.push_back({str("generate ", name_of(compute), " 134M Llama"), rate, "tokens/s",
                       bandwidth / static_cast<double>(model.weight_bytes_per_token()),
                       "memory read"});
  }
}

void bench_train(const Flags& flags, Results& results) {
  const Compute compute = flags.dtype.empty() ? Compute::kF32 : parse_compute(flags.dtype);
  for (const std::int64_t batch : flags.batch) {
    for (TrainBenchResult& row : run_train_bench({.d = flags.d,
                                 .hidden = flags.hidden,
                                 .batch = batch,
                                 .seconds = flags.seconds,
                                 .l0 = flags.l0,
                                 .architecture = flags.architecture,
                                 .compute = compute,
                                 .dead_share = flags.dead})) {
      results.push_back({row.name, row.value, row.unit, row.limit, row.limit_is});
    }
  }
}

void bench_load(const Flags& flags, Results& results) {
  for (const Compute compute : precisions(flags)) {
    for (const DType stored : {DType::kF32, DType::kBF16}) {
      for (const LoadTimes& m : measure_load(compute, stored, flags.size, flags.rounds)) {
        const auto bytes = static_cast<double>(m.bytes) / 1e6;
        results.push_back(
            {m.name, bytes / m.load_seconds, "MB/s", bytes / m.read_seconds, "read() of the file"});
      }
    }
  }
}

void bench_store(const Flags& flags, Results& results) {
  const Compute compute = flags.dtype.empty() ? Compute::kF32 : parse_compute(flags.dtype);
  for (const std::int64_t batch : flags.batch) {
    const StoreRates rates = measure_store({.d = flags.d,
                                            .hidden = flags.hidden,
                                            .batch = batch,
                                            .architecture = flags.architecture,
                                            .compute = compute,
                                            .megabytes = flags.size,
                                            .rounds = flags.rounds});
    const std::string shape = str(flags.d, "/", flags.hidden, "/", batch);
    results.push_back({str("train from a store of ", flags.size, " MB ", shape), rates.store,
                       "rows/s", rates.memory, "from memory"});
    results.push_back(
        {str("memory it took on ", shape), static_cast<double>(rates.grown) / 1e6, "MB", 0, ""});
  }
}

// From a dataset's rows to tokens: reading alone, tokenising alone, and one after the other.
void bench_tokenize(const Flags& flags, Results& results) {
  if (flags.tokenizer.empty() || flags.dataset.empty()) {
    throw_usage("bench tokenize: wants --tokenizer (a folder or tokenizer.json) and --dataset");
  }
  const Tokenizer tokenizer = std::filesystem::is_directory(flags.tokenizer)
                                  ? Tokenizer::from_folder(flags.tokenizer)
                                  : Tokenizer::from_file(flags.tokenizer);
  DatasetOptions dataset;
  dataset.path = flags.dataset;
  dataset.text_column = flags.text_column;
  constexpr std::size_t kBatchBytes = std::size_t{4} << 20;
  double bytes = 0;
  double encoding = 0;
  const auto pass = [&](bool encode) {
    bytes = encoding = 0;
    const auto source = open_dataset(dataset);
    std::vector<std::string> texts;
    std::size_t held = 0;
    const auto flush = [&] {
      const std::vector<std::string_view> views(texts.begin(), texts.end());
      const double start = monotonic_seconds();
      if (encode) tokenizer.encode_batch(views, {.add_special_tokens = false});
      encoding += monotonic_seconds() - start;
      texts.clear();
      held = 0;
    };
    while (auto sample = source->next()) {
      held += sample->text.size();
      bytes += static_cast<double>(sample->text.size());
      texts.push_back(std::move(sample->text));
      if (held >= kBatchBytes) flush();
    }
    flush();
  };
  const double reading = best_time(flags.seconds, [&] { pass(false); });
  double alone = 1e300;
  const double both = best_time(flags.seconds, [&] {
    pass(true);
    alone = std::min(alone, encoding);
  });
  results.push_back({"rows of the dataset", bytes / reading / 1e6, "MB/s", 0, ""});
  results.push_back({"tokens of texts in memory", bytes / alone / 1e6, "MB/s", 0, ""});
  results.push_back({"from the dataset to tokens", bytes / both / 1e6, "MB/s",
                     bytes / (reading + alone) / 1e6, "reading and tokenising"});
}

// The pass over texts that a dashboard is made of, against the same pass that only runs the model
// and encodes.
void bench_dashboard(const Flags& flags, Results& results) {
  if (flags.model.empty() || flags.dataset.empty()) {
    throw_usage("bench dashboard: wants --model and --dataset (and --sae, or --hidden latents at ",
                "random)");
  }
  const std::filesystem::path folder = resolve_model_folder(flags.model);
  DashboardInputs inputs;
  ModelOptions load;
  load.compute = flags.dtype.empty() ? Compute::kF32 : parse_compute(flags.dtype);
  inputs.model = std::make_shared<const Model>(Model::load(folder, load));
  inputs.tokenizer = std::make_shared<const Tokenizer>(Tokenizer::from_folder(folder));
  const ModelConfig& config = inputs.model->config();
  if (flags.sae.empty()) {
    inputs.hook = {HookPoint::kMlpOut, config.n_layers / 2};
    SparseCoderConfig coder;
    coder.d_in = config.d_model;
    coder.d_sae = flags.hidden;
    coder.k = std::min(static_cast<std::int64_t>(flags.l0), flags.hidden);
    Rng rng(kSeed);
    inputs.sae = std::make_shared<const SparseCoder>(SparseCoder::random(coder, {}, rng));
  } else {
    LoadedSae loaded = load_sae_with_record(flags.sae);
    inputs.hook = hook_of({}, "", loaded.record, config);
    inputs.sae = std::shared_ptr<const Sae>(std::move(loaded.sae));
    inputs.record = std::move(loaded.record);
  }
  DashboardOptions options;
  options.dataset.dataset_name = flags.dataset;
  options.dataset.text_column = flags.text_column;
  options.tokens = flags.tokens;
  const DashboardRates rates = measure_dashboard(inputs, options);
  const auto rows = static_cast<double>(rates.rows);
  results.push_back({str("dashboard pass, ", inputs.sae->d_sae(), " latents"),
                     rows / rates.whole_seconds, "tokens/s", rows / rates.plain_seconds,
                     "model and encoder alone"});
  results.push_back({"dashboard, what the weights say", rates.weights_seconds, "s", 0, ""});
  results.push_back({"peak memory", static_cast<double>(peak_resident_bytes()) / 1e6, "MB", 0, ""});
}

void run(const Globals& globals, const Flags& flags) {
  struct Bench {
    const char* name;
    void (*run)(const Flags&, Results&);
    bool by_default = true;
  };
  static constexpr Bench kTable[] = {{"gemm", bench_gemm},
                                     {"extract", bench_extract},
                                     {"generate", bench_generate},
                                     {"train", bench_train},
                                     // These two write a gigabyte.
                                     {"load", bench_load, false},
                                     {"store", bench_store, false},
                                     {"tokenize", bench_tokenize, false},
                                     // Needs a model's files.
                                     {"dashboard", bench_dashboard, false}};
  std::vector<std::string> names;
  for (const Bench& bench : kTable) names.emplace_back(bench.name);
  for (const std::string& what : flags.what) {
    if (std::ranges::find(names, what) == names.end()) {
      throw_usage("bench '", what, "' is unknown; wanted ", join(names), did_you_mean(what, names));
    }
  }
  Results results;
  for (const Bench& bench : kTable) {
    if ((flags.what.empty() && bench.by_default) ||
        std::ranges::find(flags.what, bench.name) != flags.what.end()) {
      bench.run(flags, results);
    }
  }
  Json json = Json::array();
  std::string text = str(cpu_description(), "\n");
  for (const Measured& m : results) {
    Json row{{"name", m.name}, {"value", m.value}, {"unit", m.unit}};
    row["limit"] = m.limit > 0 ? Json(m.limit) : Json(nullptr);
    row["fraction"] = m.limit > 0 ? Json(m.value / m.limit) : Json(nullptr);
    json.push_back(row);
    char line[256];
    if (m.limit > 0) {
      std::snprintf(line, sizeof line, "%-44s %10.4g %-10s %5.2f of %.4g (%s)\n", m.name.c_str(),
                    m.value, m.unit.c_str(), m.value / m.limit, m.limit, m.limit_is.c_str());
    } else {
      std::snprintf(line, sizeof line, "%-44s %10.4g %s\n", m.name.c_str(), m.value,
                    m.unit.c_str());
    }
    text += line;
  }
  emit(globals, {{"machine", cpu_description()}, {"results", json}}, text);
}

}  // namespace

Command bench_command() {
  return {
      "bench", "Measure products, extraction, generation and training on this machine",
      "  drrik bench\n"
      "  drrik bench extract --dtype bfloat16\n"
      "  drrik bench train --d 768 --hidden 24576 --batch 4096 --json\n"
      "  drrik bench tokenize --tokenizer assets/demo/model --dataset assets/demo/text.jsonl\n"
      "  drrik bench dashboard --model assets/demo/model --dataset assets/demo/text.jsonl "
      "--hidden 16384\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        app.add_option("what", flags->what,
                       "gemm, extract, generate, train (default: these), load, store, tokenize, "
                       "dashboard");
        app.add_option("--dtype", flags->dtype, "float32 or bfloat16 (default: both)");
        app.add_option("--seconds", flags->seconds, "Time for each measurement")
            ->capture_default_str()
            ->check(CLI::Range(0.01, 600.0));
        app.add_option("--d", flags->d, "train, store: width of the activations")
            ->capture_default_str()
            ->check(CLI::Range(1, 1 << 20));
        app.add_option("--hidden", flags->hidden, "train, store, dashboard: number of latents")
            ->capture_default_str()
            ->check(CLI::Range(1, 1 << 24));
        app.add_option("--batch", flags->batch, "train, store: rows in a batch")
            ->capture_default_str()
            ->delimiter(',')
            ->check(CLI::Range(1, 1 << 20));
        app.add_option("--arch", flags->architecture, "train, store: relu, topk, batchtopk, ...")
            ->capture_default_str();
        app.add_option("--l0", flags->l0, "train: active latents a row")
            ->capture_default_str()
            ->check(CLI::Range(1.0, 1e6));
        app.add_option("--dead", flags->dead, "train: share of latents that are dead")
            ->capture_default_str()
            ->check(CLI::Range(0.0, 1.0));
        app.add_option("--size", flags->size, "load, store: megabytes that are written")
            ->capture_default_str()
            ->check(CLI::Range(1, 1 << 20));
        app.add_option("--rounds", flags->rounds, "load, store: of which the fastest counts")
            ->capture_default_str()
            ->check(CLI::Range(1, 100));
        app.add_option("--tokenizer", flags->tokenizer,
                       "tokenize: a model folder or a tokenizer.json");
        app.add_option("--dataset", flags->dataset, "tokenize, dashboard: a file, folder or glob");
        app.add_option("--text-column", flags->text_column,
                       "tokenize, dashboard: its column of texts");
        app.add_option("--model", flags->model, "dashboard: a model folder");
        app.add_option("--sae", flags->sae, "dashboard: an autoencoder (default: a random one)");
        app.add_option("--tokens", flags->tokens, "dashboard: tokens of the pass")
            ->capture_default_str()
            ->check(CLI::Range(1, 1 << 30));
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
