#include "drrik/io/npy.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>

#include "io/io_testing.h"

namespace drrik {
namespace {

using testing::bytes_of;
using testing::counted;
using testing::data_file;
using testing::difference;
using testing::expect_data_error;
using testing::expect_error;

std::string npy(std::string dictionary, std::size_t data, char version = 1) {
  std::string out("\x93NUMPY", 6);
  out += version;
  out += '\0';
  dictionary += '\n';
  for (std::size_t i = 0; i < (version == 1 ? 2U : 4U); ++i) {
    out += static_cast<char>((dictionary.size() >> (8 * i)) & 0xFFU);
  }
  return out + dictionary + std::string(data, '\0');
}

TEST(Npy, ReadsEveryNumericType) {
  const std::pair<const char*, DType> types[] = {
      {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}, {"i1", DType::kI8},
      {"i2", DType::kI16}, {"i4", DType::kI32}, {"i8", DType::kI64}, {"u1", DType::kU8},
      {"u2", DType::kU16}, {"u4", DType::kU32}, {"u8", DType::kU64}};
  for (const auto& [code, dtype] : types) {
    const Tensor got = read_npy(data_file(str("c_", code, ".npy")));
    EXPECT_EQ(difference(got, counted(dtype, {3, 4})), "") << code;
    EXPECT_TRUE(got.borrowed());
  }
  const Tensor flags = read_npy(data_file("c_b1.npy"));
  ASSERT_EQ(flags.dtype(), DType::kBool);
  for (std::int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(std::to_integer<int>(flags.raw()[i]), static_cast<int>(i % 2));
  }
}

TEST(Npy, ReadsOtherLayoutsAndVersions) {
  EXPECT_EQ(difference(read_npy(data_file("fortran_f4.npy")), counted(DType::kF32, {2, 3, 4})), "");
  EXPECT_EQ(difference(read_npy(data_file("big_f8.npy")), counted(DType::kF64, {3, 4})), "");
  EXPECT_EQ(difference(read_npy(data_file("big_fortran_i2.npy")), counted(DType::kI16, {3, 4})),
            "");
  EXPECT_EQ(difference(read_npy(data_file("version2_f4.npy")), counted(DType::kF32, {3, 4})), "");
  EXPECT_EQ(difference(read_npy(data_file("version3_f4.npy")), counted(DType::kF32, {3, 4})), "");
  EXPECT_EQ(difference(read_npy(data_file("vector_i8.npy")), counted(DType::kI64, {5})), "");
  EXPECT_EQ(read_npy(data_file("empty_f4.npy")).shape(), (std::vector<std::int64_t>{0, 4}));
  const Tensor scalar = read_npy(data_file("scalar_f4.npy"));
  EXPECT_EQ(scalar.rank(), 0);
  EXPECT_EQ(scalar.data<float>()[0], 2.5F);
}

TEST(Npy, ReadsBfloat16OnRequest) {
  expect_data_error("'|V2' is not supported", [] { read_npy(data_file("void2.npy")); });
  NpyOptions options;
  options.bfloat16 = true;
  const Tensor got = read_npy(data_file("void2.npy"), options);
  EXPECT_EQ(static_cast<float>(got.data<BF16>()[0]), 1.0F);
  EXPECT_EQ(static_cast<float>(got.data<BF16>()[1]), -2.0F);
}

TEST(Npy, WritesTheBytesOfNumpy) {
  const testing::TempFolder folder;
  const std::pair<const char*, DType> types[] = {
      {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64}, {"i1", DType::kI8},
      {"i8", DType::kI64}, {"u1", DType::kU8},  {"u2", DType::kBF16}};
  for (const auto& [code, dtype] : types) {
    const bool brain = dtype == DType::kBF16;
    const Tensor tensor = brain ? counted(DType::kU16, {3, 4}) : counted(dtype, {3, 4});
    write_npy(folder / "a.npy", tensor);
    EXPECT_EQ(read_file(folder / "a.npy"), read_file(data_file(str("c_", code, ".npy")))) << code;
  }
  write_npy(folder / "v.npy", counted(DType::kI64, {5}));
  EXPECT_EQ(read_file(folder / "v.npy"), read_file(data_file("vector_i8.npy")));
  const float value = 2.5F;
  write_npy(folder / "s.npy", Tensor::from<float>({&value, 1}, {}));
  EXPECT_EQ(read_file(folder / "s.npy"), read_file(data_file("scalar_f4.npy")));
  write_npy(folder / "e.npy", Tensor(DType::kF32, {0, 4}));
  EXPECT_EQ(read_file(folder / "e.npy"), read_file(data_file("empty_f4.npy")));
}

TEST(Npy, StreamedRowsGiveTheSameFile) {
  const testing::TempFolder folder;
  const Tensor rows = counted(DType::kF32, {3, 4});
  NpyWriter writer(folder / "a.npy", DType::kF32, {4});
  writer.append_rows(rows.mat<float>().rows_range(0, 2));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.npy"));
  writer.append_rows(rows.mat<float>().rows_range(2, 1));
  writer.append_rows(rows.mat<float>().rows_range(2, 0));
  EXPECT_EQ(writer.rows(), 3);
  writer.commit();
  EXPECT_EQ(read_file(folder / "a.npy"), read_file(data_file("c_f4.npy")));
  // A view of some columns is copied row by row.
  NpyWriter part(folder / "b.npy", DType::kF32, {2});
  part.append_rows(rows.mat<float>().cols_range(1, 2));
  part.commit();
  EXPECT_EQ(read_npy(folder / "b.npy").data<float>()[2], 5.0F);
}

TEST(Npy, HeaderKeepsItsSizeForAnyRowCount) {
  const testing::TempFolder folder;
  NpyWriter writer(folder / "a.npy", DType::kI8, {});
  const std::vector<std::byte> chunk(100'003);
  for (int i = 0; i < 10; ++i) writer.append(chunk);
  writer.commit();
  EXPECT_EQ(read_npy(folder / "a.npy").shape(), (std::vector<std::int64_t>{1'000'030}));
}

TEST(Npy, RoundsRowsToHalfTypes) {
  const testing::TempFolder folder;
  const float values[] = {1.0F, 1.00390625F, -3.5F, 65504.0F};
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    NpyWriter writer(folder / "a.npy", dtype, {2});
    writer.append_rows({values, 2, 2});
    writer.commit();
    NpyOptions options;
    options.bfloat16 = dtype == DType::kBF16;
    const auto file = NpyFile::open(folder / "a.npy", options);
    EXPECT_EQ(file.dtype(), dtype);
    float got[4] = {};
    file.read_rows(0, {got, 2, 2});
    for (int i = 0; i < 4; ++i) {
      const float wanted = dtype == DType::kF16 ? static_cast<float>(F16(values[i]))
                                                : static_cast<float>(BF16(values[i]));
      EXPECT_EQ(got[i], wanted);
    }
  }
}

TEST(Npy, WriterRefusesPartsOfRowsAndOddTypes) {
  const testing::TempFolder folder;
  NpyWriter writer(folder / "a.npy", DType::kF32, {2});
  const std::vector<std::byte> part(12);
  expect_error(ErrorKind::kUsage, "not whole rows", [&] { writer.append(part); });
  const float row[3] = {};
  expect_error(ErrorKind::kUsage, "wanted 2", [&] { writer.append_rows({row, 1, 3}); });
  NpyWriter ints(folder / "b.npy", DType::kI32, {3});
  expect_error(ErrorKind::kUsage, "int32", [&] { ints.append_rows({row, 1, 3}); });
  expect_error(ErrorKind::kUsage, "wanted sizes > 0",
               [&] { NpyWriter(folder / "c.npy", DType::kF32, {0}); });
  expect_error(ErrorKind::kUsage, "no element type",
               [&] { write_npy(folder / "d.npy", Tensor(DType::kF8E4M3, {2})); });
}

TEST(Npy, UncommittedAndFailedWritesLeaveNothing) {
  const testing::TempFolder folder;
  { NpyWriter writer(folder / "a.npy", DType::kF32, {2}); }
  EXPECT_TRUE(folder.empty());
  const Tensor big(DType::kF32, {1024, 1024});
  {
    const testing::FileSizeLimit limit(1 << 16);
    NpyWriter writer(folder / "a.npy", DType::kF32, {1024});
    expect_error(ErrorKind::kIo, "a.npy", [&] {
      writer.append_rows(big.mat<float>());
      writer.commit();
    });
  }
  EXPECT_TRUE(folder.empty());
}

// What `write` sends to the pipe whose name it is given.
std::string sent(const std::function<void(const std::filesystem::path&)>& write) {
  int ends[2] = {};
  if (pipe(ends) != 0) throw_io("cannot make a pipe for the test");
  write(str("/dev/fd/", ends[1]));
  close(ends[1]);
  char buffer[4096];  // smaller than a pipe holds
  const ssize_t n = read(ends[0], buffer, sizeof buffer);
  close(ends[0]);
  return {buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
}

TEST(Npy, PipesAreWrittenWhenTheRowCountIsKnown) {
  const Tensor rows = counted(DType::kF32, {3, 4});
  const std::string wanted = read_file(data_file("c_f4.npy"));
  EXPECT_EQ(sent([&](const auto& path) { write_npy(path, rows); }), wanted);
  EXPECT_EQ(sent([&](const auto& path) {
              NpyWriter writer(path, DType::kF32, {4}, 3);
              writer.append_rows(rows.mat<float>());
              writer.commit();
            }),
            wanted);
  EXPECT_EQ(sent([&](const auto& path) {
              expect_error(ErrorKind::kIo, "row count", [&] { NpyWriter(path, DType::kF32, {4}); });
            }),
            "");
  sent([&](const auto& path) {
    NpyWriter writer(path, DType::kF32, {4}, 2);
    writer.append_rows(rows.mat<float>());
    expect_error(ErrorKind::kIo, "cannot be rewritten", [&] { writer.commit(); });
  });
  // A file has the count that came, whatever was said.
  const testing::TempFolder folder;
  NpyWriter writer(folder / "a.npy", DType::kF32, {4}, 2);
  writer.append_rows(rows.mat<float>());
  writer.commit();
  EXPECT_EQ(read_file(folder / "a.npy"), wanted);
  expect_error(ErrorKind::kUsage, "-1 rows",
               [&] { NpyWriter(folder / "b.npy", DType::kF32, {4}, -1); });
}

TEST(Npy, RowsAreReadByRange) {
  for (const char* name :
       {"c_f4.npy", "big_f8.npy", "c_i2.npy", "fortran_rows_f4.npy", "big_fortran_i2.npy"}) {
    const auto file = NpyFile::open(data_file(name));
    EXPECT_EQ(file.rows(), 3);
    EXPECT_EQ(file.cols(), 4);
    float got[8] = {};
    file.read_rows(1, {got, 2, 4});
    for (int i = 0; i < 8; ++i) EXPECT_EQ(got[i], static_cast<float>(4 + i)) << name;
    expect_error(ErrorKind::kUsage, "of 3", [&] { file.read_rows(2, {got, 2, 4}); });
    expect_error(ErrorKind::kUsage, "of 3", [&] { file.read_rows(-1, {got, 1, 4}); });
    expect_error(ErrorKind::kUsage, "wanted 2", [&] { file.read_rows(0, {got, 1, 2}); });
    file.drop_rows(0, 3);
    file.read_rows(0, {got, 1, 4});
    EXPECT_EQ(got[3], 3.0F);
    file.read_block(1, 2, {got, 2, 2});
    const float block[] = {6.0F, 7.0F, 10.0F, 11.0F};
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got[i], block[i]) << name;
    expect_error(ErrorKind::kUsage, "columns 3 to 5 of 4", [&] {
      file.read_block(0, 3, {got, 1, 2});
    });
    expect_error(ErrorKind::kUsage, "columns -1", [&] { file.read_block(0, -1, {got, 1, 2}); });
  }
  EXPECT_EQ(NpyFile::open(data_file("vector_i8.npy")).cols(), 1);
  expect_data_error("Fortran order of 3 axes", [] { NpyFile::open(data_file("fortran_f4.npy")); });
  expect_data_error("scalar", [] { NpyFile::open(data_file("scalar_f4.npy")); });
}

TEST(Npy, OnlyRowsInNativeOrderAreBorrowed) {
  EXPECT_TRUE(NpyFile::open(data_file("c_f4.npy")).mapped_as_rows());
  EXPECT_EQ(NpyFile::open(data_file("c_f4.npy")).tensor().data<float>()[1], 1.0F);
  for (const char* name : {"big_f8.npy", "fortran_rows_f4.npy"}) {
    const auto file = NpyFile::open(data_file(name));
    EXPECT_FALSE(file.mapped_as_rows()) << name;
    expect_data_error(name, [&] { file.tensor(); });
  }
}

// Larger than a tile of the transposition in both directions, and cut at odd places.
TEST(Npy, TransposesFortranOrderInBlocks) {
  const testing::TempFolder folder;
  constexpr std::int64_t kRows = 700;
  constexpr std::int64_t kCols = 70;
  Tensor columns(DType::kF32, {kRows, kCols});
  const auto values = columns.mutable_data<float>();
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kCols; ++c) {
      values[static_cast<std::size_t>(c * kRows + r)] = static_cast<float>(r * 100 + c);
    }
  }
  write_npy(folder / "a.npy", columns);
  std::string bytes = read_file(folder / "a.npy");
  write_file_atomic(folder / "a.npy", bytes.replace(bytes.find("False"), 5, "True "));
  const auto file = NpyFile::open(folder / "a.npy");
  std::vector<float> got(static_cast<std::size_t>(kRows * (kCols + 1)), -1.0F);
  const MatView<float> wide(got.data(), kRows, kCols, kCols + 1);
  file.read_rows(0, wide.rows_range(0, 300));
  file.read_rows(300, wide.rows_range(300, 400));
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kCols; ++c) {
      ASSERT_EQ(wide(r, c), static_cast<float>(r * 100 + c)) << r << ", " << c;
    }
    ASSERT_EQ(got[static_cast<std::size_t>(r * (kCols + 1) + kCols)], -1.0F);
  }
}

TEST(Npy, RefusesWhatIsNotAnArrayOfNumbers) {
  expect_data_error("bad_object.npy: npy: element type '|O' is not supported; pickled",
                    [] { read_npy(data_file("bad_object.npy")); });
  expect_data_error("records", [] { read_npy(data_file("bad_record.npy")); });
  expect_data_error("'<U2'", [] { read_npy(data_file("bad_string.npy")); });
  expect_data_error("'<c8'", [] { read_npy(data_file("bad_complex.npy")); });
}

TEST(Npy, RefusesDamagedHeaders) {
  const struct {
    const char* dictionary;
    const char* part;
  } cases[] = {
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "takes 12 bytes, but 8"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", "wanted ','"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "wanted a size"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "overflows"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296,), }",
       "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }", "overflow"},
      {"{'descr': '<f4', 'fortran_order': False}", "wanted the keys"},
      {"{'descr': '<f4', 'shape': (2,)}", "wanted the keys"},
      {"{'descr': '<f4', 'descr': '<f4'}", "repeated key"},
      {"{'other': 1}", "unexpected or repeated key 'other'"},
      {"{'descr': '<f4', 'fortran_order': Falsch, 'shape': (2,)}", "wanted True or False"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "after the dictionary"},
      {"{'descr': '<f4", "no end"},
      {"{'descr': 'f4', 'fortran_order': False, 'shape': (2,)}", "'f4' is not supported"},
      {"{'descr': '', 'fortran_order': False, 'shape': (2,)}", "is not supported"},
      {"{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}", "'<f3'"},
      {"", "wanted '{'"},
      {"[]", "wanted '{'"},
  };
  for (const auto& test : cases) {
    const std::string file = npy(test.dictionary, 8);
    expect_data_error(test.part, [&] { parse_npy(bytes_of(file)); });
  }
  const std::string many = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + [] {
    std::string ones;
    for (int i = 0; i < 65; ++i) ones += "1, ";
    return ones;
  }() + ")}";
  expect_data_error("64 axes", [&] { parse_npy(bytes_of(npy(many, 8))); });
  expect_data_error("version 4", [] { parse_npy(bytes_of(npy("{}", 8, 4))); });
  expect_data_error("not an npy", [] { parse_npy(bytes_of("PK\3\4")); });
  expect_data_error("not an npy", [] { parse_npy({}); });
}

TEST(Npy, AcceptsOldAndOddSpellings) {
  const auto header =
      parse_npy(bytes_of(npy("{\"shape\": (2L,), 'fortran_order': True, 'descr': '=f4'}", 8)));
  EXPECT_EQ(header.shape, (std::vector<std::int64_t>{2}));
  EXPECT_FALSE(header.fortran_order);  // One axis has one order.
}

TEST(Npy, RefusesEveryTruncation) {
  const std::string whole = read_file(data_file("c_f4.npy"));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto outcome =
        testing::outcome_of([&] { parse_npy(bytes_of(std::string_view(whole).substr(0, n))); });
    EXPECT_TRUE(outcome.threw && outcome.kind == ErrorKind::kData) << n;
  }
}

TEST(Npz, ReadsStoredAndDeflatedArchives) {
  const auto stored = read_npz(data_file("stored.npz"));
  EXPECT_EQ(stored.size(), 2U);
  EXPECT_EQ(difference(stored.at("x"), counted(DType::kF32, {3, 4})), "");
  EXPECT_EQ(difference(stored.at("y"), counted(DType::kI64, {3})), "");
  const auto deflated = read_npz(data_file("deflated.npz"));
  EXPECT_EQ(difference(deflated.at("x"), Tensor(DType::kF32, {50, 40})), "");
}

TEST(Npz, RoundTrips) {
  const testing::TempFolder folder;
  const Tensor a = counted(DType::kF32, {3, 4});
  const Tensor b(DType::kI8, {0, 2});
  const NamedTensor arrays[] = {{"a", &a}, {"b/c", &b}};
  write_npz(folder / "a.npz", arrays);
  const auto got = read_npz(folder / "a.npz");
  EXPECT_EQ(difference(got.at("a"), a), "");
  EXPECT_EQ(difference(got.at("b/c"), b), "");
  const NamedTensor twice[] = {{"a", &a}, {"a", &b}};
  expect_error(ErrorKind::kUsage, "given twice", [&] { write_npz(folder / "b.npz", twice); });
}

TEST(Npz, NoticesAFlippedBit) {
  const testing::TempFolder folder;
  for (const char* name : {"stored.npz", "deflated.npz"}) {
    std::string bytes = read_file(data_file(name));
    bytes[120] = static_cast<char>(bytes[120] ^ 1);
    write_file_atomic(folder / "x.npz", std::string_view(bytes));
    expect_data_error("x.npz: member 'x.npy'", [&] { read_npz(folder / "x.npz"); });
  }
}

TEST(Npz, SharedSamples) {
  const auto folder = testing::shared_file("data/candle");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "SKIPPED: " << folder << " is not here";
  EXPECT_EQ(difference(read_npy(folder / "test.npy"), counted(DType::kI64, {10})), "");
  const auto arrays = read_npz(folder / "test.npz");
  EXPECT_EQ(difference(arrays.at("x"), counted(DType::kI64, {10})), "");
  EXPECT_EQ(difference(arrays.at("x_plus_one"), counted(DType::kI64, {10}, 1)), "");
}

}  // namespace
}  // namespace drrik
