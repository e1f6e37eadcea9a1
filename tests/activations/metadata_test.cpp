#include "activations/metadata.h"

#include "activations/fixture.h"
#include "drrik/activations/row_source.h"

namespace drrik {
namespace {

using test::Scratch;

// Two samples of three rows in all, positions as asked for.
std::filesystem::path make_store(const Scratch& scratch, Positions positions) {
  const bool all = positions == Positions::kAll;
  ActivationMetadata metadata;
  metadata.activation_dim = 2;
  metadata.layer_paths = {"model.layers[0].mlp"};
  metadata.config.extraction.mlp_layers = {0};
  metadata.config.extraction.positions = positions;
  metadata.samples = {{0, 0, all ? 2 : 1, "one", {7, 8}}, {1, all ? 2 : 1, 1, "two", {9}}};
  const auto folder = scratch / std::string(positions_name(positions));
  save_activations(Tensor(DType::kF32, {all ? 3 : 2, 2}), metadata, folder);
  return folder;
}

void edit(const std::filesystem::path& folder, const std::string& from, const std::string& to) {
  std::string text = read_file(folder / "metadata.json");
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  write_file_atomic(folder / "metadata.json", text.replace(at, from.size(), to));
}

// Whoever looks a row's token up goes by the ids: they must be there.
TEST(ActivationMetadata, RefusesSamplesWhoseRowsAndTokensDisagree) {
  const Scratch scratch;
  const auto all = make_store(scratch, Positions::kAll);
  EXPECT_EQ(load_activation_metadata(all).samples.size(), 2U);
  edit(all, "[7,8]", "[7]");
  EXPECT_ERROR(load_activation_metadata(all), kData, "samples[0]: 2 rows, wanted 1");
  edit(all, "[7]", "[7,8,9]");
  EXPECT_ERROR(load_activation_metadata(all), kData, "samples[0]: 2 rows, wanted 3");
  edit(all, "[7,8,9]", "[]");
  EXPECT_ERROR(load_activation_metadata(all), kData, "'input_ids' is empty");
  EXPECT_EQ(load_activation_metadata(all, WithSamples::kNo).num_rows, 3);
  for (const Positions positions : {Positions::kLast, Positions::kFirst, Positions::kMean}) {
    const auto one = make_store(scratch, positions);
    EXPECT_EQ(load_activation_metadata(one).samples.size(), 2U);
    edit(one, "[9]", "[]");
    EXPECT_ERROR(load_activation_metadata(one), kData, "samples[1]: 'input_ids' is empty");
  }
  // The rows are added up before, so a sample of another number of rows needs one of none.
  const auto last = make_store(scratch, Positions::kLast);
  edit(last, "\"rows\":1,\"text\":\"one\"", "\"rows\":2,\"text\":\"one\"");
  edit(last, "\"row\":1,\"rows\":1", "\"row\":2,\"rows\":0");
  EXPECT_ERROR(load_activation_metadata(last), kData, "samples[0]: 2 rows, wanted 1");
}

// Where 'samples' stands in the file does not matter.
TEST(ActivationMetadata, ChecksSamplesThatComeBeforeTheConfiguration) {
  const Scratch scratch;
  const auto folder = make_store(scratch, Positions::kAll);
  Json json = Json::parse(read_file(folder / "metadata.json"));
  Json turned{{"samples", json["samples"]}};
  for (const auto& [key, value] : json.items()) turned[key] = value;
  write_file_atomic(folder / "metadata.json", turned.dump());
  EXPECT_EQ(load_activation_metadata(folder).samples.size(), 2U);
  edit(folder, "[7,8]", "[7]");
  EXPECT_ERROR(load_activation_metadata(folder), kData, "samples[0]: 2 rows, wanted 1");
}

TEST(ActivationMetadata, MayLeaveItsSamplesOut) {
  const Scratch scratch;
  const auto folder = make_store(scratch, Positions::kAll);
  Json json = Json::parse(read_file(folder / "metadata.json"));
  json.erase("samples");
  write_file_atomic(folder / "metadata.json", json.dump());
  EXPECT_TRUE(load_activation_metadata(folder).samples.empty());
  json["samples"] = Json::array();
  write_file_atomic(folder / "metadata.json", json.dump());
  EXPECT_TRUE(load_activation_metadata(folder).samples.empty());
}

// Rows saved without samples are written as one without tokens, for want of a better name.
TEST(ActivationMetadata, RowsSavedWithoutSamplesComeBackWithoutSamples) {
  const Scratch scratch;
  for (const Positions positions : {Positions::kLast, Positions::kAll}) {
    ActivationMetadata metadata;
    metadata.activation_dim = 2;
    metadata.layer_paths = {""};
    metadata.config.extraction.positions = positions;
    save_activations(Tensor(DType::kF32, {5, 2}), metadata, scratch / "a");
    const ActivationMetadata back = load_activation_metadata(scratch / "a");
    EXPECT_TRUE(back.samples.empty());
    EXPECT_EQ(back.num_rows, 5);
    EXPECT_ERROR(back.origin(0), kUsage, "row 0");
  }
}

TEST(ActivationMetadata, IsNotWrittenWhenItContradictsItself) {
  const Scratch scratch;
  ActivationMetadata metadata;
  metadata.activation_dim = 2;
  metadata.layer_paths = {""};
  metadata.config.extraction.positions = Positions::kAll;
  metadata.samples = {{0, 0, 2, "", {7}}};
  EXPECT_ERROR(save_activations(Tensor(DType::kF32, {2, 2}), metadata, scratch / "a"), kUsage,
               "2 rows, wanted 1");
  EXPECT_FALSE(std::filesystem::exists(scratch / "a"));
}

TEST(ActivationMetadata, SyntaxErrorsAreToldByLineAndColumn) {
  const Scratch scratch;
  const auto folder = make_store(scratch, Positions::kAll);
  edit(folder, "\"version\": 1", "\"version\" 1");
  for (const WithSamples samples : {WithSamples::kNo, WithSamples::kYes}) {
    EXPECT_ERROR(load_activation_metadata(folder, samples), kData, "line 3, column ");
    const auto error = test::error_of([&] { load_activation_metadata(folder, samples); });
    EXPECT_EQ(error.second.find("json.exception"), std::string::npos) << error.second;
  }
}

}  // namespace
}  // namespace drrik
