#include "drrik/activations/row_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "activations/fixture.h"
#include "drrik/activations/store.h"
#include "drrik/io/npy.h"

namespace drrik {
namespace {

using test::Scratch;

// Multiples of 1/4 below 2^8: exact in float32 and float16; in bfloat16 (8 bits) below 2^6.
Tensor counting(std::int64_t rows, std::int64_t dim, int period = 250) {
  Tensor out(DType::kF32, {rows, dim});
  auto values = out.mutable_data<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(i) % period - period / 2) / 4.0F;
  }
  return out;
}

// As numpy.save writes a transposed array.
void write_fortran(const std::filesystem::path& path, const Tensor& rows) {
  const auto from = rows.mat<float>();
  Tensor columns(DType::kF32, rows.shape());
  auto to = columns.mutable_data<float>().begin();
  for (std::int64_t c = 0; c < from.cols(); ++c) {
    for (std::int64_t r = 0; r < from.rows(); ++r) *to++ = from(r, c);
  }
  write_npy(path, columns);
  std::string bytes = read_file(path);
  write_file_atomic(path, bytes.replace(bytes.find("False"), 5, "True "));
}

void expect_rows(const RowSource& source, const Tensor& want) {
  const auto expected = want.mat<float>();
  ASSERT_EQ(source.rows(), expected.rows());
  ASSERT_EQ(source.dim(), expected.cols());
  std::vector<float> buffer(static_cast<std::size_t>(want.elements()));
  // Into a wider matrix, so that strides matter.
  std::vector<float> wide(static_cast<std::size_t>(expected.rows() * (expected.cols() + 3)), -1.0F);
  const MatView<float> strided(wide.data(), expected.rows(), expected.cols(), expected.cols() + 3);
  source.read(0, strided);
  for (std::int64_t r = 0; r < expected.rows(); ++r) {
    for (std::int64_t c = 0; c < expected.cols(); ++c) {
      ASSERT_EQ(strided(r, c), expected(r, c)) << r << ", " << c;
    }
    for (std::int64_t c = 0; c < 3; ++c) {
      ASSERT_EQ(wide[static_cast<std::size_t>((r + 1) * (expected.cols() + 3) - 3 + c)], -1.0F);
    }
  }
  Rng rng(5);
  std::vector<std::int64_t> indices = rng.permutation(expected.rows());
  indices.push_back(0);
  indices.push_back(expected.rows() - 1);
  std::vector<float> out(indices.size() * static_cast<std::size_t>(expected.cols()));
  const MatView<float> gathered(out.data(), static_cast<std::int64_t>(indices.size()),
                                expected.cols());
  source.gather(indices, gathered);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    for (std::int64_t c = 0; c < expected.cols(); ++c) {
      ASSERT_EQ(gathered(static_cast<std::int64_t>(i), c), expected(indices[i], c));
    }
  }
}

void expect_refusals(const RowSource& source) {
  std::vector<float> room(static_cast<std::size_t>(source.dim() * 4));
  const MatView<float> two(room.data(), 2, source.dim());
  EXPECT_ERROR(source.read(source.rows() - 1, two), kUsage, "rows");
  EXPECT_ERROR(source.read(-1, two), kUsage, "rows");
  EXPECT_ERROR(source.read(0, MatView<float>(room.data(), 1, source.dim() + 1)), kUsage, "columns");
  const std::int64_t bad[] = {0, source.rows()};
  EXPECT_ERROR(source.gather(bad, two), kUsage, "row ");
  const std::int64_t negative[] = {0, -1};
  EXPECT_ERROR(source.gather(negative, two), kUsage, "row -1");
  const std::int64_t few[] = {0};
  EXPECT_ERROR(source.gather(few, two), kUsage, "room for 2");
}

TEST(RowSource, ReadsMemory) {
  const Tensor rows = counting(700, 5);
  const auto source = make_row_source(rows.mat<float>());
  expect_rows(*source, rows);
  expect_refusals(*source);
  EXPECT_EQ(source->view().data(), rows.mat<float>().data());
  // A column range has gaps: no contiguous view of it.
  EXPECT_TRUE(make_row_source(rows.mat<float>().cols_range(1, 2))->view().empty());
  expect_rows(*make_row_source(rows.clone()), rows);
  EXPECT_ERROR(make_row_source(Tensor(DType::kF32, {6})), kData, "[6]");
  EXPECT_ERROR(make_row_source(Tensor(DType::kF64, {2, 3})), kData, "float64");
}

TEST(RowSource, ReadsSingleFilesOfEveryFloatingType) {
  const Scratch scratch;
  const Tensor rows = counting(33, 7);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kF64}) {
    const auto path = scratch / str(dtype_name(dtype), ".npy");
    Tensor stored(dtype, rows.shape());
    if (dtype == DType::kF64) {
      std::copy_n(rows.data<float>().begin(), rows.elements(),
                  stored.mutable_data<double>().begin());
    } else {
      stored = rows.to(dtype);
    }
    write_npy(path, stored);
    const auto source = open_row_source(path);
    expect_rows(*source, rows);
    expect_refusals(*source);
  }
  write_fortran(scratch / "fortran.npy", rows);
  const auto fortran = open_row_source(scratch / "fortran.npy");
  expect_rows(*fortran, rows);
  expect_refusals(*fortran);
  EXPECT_TRUE(fortran->view().empty());
  expect_rows(*make_row_source(load_activations(scratch / "fortran.npy").activations), rows);
  // The negative control of expect_rows' comparison: another matrix is not taken for this one.
  const auto source = open_row_source(scratch / "float32.npy");
  std::vector<float> row(7);
  source->read(1, MatView<float>(row.data(), 1, 7));
  EXPECT_NE(row[0], rows.mat<float>()(0, 0));
}

TEST(RowSource, RefusesWhatIsNoMatrixOfFloats) {
  const Scratch scratch;
  write_npy(scratch / "ints.npy", Tensor(DType::kI64, {3, 2}));
  EXPECT_ERROR(open_row_source(scratch / "ints.npy"), kData, "int64");
  write_npy(scratch / "u16.npy", Tensor(DType::kU16, {3, 2}));
  EXPECT_ERROR(open_row_source(scratch / "u16.npy"), kData, "bfloat16");
  write_npy(scratch / "vector.npy", Tensor(DType::kF32, {3}));
  EXPECT_ERROR(open_row_source(scratch / "vector.npy"), kData, "[3]");
  write_npy(scratch / "cube.npy", Tensor(DType::kF32, {3, 2, 2}));
  EXPECT_ERROR(open_row_source(scratch / "cube.npy"), kData, "[3, 2, 2]");
  write_npy(scratch / "none.npy", Tensor(DType::kF32, {0, 4}));
  EXPECT_ERROR(open_row_source(scratch / "none.npy"), kData, "no rows");
  write_npy(scratch / "thin.npy", Tensor(DType::kF32, {4, 0}));
  EXPECT_ERROR(open_row_source(scratch / "thin.npy"), kData, "without columns");
  std::string fortran = read_file(scratch / "cube.npy");
  fortran = fortran.replace(fortran.find("False"), 5, "True ");
  write_file_atomic(scratch / "fortran.npy", fortran);
  EXPECT_EQ(test::error_of([&] { open_row_source(scratch / "fortran.npy"); }).first,
            ErrorKind::kData);
  const std::string whole = read_file(scratch / "cube.npy");
  write_file_atomic(scratch / "short.npy", std::string_view(whole).substr(0, whole.size() - 1));
  EXPECT_EQ(test::error_of([&] { open_row_source(scratch / "short.npy"); }).first,
            ErrorKind::kData);
  EXPECT_ERROR(open_row_source(scratch / "absent.npy"), kIo, "absent.npy");
  std::filesystem::create_directory(scratch / "empty");
  EXPECT_ERROR(open_row_source(scratch / "empty"), kData, "metadata.json");
}

ActivationMetadata metadata_for(std::int64_t rows, std::int64_t dim, DType dtype,
                                std::int64_t shard_bytes) {
  ActivationMetadata metadata;
  metadata.activation_dim = dim;
  metadata.layer_paths = {"model.layers[0].mlp"};
  metadata.config.extraction.mlp_layers = {0};
  metadata.config.extraction.positions = Positions::kAll;
  metadata.config.extraction.store_dtype = dtype;
  metadata.config.extraction.shard_bytes = shard_bytes;
  for (std::int64_t r = 0; r < rows;) {
    SampleRecord sample;
    sample.index = static_cast<std::int64_t>(metadata.samples.size());
    sample.row = r;
    sample.rows = std::min<std::int64_t>(1 + sample.index % 4, rows - r);
    sample.input_ids.assign(static_cast<std::size_t>(sample.rows), 3);
    sample.text = "\"quoted\" \n text";
    r += sample.rows;
    metadata.samples.push_back(sample);
  }
  return metadata;
}

TEST(RowSource, ReadsStoresOfEveryDtypeWholeAndSharded) {
  const Tensor rows = counting(9000, 3, 200);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t shard_bytes : {std::int64_t{1} << 30, std::int64_t{20000}}) {
      const Scratch scratch;
      save_activations(rows, metadata_for(9000, 3, dtype, shard_bytes), scratch / "acts");
      const bool single = std::filesystem::exists(scratch / "acts" / "activations.npy");
      EXPECT_EQ(single, shard_bytes > 20000);
      EXPECT_EQ(std::filesystem::exists(scratch / "acts" / "activations-00001.npy"), !single);
      const auto source = open_row_source(scratch / "acts");
      expect_rows(*source, rows);
      expect_refusals(*source);
      const Activations back = load_activations(scratch / "acts");
      expect_rows(*make_row_source(back.activations.mat<float>()), rows);
      EXPECT_EQ(back.metadata.samples.size(),
                back.metadata.config.dataset.num_samples < 0
                    ? static_cast<std::size_t>(back.metadata.num_samples)
                    : 0U);
      const ActivationInfo info = describe_activations(scratch / "acts");
      EXPECT_EQ(info.rows, 9000);
      EXPECT_EQ(info.dim, 3);
      EXPECT_EQ(info.dtype, dtype);
      EXPECT_GT(info.bytes, 9000 * 3 * dtype_size(dtype));
      if (single) expect_rows(*open_row_source(scratch / "acts" / "activations.npy"), rows);
    }
  }
}

/// A line of /proc/self/status, in bytes; nothing where there is no such file.
std::optional<std::int64_t> status_bytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(name + ":", 0) == 0) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return std::nullopt;
}

/// A .npy of float32 [rows, dim] without data blocks, but for values at some rows' first columns.
/// False when the file system has no sparse files.
bool make_sparse(const std::filesystem::path& path, std::int64_t rows, std::int64_t dim,
                 const std::vector<std::pair<std::int64_t, float>>& values) {
  write_npy(path, Tensor(DType::kF32, {1, dim}));
  std::string head = read_file(path);
  head.resize(head.size() - static_cast<std::size_t>(4 * dim));
  const std::string shape = str("(1, ", dim, ")");
  const std::string longer = str("(", rows, ", ", dim, ")");
  const std::size_t at = head.find(shape);
  head.replace(at, shape.size(), longer);
  head.erase(head.size() - 1 - (longer.size() - shape.size()), longer.size() - shape.size());
  write_file_atomic(path, head);
  const auto size = static_cast<off_t>(head.size()) + rows * dim * 4;
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (ftruncate(fd.get(), size) != 0) return false;
  for (const auto& [row, value] : values) {
    const off_t offset = static_cast<off_t>(head.size()) + row * dim * 4;
    if (pwrite(fd.get(), &value, sizeof value, offset) != sizeof value) return false;
  }
  struct stat status {};
  fstat(fd.get(), &status);
  return status.st_blocks * 512 < size / 2;
}

// Reading all of a store twice its size, by range and by row, may not make the process grow by more
// than a few batches: pages of a mapping count as the process's own.
TEST(RowSource, ReadsALargeFileInBoundedMemory) {
  const Scratch scratch;
  constexpr std::int64_t kDim = 64;
  constexpr std::int64_t kRows = (std::int64_t{512} << 20) / (kDim * 4);
  constexpr std::int64_t kBatch = 8192;  // 2 MB
  const auto path = scratch / "large.npy";
  if (!make_sparse(path, kRows, kDim, {{0, 1.0F}, {1234567, 2.0F}, {kRows - 1, 3.0F}})) {
    GTEST_SKIP() << "no sparse files in " << path;
  }
  const auto source = open_row_source(path);
  ASSERT_EQ(source->rows(), kRows);
  std::vector<float> room(static_cast<std::size_t>(kBatch * kDim));
  const MatView<float> batch(room.data(), kBatch, kDim);
  source->read(0, batch);
  const auto before = status_bytes("VmRSS");
  if (!before) GTEST_SKIP() << "no /proc/self/status";
  std::int64_t most = 0;
  double sum = 0.0;
  for (std::int64_t r = 0; r < kRows; r += kBatch) {
    source->read(r, batch);
    for (std::int64_t i = 0; i < kBatch; ++i) sum += static_cast<double>(batch(i, 0));
    most = std::max(most, *status_bytes("VmRSS") - *before);
  }
  EXPECT_EQ(sum, 6.0);
  std::vector<std::int64_t> indices(static_cast<std::size_t>(kBatch));
  sum = 0.0;
  for (std::int64_t first = 0; first < kRows / kBatch; ++first) {
    // Every row once, far from each other; the order is not rising.
    for (std::int64_t i = 0; i < kBatch; ++i) {
      indices[static_cast<std::size_t>(i)] = (kBatch - 1 - i) * (kRows / kBatch) + first;
    }
    source->gather(indices, batch);
    for (std::int64_t i = 0; i < kBatch; ++i) sum += static_cast<double>(batch(i, 0));
    most = std::max(most, *status_bytes("VmRSS") - *before);
  }
  EXPECT_EQ(sum, 6.0);
  EXPECT_LT(most, std::int64_t{32} << 20);
}

// Large enough to be read rather than mapped, in every layout that a row can have.
TEST(RowSource, ReadsLargeFilesOfEveryLayout) {
  const Scratch scratch;
  constexpr std::int64_t kDim = 3;
  constexpr std::int64_t kRows = (std::int64_t{260} << 20) / (kDim * 4);
  const auto path = scratch / "large.npy";
  const std::vector<std::pair<std::int64_t, float>> values = {
      {0, 1.5F}, {1, -2.0F}, {700000, 4.0F}, {kRows - 1, 3.0F}};
  if (!make_sparse(path, kRows, kDim, values)) GTEST_SKIP() << "no sparse files in " << path;
  const auto expect_values = [&](const RowSource& source) {
    for (const auto& [row, value] : values) {
      std::vector<float> wide(std::size_t{2} * (kDim + 2), -1.0F);
      const MatView<float> one(wide.data(), 1, kDim, kDim + 2);
      source.read(row, one);
      EXPECT_EQ(one(0, 0), value) << row;
      EXPECT_EQ(one(0, 1), 0.0F) << row;
      EXPECT_EQ(wide[kDim], -1.0F);
      const std::int64_t both[] = {row, 5};
      source.gather(both, MatView<float>(wide.data(), 2, kDim, kDim + 2));
      EXPECT_EQ(wide[0], value) << row;
      EXPECT_EQ(wide[kDim + 2], 0.0F) << row;
      EXPECT_EQ(wide[kDim], -1.0F);
    }
  };
  const auto source = open_row_source(path);
  EXPECT_TRUE(source->view().empty());
  expect_values(*source);
  expect_refusals(*source);
  // Two files end to end, asked for across the seam.
  std::filesystem::create_directory(scratch / "two");
  std::filesystem::rename(path, scratch / "two" / "activations-00000.npy");
  write_npy(scratch / "two" / "activations-00001.npy", counting(10, kDim));
  const auto two = open_row_source(scratch / "two");
  expect_values(*two);
  std::vector<float> seam(2 * kDim);
  two->read(kRows - 1, MatView<float>(seam.data(), 2, kDim));
  EXPECT_EQ(seam[0], 3.0F);
  EXPECT_EQ(seam[kDim], counting(10, kDim).mat<float>()(0, 0));
  // A file that lost its end meanwhile is an error, not a signal.
  std::filesystem::resize_file(scratch / "two" / "activations-00000.npy", 1000);
  EXPECT_ERROR(two->read(kRows - 1, MatView<float>(seam.data(), 1, kDim)), kIo, "ended");
}

TEST(RowSource, ReadsFoldersThatOthersMade) {
  const Scratch scratch;
  const Tensor rows = counting(10, 4);
  write_npy(scratch / "one/activations.npy", rows);
  expect_rows(*open_row_source(scratch / "one"), rows);
  write_npy(scratch / "two/activations-00000.npy", rows);
  write_npy(scratch / "two/activations-00001.npy", rows);
  EXPECT_EQ(open_row_source(scratch / "two")->rows(), 20);
  EXPECT_EQ(load_activations(scratch / "two").activations.dim(0), 20);
  EXPECT_EQ(describe_activations(scratch / "two").files.size(), 2U);
  write_fortran(scratch / "three/activations-00000.npy", counting(300, 40));
  write_npy(scratch / "three/activations-00001.npy", counting(300, 40));
  const auto mixed = open_row_source(scratch / "three");
  Tensor twice(DType::kF32, {600, 40});
  std::copy_n(counting(300, 40).data<float>().begin(), 12000,
              std::copy_n(counting(300, 40).data<float>().begin(), 12000,
                          twice.mutable_data<float>().begin()));
  expect_rows(*mixed, twice);
  expect_rows(*make_row_source(load_activations(scratch / "three").activations), twice);
  write_npy(scratch / "two/activations-00001.npy", counting(10, 5));
  EXPECT_ERROR(open_row_source(scratch / "two"), kData, "5 columns");
}

// What the file system refuses is an Error of ours, not one of the standard library's.
TEST(RowSource, TellsWhatTheFileSystemRefuses) {
  namespace fs = std::filesystem;
  const Scratch scratch;
  fs::create_directory(scratch / "loop");
  fs::create_symlink("activations.npy", scratch / "loop" / "activations.npy");
  EXPECT_ERROR(open_row_source(scratch / "loop"), kIo, "activations.npy");
  fs::create_directory(scratch / "second");
  write_npy(scratch / "second" / "activations-00000.npy", counting(3, 2));
  fs::create_symlink("activations-00001.npy", scratch / "second" / "activations-00001.npy");
  EXPECT_ERROR(open_row_source(scratch / "second"), kIo, "activations-00001.npy");
  fs::create_directory(scratch / "dangling");
  write_npy(scratch / "dangling" / "activations.npy", counting(3, 2));
  fs::create_symlink("nowhere", scratch / "dangling" / "samples-00000.jsonl");
  EXPECT_ERROR(describe_activations(scratch / "dangling"), kIo, "samples-00000.jsonl");
}

TEST(RowSource, RefusesStoresThatContradictThemselves) {
  const Scratch scratch;
  const Tensor rows = counting(500, 3);
  save_activations(rows, metadata_for(500, 3, DType::kF32, 2000), scratch / "acts");
  const auto second = scratch / "acts" / "activations-00001.npy";
  const std::string good = read_file(second);
  const std::string metadata = read_file(scratch / "acts" / "metadata.json");

  write_file_atomic(second, std::string_view(good).substr(0, good.size() - 4));
  EXPECT_EQ(test::error_of([&] { open_row_source(scratch / "acts"); }).first, ErrorKind::kData);
  write_npy(second, counting(3, 3));
  EXPECT_ERROR(open_row_source(scratch / "acts"), kData, "metadata.json says");
  std::filesystem::remove(second);
  EXPECT_ERROR(open_row_source(scratch / "acts"), kIo, "activations-00001.npy");
  write_file_atomic(second, good);
  expect_rows(*open_row_source(scratch / "acts"), rows);

  const struct {
    const char* from;
    const char* to;
    const char* part;
  } edits[] = {
      {"drrik-activations", "something-else", "something else"},
      {"\"version\": 1", "\"version\": 9", "version 9"},
      {"\"num_rows\": 500", "\"num_rows\": 501", "501"},
      {"\"num_rows\": 500", "\"num_rows\": -5", "-5"},
      {"\"num_rows\": 500", "\"num_rows\": \"many\"", "num_rows"},
      {"\"activation_dim\": 3", "\"activation_dim\": 4", "metadata.json says"},
      {"\"activation_dim\": 3", "\"activation_dim\": 4611686018427387904", "activation_dim"},
      {"\"dtype\": \"float32\"", "\"dtype\": \"int8\"", "int8"},
      {"\"dtype\": \"float32\"", "\"dtype\": \"float16\"", "metadata.json says"},
      {"\"hook\": \"mlp_out\",\n      \"positions\"", "\"hook\": \"nose\",\n      \"positions\"",
       "nose"},
      {"activations-00001.npy", "../acts/activations-00001.npy", "plain file name"},
      {"\"files\": [", "\"files\": {", "metadata.json"},
      {"{", "", "metadata.json"},
  };
  for (const auto& edit : edits) {
    std::string text = metadata;
    const std::size_t at = text.find(edit.from);
    ASSERT_NE(at, std::string::npos) << edit.from;
    text.replace(at, std::string_view(edit.from).size(), edit.to);
    write_file_atomic(scratch / "acts" / "metadata.json", text);
    EXPECT_ERROR(open_row_source(scratch / "acts"), kData, edit.part);
  }
  for (std::size_t cut = 0; cut < 700; cut += 31) {
    write_file_atomic(scratch / "acts" / "metadata.json",
                      std::string_view(metadata).substr(0, cut));
    EXPECT_ERROR(open_row_source(scratch / "acts"), kData, "metadata.json");
  }
}

}  // namespace
}  // namespace drrik
