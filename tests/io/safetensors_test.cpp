#include "drrik/io/safetensors.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>

#include "drrik/base/system.h"
#include "drrik/io/weight_files.h"
#include "io/io_testing.h"

namespace drrik {
namespace {

using testing::bytes_of;
using testing::counted;
using testing::data_file;
using testing::difference;
using testing::expect_data_error;
using testing::expect_error;
using testing::shared_file;

std::string with_header(std::string header, std::size_t data_bytes) {
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) out += static_cast<char>((header.size() >> (8 * i)) & 0xFFU);
  return out + header + std::string(data_bytes, '\0');
}

constexpr std::array<DType, 15> kTypes = {DType::kBool,   DType::kU8,  DType::kI8,  DType::kF8E5M2,
                                          DType::kF8E4M3, DType::kI16, DType::kU16, DType::kF16,
                                          DType::kBF16,   DType::kI32, DType::kU32, DType::kF32,
                                          DType::kF64,    DType::kI64, DType::kU64};
constexpr std::array<const char*, 15> kTorchNames = {
    "bool",     "uint8", "int8",   "float8_e5m2", "float8_e4m3fn", "int16", "uint16", "float16",
    "bfloat16", "int32", "uint32", "float32",     "float64",       "int64", "uint64"};

// The tensors of reference.safetensors; see tools/reference/io_fixtures.py.
std::vector<std::pair<std::string, Tensor>> reference_tensors() {
  std::vector<std::pair<std::string, Tensor>> out;
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    out.emplace_back(std::string("t.") + kTorchNames[i],
                     counted(kTypes[i], {2, 3}, static_cast<int>(i)));
  }
  const float scalar = 7.5F;
  out.emplace_back("a.scalar", Tensor::from<float>({&scalar, 1}, {}));
  out.emplace_back("z.empty", Tensor(DType::kF32, {0, 5}));
  out.emplace_back("quote\"back\\slash\n\u00e9\u4e2d\x01", counted(DType::kF32, {1}, 3));
  return out;
}

std::vector<NamedTensor> named(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<NamedTensor> out;
  for (const auto& [name, tensor] : tensors) out.push_back({name, &tensor});
  return out;
}

TEST(Safetensors, ReadsWhatTheReferenceWrites) {
  const auto file = SafetensorsFile::open(data_file("reference.safetensors"));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  const auto wanted = reference_tensors();
  EXPECT_EQ(file.entries().size(), wanted.size());
  for (const auto& [name, tensor] : wanted) {
    EXPECT_EQ(difference(file.get(name), tensor), "") << name;
    EXPECT_TRUE(file.get(name).borrowed()) << name;
  }
  EXPECT_TRUE(SafetensorsFile::open(data_file("reference_empty.safetensors")).entries().empty());
}

TEST(Safetensors, WritesTheBytesOfTheReference) {
  const testing::TempFolder folder;
  const auto tensors = reference_tensors();
  write_safetensors(folder / "a.safetensors", named(tensors), {{"format", "pt"}});
  EXPECT_EQ(read_file(folder / "a.safetensors"), read_file(data_file("reference.safetensors")));
  write_safetensors(folder / "b.safetensors", {});
  EXPECT_EQ(read_file(folder / "b.safetensors"),
            read_file(data_file("reference_empty.safetensors")));
  const Tensor only = counted(DType::kU8, {5});
  const NamedTensor one{"only", &only};
  write_safetensors(folder / "c.safetensors", {&one, 1});
  EXPECT_EQ(read_file(folder / "c.safetensors"),
            read_file(data_file("reference_plain.safetensors")));
}

TEST(Safetensors, ComparatorTellsTensorsApart) {
  const Tensor a = counted(DType::kF32, {2, 3});
  EXPECT_EQ(difference(a, a.clone()), "");
  EXPECT_NE(difference(a, counted(DType::kF32, {2, 3}, 1)), "");
  EXPECT_NE(difference(a, counted(DType::kF32, {3, 2})), "");
  EXPECT_NE(difference(a, counted(DType::kI32, {2, 3})), "");
}

TEST(Safetensors, AbsentTensorsAreNamedWithTheirNearest) {
  const auto file = SafetensorsFile::open(data_file("reference.safetensors"));
  EXPECT_FALSE(file.find("nothing").has_value());
  EXPECT_EQ(file.find_entry("nothing"), nullptr);
  expect_data_error("no tensor 't.float3'; did you mean 't.float32'?",
                    [&] { file.get("t.float3"); });
}

TEST(Safetensors, RefusesDamagedHeaders) {
  const struct {
    const char* header;
    std::size_t data;
    const char* part;
  } cases[] = {
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3, "file ends at"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5, "but the file has"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "takes 8"},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4, "unknown dtype 'F31'"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "backwards"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "wanted 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", 4, "whole number"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "whole number"},
      {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "wanted an array"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", 4, "'data_offsets' is missing"},
      {R"({"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}})", 4, "wanted a string"},
      {R"({"a":7})", 4, "wanted an object"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "overflows"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]}})", 0,
       "overflows"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "not whole bytes"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "hole"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlaps"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "occurs twice"},
      {R"({"__metadata__":{"x":1}})", 0, "metadata 'x'"},
      {R"({"__metadata__":[]})", 0, "wanted an object"},
      {R"([])", 0, "does not start with '{'"},
      {R"({"a":)", 0, "line 1"},
      {"", 0, "does not start with '{'"},
  };
  for (const auto& test : cases) {
    const std::string file = with_header(test.header, test.data);
    expect_data_error(test.part, [&] { parse_safetensors(bytes_of(file)); });
  }
  expect_data_error("wanted at least 8", [] { parse_safetensors(bytes_of("1234567")); });
  expect_data_error("at most 100000000",
                    [] { parse_safetensors(bytes_of("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}")); });
  expect_data_error("file ends at 10", [] {
    parse_safetensors(bytes_of(std::string_view("\5\0\0\0\0\0\0\0{}", 10)));
  });
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string whole = read_file(data_file("reference.safetensors"));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto outcome = testing::outcome_of(
        [&] { parse_safetensors(bytes_of(std::string_view(whole).substr(0, n))); });
    EXPECT_TRUE(outcome.threw && outcome.kind == ErrorKind::kData) << n;
  }
  EXPECT_NO_THROW(parse_safetensors(bytes_of(whole)));
}

TEST(Safetensors, TypesThatTensorsLackAreListedButNotRead) {
  const testing::TempFolder folder;
  write_file_atomic(folder / "c.safetensors",
                    std::string_view(with_header(
                        R"({"c":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", 8)));
  const auto file = SafetensorsFile::open(folder / "c.safetensors");
  EXPECT_EQ(file.entries().at(0).dtype_text, "C64");
  expect_data_error("type C64", [&] { file.get("c"); });
}

// NaN codes may differ in payload between libraries; every other value is exact.
TEST(Safetensors, EightBitFloatsAreWhatTorchMakesOfEveryCode) {
  const auto file = SafetensorsFile::open(data_file("float8.safetensors"));
  for (const DType dtype :
       {DType::kF8E4M3, DType::kF8E5M2, DType::kF8E4M3Fnuz, DType::kF8E5M2Fnuz, DType::kF8E8M0}) {
    const std::string name(dtype_name(dtype));
    const Tensor codes = file.get(name);
    ASSERT_EQ(codes.dtype(), dtype);
    const Tensor got = codes.to(DType::kF32);
    const Tensor wanted = file.get(name + ".float32").clone();
    ASSERT_EQ(wanted.elements(), 256);
    for (std::size_t i = 0; i < 256; ++i) {
      const float a = got.data<float>()[i];
      const float b = wanted.data<float>()[i];
      EXPECT_TRUE((std::isnan(a) && std::isnan(b)) ||
                  std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b))
          << name << " " << i << ": " << a << ", wanted " << b;
    }
  }
}

TEST(Safetensors, HeadersOfManyTensorsTakeLittleMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "SKIPPED: AddressSanitizer's own memory is many times what is measured";
#endif
  // As small as entries can be, which is where what is made of them weighs most.
  std::string header = "{";
  for (int i = 0; header.size() < 20'000'000; ++i) {
    header +=
        str(i == 0 ? "" : ",", '"', i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  const std::string file = with_header(header + "}", 0);
  header = {};
  const auto before = peak_resident_bytes();
  const auto parsed = parse_safetensors(bytes_of(file));
  EXPECT_GT(parsed.entries.size(), 300'000U);
  EXPECT_NE(parsed.find("299999"), nullptr);
  // An entry has 96 bytes, a heap block of 32 for its shape and 4 in the index of names; the vector
  // doubles, so that it and the half as large one before it are there at once; per 55 bytes of text
  // that makes at most (2 + 1) * 96 / 55 + 36 / 55 = 6 bytes a byte.
  EXPECT_LT(peak_resident_bytes() - before, 6 * file.size());
}

TEST(Safetensors, HostileHeadersCostNoMemory) {
  const std::string long_number = R"({"a":{"dtype":"U8","shape":[)" + std::string(1 << 20, '1');
  const auto outcome = testing::outcome_of(
      [&] { parse_safetensors(bytes_of(with_header(long_number + "]}}", 0))); });
  EXPECT_NE(outcome.message.find("header: line 1, column"), std::string::npos);
  EXPECT_LT(outcome.message.size(), 300U);
  const std::string cut = R"({"a":{"dtype":"U8","shape":[1,)";
  expect_data_error("header: line 1, column",
                    [&] { parse_safetensors(bytes_of(with_header(cut, 0))); });
  std::string axes = R"({"a":{"dtype":"U8","shape":[1)";
  for (int i = 0; i < 64; ++i) axes += ",1";
  axes += R"(],"data_offsets":[0,1]}})";
  expect_data_error("more than 64 axes",
                    [&] { parse_safetensors(bytes_of(with_header(axes, 1))); });
  std::string metadata = R"({"__metadata__":{"0":"")";
  for (int i = 1; i <= (1 << 16); ++i) metadata += str(",\"", i, R"(":"")");
  expect_data_error("more than 65536 members",
                    [&] { parse_safetensors(bytes_of(with_header(metadata + "}}", 0))); });
  const std::string deep = R"({"a":{"x":)" + std::string(20, '[') + std::string(20, ']') + "}}";
  expect_data_error("nested deeper", [&] { parse_safetensors(bytes_of(with_header(deep, 0))); });
}

TEST(Safetensors, MembersThatTheFormatDoesNotNameAreSkipped) {
  const auto header = parse_safetensors(bytes_of(with_header(
      R"({"a":{"note":{"x":[1,"y",null,{"dtype":7}]},"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
      2)));
  ASSERT_EQ(header.entries.size(), 1U);
  EXPECT_EQ(header.entries[0].bytes, 2U);
}

TEST(Safetensors, SharedSamplesAreTakenOrRefused) {
  const auto folder = shared_file("data/safetensors");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "SKIPPED: " << folder << " is not here";
  int bad = 0;
  for (const auto& item : std::filesystem::directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (name.rfind("bad_", 0) == 0) {
      ++bad;
      expect_data_error(name, [&] { SafetensorsFile::open(item.path()); });
    } else if (name.rfind("valid_", 0) == 0) {
      EXPECT_NO_THROW(SafetensorsFile::open(item.path())) << name;
    }
  }
  EXPECT_GE(bad, 17);
  const auto mixed = SafetensorsFile::open(folder / "valid_mixed.safetensors");
  EXPECT_EQ(difference(mixed.get("a.matrix"), counted(DType::kF32, {2, 3})), "");
  const std::int64_t wanted[] = {-1, 0, std::int64_t{1} << 40};
  EXPECT_EQ(difference(mixed.get("c.i64"), Tensor::from<std::int64_t>(wanted, {3})), "");
  const auto sharded = WeightFiles::open(folder / "sharded");
  EXPECT_EQ(sharded.files().size(), 2U);
  for (const auto& name : sharded.names()) EXPECT_GT(sharded.get(name).bytes(), 0U) << name;
}

TEST(Safetensors, WriterRefusesWhatTheReferenceRefuses) {
  const testing::TempFolder folder;
  const Tensor a = counted(DType::kF32, {4});
  const NamedTensor tied[] = {{"a", &a}, {"b", &a}};
  expect_error(ErrorKind::kUsage, "share memory", [&] { write_safetensors(folder / "x", tied); });
  const Tensor b = a.clone();
  const NamedTensor twice[] = {{"a", &a}, {"a", &b}};
  expect_error(ErrorKind::kUsage, "given twice", [&] { write_safetensors(folder / "x", twice); });
  const NamedTensor reserved[] = {{"__metadata__", &a}};
  expect_error(ErrorKind::kUsage, "cannot name",
               [&] { write_safetensors(folder / "x", reserved); });
  EXPECT_TRUE(folder.empty());
}

TEST(Safetensors, FullDiskLeavesNothingBehind) {
  const testing::TempFolder folder;
  const Tensor big(DType::kF32, {1 << 20});
  const NamedTensor one{"big", &big};
  {
    const testing::FileSizeLimit limit(1 << 16);
    expect_error(ErrorKind::kIo, "big.safetensors", [&] {
      write_safetensors(folder / "big.safetensors", {&one, 1});
    });
  }
  EXPECT_TRUE(folder.empty());
  write_safetensors(folder / "big.safetensors", {&one, 1});
  EXPECT_EQ(SafetensorsFile::open(folder / "big.safetensors").entries().size(), 1U);
}

}  // namespace
}  // namespace drrik
