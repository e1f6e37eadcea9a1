// Weights that stay in their files: the same numbers, and the same errors, as weights in memory.

#include <unistd.h>

#include <thread>

#include "drrik/model/kv_cache.h"
#include "drrik/model/random_model.h"
#include "model/compare.h"

namespace drrik {
namespace {

using test::all_hooks;
using test::data_folder;
using test::error_of;
using test::flat;
using test::load_reference;

ModelOptions with(Residency residency, Compute compute = Compute::kF32) {
  ModelOptions options;
  options.residency = residency;
  options.compute = compute;
  return options;
}

std::vector<float> logits_of(const Model& model, const TokenBatch& batch) {
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  const Tensor logits = model.forward(batch, options);
  return {logits.data<float>().begin(), logits.data<float>().end()};
}

class Streaming : public testing::TestWithParam<std::string> {};

TEST_P(Streaming, GivesTheBitsOfAModelInMemory) {
  const TokenBatch batch = load_reference(GetParam()).batch;
  for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
    const Model kept = Model::load(data_folder(GetParam()), with(Residency::kResident, compute));
    const Model streamed =
        Model::load(data_folder(GetParam()), with(Residency::kStreamed, compute));
    EXPECT_FALSE(kept.streamed());
    ASSERT_TRUE(streamed.streamed());
    EXPECT_EQ(logits_of(kept, batch), logits_of(streamed, batch));
    EXPECT_EQ(logits_of(kept, batch), logits_of(streamed, batch)) << "the second time";

    std::vector<std::vector<float>> wanted;
    ForwardOptions options;
    options.hooks = all_hooks(kept);
    options.on_hook = [&](const Hook&, MatView<float> got) { wanted.push_back(flat(got)); };
    kept.forward(batch, options);
    std::size_t at = 0;
    options.on_hook = [&](const Hook&, MatView<float> got) {
      EXPECT_EQ(flat(got), wanted.at(at++));
    };
    streamed.forward(batch, options);
    EXPECT_EQ(at, wanted.size());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Streaming, testing::ValuesIn(test::reference_models()),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// A model's weights are packed by and by, as long batches pay for it; nobody may see when.
TEST(Packing, ChangesNoBit) {
  // Separate, stacked, interleaved and transposed matrices.
  for (const char* name : {"llama-plain", "gpt2-plain", "neox-parallel"}) {
    SCOPED_TRACE(name);
    const TokenBatch full = load_reference(name).batch;
    TokenBatch few;
    few.append(std::vector<std::int32_t>{1, 2, 3});
    TokenBatch many;
    for (int i = 0; i < 200; ++i) many.append(std::span(full.ids).subspan(0, 5));
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      const Model model = Model::load(data_folder(name), with(Residency::kResident, compute));
      const std::vector<float> before = logits_of(model, few);
      const std::vector<float> first = logits_of(model, many);
      for (int i = 0; i < 6; ++i) EXPECT_EQ(logits_of(model, many), first);
      EXPECT_EQ(logits_of(model, few), before);
    }
  }
}

TEST(StreamedModel, ContinuesACachedSequence) {
  const std::vector<std::int32_t> ids = {1, 5, 2, 7};
  std::vector<std::vector<float>> got;
  for (const Residency residency : {Residency::kResident, Residency::kStreamed}) {
    const Model model = Model::load(data_folder("llama-plain"), with(residency));
    KvCache cache = model.make_cache(16);
    std::vector<float> all;
    for (const std::int32_t id : ids) {
      const Tensor logits = model.forward(std::span(&id, 1), cache);
      all.insert(all.end(), logits.data<float>().begin(), logits.data<float>().end());
    }
    got.push_back(all);
  }
  EXPECT_EQ(got[0], got[1]);
}

TEST(StreamedModel, SaysAtLoadingWhatIsWrong) {
  const auto folder = std::filesystem::temp_directory_path() / str("drrik_stream_", ::getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::copy(data_folder("llama-plain"), folder);
  std::string text = read_file(folder / "config.json");
  const auto at = text.find("\"num_hidden_layers\": ");
  ASSERT_NE(at, std::string::npos);
  text[at + 21] = '9';
  write_file_atomic(folder / "config.json", text);
  const auto kept = error_of([&] { Model::load(folder, with(Residency::kResident)); });
  const auto streamed = error_of([&] { Model::load(folder, with(Residency::kStreamed)); });
  EXPECT_EQ(kept, streamed);
  EXPECT_NE(streamed.second.find("absent from"), std::string::npos) << streamed.second;
  std::filesystem::remove_all(folder);
}

TEST(StreamedModel, ServesSeveralThreads) {
  const TokenBatch batch = load_reference("llama-plain").batch;
  const Model model = Model::load(data_folder("llama-plain"), with(Residency::kStreamed));
  const std::vector<float> wanted = logits_of(model, batch);
  std::vector<std::vector<float>> got(3);
  std::vector<std::thread> threads;
  for (auto& result : got) threads.emplace_back([&] { result = logits_of(model, batch); });
  for (auto& thread : threads) thread.join();
  for (const auto& result : got) EXPECT_EQ(result, wanted);
}

TEST(StreamedModel, HoldsOneLayerAtATime) {
  ModelConfig config = bench_llama_config();
  config.n_layers = 40;  // of 7.1 M parameters, 28 MB, each: 1.1 GB in all
  const Model model = make_random_model(config, 1, with(Residency::kStreamed));
  EXPECT_NEAR(static_cast<double>(model.weight_bytes_per_token()), 1.23e9, 5e7);
  // No test may take that much; what it would take as it runs is measured by hand.
  EXPECT_FALSE(make_random_model(config, 1, {.max_layers = 1, .skip_head = true}).streamed());
}

}  // namespace
}  // namespace drrik
