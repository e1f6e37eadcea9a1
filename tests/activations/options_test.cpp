#include "drrik/activations/options.h"

#include "activations/fixture.h"

namespace drrik {
namespace {

TEST(ExtractorOptions, SortsFlatNamesIntoGroups) {
  const ExtractorOptions options = extractor_options({{"model_name", "m"},
                                                      {"torch_dtype", "bfloat16"},
                                                      {"dataset_name", "d.txt"},
                                                      {"num_samples", "7"},
                                                      {"max_length", "99"},
                                                      {"mlp_layers", "[2, 0]"},
                                                      {"hook", "resid_post"},
                                                      {"positions", "mean"},
                                                      {"store_dtype", "float16"},
                                                      {"batch_size", "4"},
                                                      {"output_dir", "out"}});
  EXPECT_EQ(options.model.model_name, "m");
  EXPECT_EQ(options.model.torch_dtype, DType::kBF16);
  EXPECT_EQ(options.dataset.dataset_name, "d.txt");
  EXPECT_EQ(options.dataset.num_samples, 7);
  EXPECT_EQ(options.dataset.max_length, 99);
  EXPECT_EQ(options.extraction.mlp_layers, (std::vector<std::int64_t>{2, 0}));
  EXPECT_EQ(options.extraction.hook, HookPoint::kResidPost);
  EXPECT_EQ(options.extraction.positions, Positions::kMean);
  EXPECT_EQ(options.extraction.store_dtype, DType::kF16);
  EXPECT_EQ(options.extraction.batch_size, 4);
  EXPECT_EQ(options.extraction.output_dir, "out");
  options.validate();
}

TEST(ExtractorOptions, TakesAHookByAnyOfItsNames) {
  const std::string model = std::string(DRRIK_TEST_DATA) + "/model/llama-plain";
  const std::string module = "model.layers[1].mlp.down_proj.input";
  const auto options = extractor_options({{"hook", module}, {"model_name", model}});
  EXPECT_EQ(options.extraction.hook, HookPoint::kMlpPost);
  EXPECT_EQ(options.extraction.mlp_layers, std::vector<std::int64_t>{1});
  EXPECT_ERROR(extractor_options({{"hook", module}, {"model_name", model}, {"layers", "0"}}),
               kUsage, "layer 0 was asked for");
  EXPECT_ERROR(extractor_options({{"hook", module}}), kUsage, "model_name");
  EXPECT_ERROR(extractor_options({{"hook", "nose"}}), kUsage, "nose");
}

TEST(ExtractorOptions, RefusesWrongNamesAndValues) {
  EXPECT_ERROR(extractor_options({{"max_lenght", "3"}}), kUsage, "max_length");
  EXPECT_ERROR(extractor_options({{"max_length", "3x"}}), kUsage, "3x");
  EXPECT_ERROR(extractor_options({{"mlp_layers", "1,,2"}}), kUsage, "mlp_layers");
  EXPECT_ERROR(extractor_options({{"torch_dtype", "int8"}}), kUsage, "int8");
  EXPECT_ERROR(extractor_options({{"positions", "middle"}}), kUsage, "middle");
  EXPECT_ERROR(extractor_options({{"trust_remote_code", "perhaps"}}), kUsage, "perhaps");
}

TEST(ExtractorOptions, ValidatesRanges) {
  const auto with = [](const std::string& name, const std::string& value) {
    ExtractorOptions options = extractor_options({{name, value}});
    if (name != "layers") options.extraction.mlp_layers = {0};
    options.validate();
  };
  EXPECT_ERROR(with("max_length", "0"), kUsage, "max_length");
  EXPECT_ERROR(with("num_samples", "0"), kUsage, "num_samples");
  EXPECT_ERROR(with("batch_size", "-1"), kUsage, "batch_size");
  EXPECT_ERROR(with("max_batch_tokens", "0"), kUsage, "max_batch_tokens");
  EXPECT_ERROR(with("shard_bytes", "0"), kUsage, "shard_bytes");
  EXPECT_ERROR(with("device_map", "cuda"), kUsage, "cuda");
  EXPECT_ERROR(with("layers", "-1"), kUsage, "layer -1");
  EXPECT_ERROR(with("layers", "1,1"), kUsage, "twice");
  EXPECT_ERROR(ExtractorOptions{}.validate(), kUsage, "no layer");
}

TEST(Positions, NamesReadBack) {
  for (const auto p : {Positions::kLast, Positions::kAll, Positions::kFirst, Positions::kMean}) {
    EXPECT_EQ(parse_positions(positions_name(p)), p);
  }
}

}  // namespace
}  // namespace drrik
