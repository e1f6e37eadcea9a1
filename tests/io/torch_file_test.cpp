#include "drrik/io/torch_file.h"

#include <cmath>

#include <array>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>
#include "io/zip.h"

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

constexpr std::pair<const char*, DType> kStateTypes[] = {{"f32", DType::kF32},
                                                         {"f16", DType::kF16},
                                                         {"bf16", DType::kBF16},
                                                         {"f64", DType::kF64},
                                                         {"int8", DType::kI8},
                                                         {"int16", DType::kI16},
                                                         {"int32", DType::kI32},
                                                         {"int64", DType::kI64},
                                                         {"uint8", DType::kU8},
                                                         {"uint16", DType::kU16},
                                                         {"uint32", DType::kU32},
                                                         {"uint64", DType::kU64},
                                                         {"float8_e4m3fn", DType::kF8E4M3},
                                                         {"float8_e5m2", DType::kF8E5M2}};

Tensor flags() {
  Tensor out(DType::kBool, {3});
  out.mutable_raw()[0] = out.mutable_raw()[2] = std::byte{1};
  return out;
}

// The state_dict() of tools/reference/io_fixtures.py.
PtValue state_dict() {
  PtValue out = PtValue::dict(/*ordered=*/true);
  for (const auto& [name, dtype] : kStateTypes) out.set(name, counted(dtype, {2, 3}));
  out.set("bool", flags());
  const float scalar = 7.5F;
  out.set("scalar", Tensor::from<float>({&scalar, 1}, {}));
  out.set("empty", Tensor(DType::kF32, {0, 5}));
  return out;
}

void expect_state_dict(const PtValue& got) {
  const PtValue wanted = state_dict();
  ASSERT_TRUE(got.ordered());
  ASSERT_EQ(got.members().size(), wanted.members().size());
  for (std::size_t i = 0; i < wanted.members().size(); ++i) {
    const auto& member = got.members()[i];
    EXPECT_EQ(member.first.as_string(), wanted.members()[i].first.as_string());
    EXPECT_EQ(difference(member.second.as_tensor(), wanted.members()[i].second.as_tensor()), "")
        << member.first.as_string();
  }
}

void expect_plain(const PtValue& got) {
  EXPECT_TRUE(got.get("none").is_none());
  EXPECT_TRUE(got.get("true").as_bool());
  EXPECT_FALSE(got.get("false").as_bool());
  const std::int64_t ints[] = {
      0,         255,      256, 65535, 65536, -1, INT32_MAX, INT32_MIN, std::int64_t{1} << 31,
      INT64_MIN, INT64_MAX};
  ASSERT_EQ(got.get("ints").items().size(), std::size(ints));
  for (std::size_t i = 0; i < std::size(ints); ++i) {
    EXPECT_EQ(got.get("ints").items()[i].as_int(), ints[i]);
  }
  const auto& floats = got.get("floats").items();
  EXPECT_EQ(floats.at(1).as_double(), -1.5);
  EXPECT_EQ(floats.at(2).as_double(), 1e300);
  EXPECT_TRUE(std::isinf(floats.at(3).as_double()));
  EXPECT_TRUE(std::isnan(floats.at(4).as_double()));
  EXPECT_EQ(got.get("text").as_string(), "h\u00e9llo \u4e2d");
  EXPECT_EQ(got.get("bytes").kind(), PtValue::Kind::kBytes);
  EXPECT_EQ(got.get("bytes").as_string(), std::string("\x00\x7f\x80\xff", 4));
  EXPECT_EQ(got.get("tuple").items().at(1).items().at(0).as_string(), "a");
  EXPECT_EQ(got.get("nested").get("a").get("b").items().size(), 3U);
}

TEST(TorchFile, ReadsEveryType) {
  expect_state_dict(read_torch_file(data_file("state_dict.pt")));
  const std::string bytes = read_file(data_file("state_dict.pt"));
  expect_state_dict(parse_torch_file(bytes_of(bytes)));
}

TEST(TorchFile, ReadsPlainValuesOfBothProtocols) {
  for (const char* name : {"plain.pt", "plain_protocol4.pt"}) {
    const PtValue got = read_torch_file(data_file(name));
    expect_plain(got);
    EXPECT_EQ(got.get("size").items().at(1).as_int(), 3);
    EXPECT_EQ(got.get("dtype").as_string(), "torch.bfloat16");
    EXPECT_EQ(got.get("device").as_string(), "cpu");
    EXPECT_EQ(got.get("set").items().at(0).as_int(), 1);
  }
}

TEST(TorchFile, UndoesStridesAndSharing) {
  const PtValue got = read_torch_file(data_file("views.pt"));
  const auto values = [&](const char* name) { return got.get(name).as_tensor().data<float>(); };
  const auto shape = [&](const char* name) { return got.get(name).as_tensor().shape(); };
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shape("transposed"), (Shape{6, 4}));
  EXPECT_EQ(shape("columns"), (Shape{4, 2}));
  EXPECT_EQ(shape("every_other"), (Shape{2, 2}));
  EXPECT_EQ(shape("expanded"), (Shape{2, 3}));
  for (std::size_t r = 0; r < 4; ++r) {
    for (std::size_t c = 0; c < 6; ++c) {
      EXPECT_EQ(values("transposed")[c * 4 + r], static_cast<float>(r * 6 + c));
    }
    EXPECT_EQ(values("columns")[r * 2 + 1], static_cast<float>(r * 6 + 2));
  }
  EXPECT_EQ(values("rows")[0], 6.0F);
  EXPECT_EQ(values("every_other")[3], 15.0F);
  EXPECT_EQ(values("expanded")[5], 3.0F);
  const auto permuted = got.get("permuted").as_tensor().data<std::int64_t>();
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t k = 0; k < 4; ++k) {
        EXPECT_EQ(permuted[(k * 2 + i) * 3 + j], static_cast<std::int64_t>((i * 3 + j) * 4 + k));
      }
    }
  }
  // Tied weights stay one tensor, and what lies contiguous is not copied.
  EXPECT_EQ(got.get("tied").shared_tensor(), got.get("whole").shared_tensor());
  EXPECT_TRUE(got.get("whole").as_tensor().borrowed());
  EXPECT_TRUE(got.get("rows").as_tensor().borrowed());
  EXPECT_FALSE(got.get("transposed").as_tensor().borrowed());
}

TEST(TorchFile, ReadsTheStreamOfTorchBefore16) {
  const PtValue value = read_torch_file(data_file("legacy.pt"));
  const Tensor f32 = counted(DType::kF32, {2, 3});
  EXPECT_EQ(difference(value.get("f32").as_tensor(), f32), "");
  EXPECT_TRUE(value.get("f32").as_tensor().borrowed());
  const float transposed[] = {0, 3, 1, 4, 2, 5};
  EXPECT_EQ(difference(value.get("t").as_tensor(), Tensor::from<float>(transposed, {3, 2})), "");
  EXPECT_EQ(difference(value.get("tail").as_tensor(), counted(DType::kF32, {3}, 3)), "");
  EXPECT_EQ(difference(value.get("bf16").as_tensor(), counted(DType::kBF16, {5})), "");
  EXPECT_EQ(difference(value.get("p").as_tensor(), counted(DType::kF16, {3})), "");
  EXPECT_EQ(difference(value.get("empty").as_tensor(), Tensor(DType::kF32, {0, 5})), "");
  EXPECT_EQ(value.get("step").as_int(), 7);

  const std::string whole = read_file(data_file("legacy.pt"));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto outcome = testing::outcome_of(
        [&] { parse_torch_file(bytes_of(std::string_view(whole).substr(0, n))); });
    EXPECT_TRUE(outcome.threw && outcome.kind == ErrorKind::kData) << n;
  }
  std::string other = whole;
  other[18] = 2;  // the protocol's upper byte
  expect_data_error("in another protocol", [&] { parse_torch_file(bytes_of(other)); });
}

TEST(TorchFile, ReadsParametersAndMetadata) {
  const PtValue got = read_torch_file(data_file("parameter.pt"));
  EXPECT_EQ(difference(got.get("weight").as_tensor(), counted(DType::kF32, {2, 3})), "");
  EXPECT_EQ(difference(got.get("bias").as_tensor(), counted(DType::kF32, {2}, 6)), "");
  EXPECT_EQ(difference(got.get("p").as_tensor(), counted(DType::kF32, {3})), "");
}

TEST(TorchFile, ReadsBigEndianFiles) {
  const PtValue got = read_torch_file(data_file("big_endian.pt"));
  EXPECT_EQ(difference(got.get("x").as_tensor(), counted(DType::kF32, {2, 2})), "");
  const auto t = got.get("t").as_tensor().data<std::int16_t>();
  EXPECT_EQ(t[1], 3);
  EXPECT_EQ(t[2], 1);
}

// numpy_values() of tools/reference/io_fixtures.py: both protocols, and the module's name before
// numpy 2.
TEST(TorchFile, ReadsNumpyNumbersAndArraysAsPlainData) {
  for (const char* name : {"numpy.pt", "numpy_protocol4.pt", "numpy1.pt"}) {
    const PtValue got = read_torch_file(data_file(name));
    const PtValue& numbers = got.get("numbers");
    for (const auto& [code, value] : {std::pair{"f2", -0.25}, {"f4", 1.5}, {"f8", 1e300}}) {
      EXPECT_EQ(numbers.get(code).kind(), PtValue::Kind::kFloat) << name << " " << code;
      EXPECT_EQ(numbers.get(code).as_double(), value) << name << " " << code;
    }
    const std::pair<const char*, std::int64_t> ints[] = {
        {"i1", -2},  {"i2", -300},  {"i4", -70000},     {"i8", INT64_MIN},
        {"u1", 200}, {"u2", 60000}, {"u4", 4000000000}, {"u8", INT64_MAX}};
    for (const auto& [code, value] : ints) EXPECT_EQ(numbers.get(code).as_int(), value) << code;
    EXPECT_TRUE(got.get("true").as_bool());
    EXPECT_FALSE(got.get("false").as_bool());
    EXPECT_EQ(got.get("losses").items().at(0).as_double(), 3.0);
    EXPECT_EQ(got.get("losses").items().at(1).as_double(), 0.5);
    EXPECT_EQ(got.get("zero_axes").as_tensor().rank(), 0);
    EXPECT_EQ(got.get("zero_axes").as_tensor().data<double>()[0], 0.75);
    EXPECT_EQ(difference(got.get("matrix").as_tensor(), counted(DType::kF32, {2, 3})), "");
    EXPECT_EQ(difference(got.get("fortran").as_tensor(), counted(DType::kF32, {2, 3})), "");
    EXPECT_EQ(difference(got.get("empty").as_tensor(), Tensor(DType::kI64, {0, 3})), "");
    EXPECT_EQ(got.get("no_bytes").kind(), PtValue::Kind::kBytes);
    EXPECT_EQ(got.get("no_bytes").as_string(), "");
  }
}

TEST(TorchFile, RefusesWhatItMayNotDo) {
  expect_data_error("bad_call.pt: it would call posix.system, which is not allowed",
                    [] { read_torch_file(data_file("bad_call.pt")); });
  expect_data_error("__main__.Custom", [] { read_torch_file(data_file("bad_class.pt")); });
  expect_data_error("ComplexFloatStorage", [] { read_torch_file(data_file("bad_complex.pt")); });
  expect_data_error("more than 64 bits", [] { read_torch_file(data_file("bad_bigint.pt")); });
  expect_data_error("a bare pickle", [] { parse_torch_file(bytes_of("\x80\x02N.")); });
  expect_data_error("pointer of Git LFS", [] {
    parse_torch_file(bytes_of("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"));
  });
  expect_data_error("TorchScript", [] { read_torch_file(data_file("bad_torchscript.pt")); });
  expect_data_error("holds itself", [] { read_torch_file(data_file("bad_circle.pt")); });
  expect_data_error("neither a zip archive", [] { parse_torch_file(bytes_of("hello")); });
  expect_data_error("neither a zip archive", [] { parse_torch_file({}); });
}

// A file made of a pickle and one storage of 16 bytes.
std::string torch_file(std::string_view pickle) {
  const testing::TempFolder folder;
  AtomicFile file(folder / "a.pt");
  ZipWriter zip(file);
  zip.add("archive/data.pkl", bytes_of(pickle));
  zip.add("archive/data/0", bytes_of(std::string(16, '\1')));
  zip.finish();
  file.commit();
  return read_file(folder / "a.pt");
}

std::string view_pickle(std::string_view numel, std::string_view offset, std::string_view sizes,
                        std::string_view strides, std::string_view type = "FloatStorage") {
  return str("\x80\x02", "ctorch._utils\n_rebuild_tensor_v2\n((X", std::string_view("\7\0\0\0", 4),
             "storagectorch\n", type, "\nX", std::string_view("\1\0\0\0", 4), "0X",
             std::string_view("\3\0\0\0", 4), "cpu", numel, "tQ", offset, "(", sizes, "t(", strides,
             "t\x89", "ccollections\nOrderedDict\n)RtR.");
}

TEST(TorchFile, ChecksViewsAgainstTheirStorage) {
  const auto parse = [](const std::string& pickle) {
    const std::string file = torch_file(pickle);
    return parse_torch_file(bytes_of(file));
  };
  const std::string four = "K\4";
  const std::string zero("K\0", 2);
  EXPECT_EQ(parse(view_pickle(four, zero, four, "K\1")).as_tensor().elements(), 4);
  EXPECT_EQ(parse(view_pickle(four, zero, zero, "K\1")).as_tensor().elements(), 0);
  const std::string minus = "J\xFF\xFF\xFF\xFF";
  const std::string huge = "\x8a\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F";
  expect_data_error("beyond its storage", [&] { parse(view_pickle(four, "K\1", four, "K\1")); });
  expect_data_error("beyond its storage", [&] { parse(view_pickle(four, minus, four, "K\1")); });
  expect_data_error("beyond its storage", [&] { parse(view_pickle(four, zero, four, huge)); });
  expect_data_error("beyond its storage", [&] { parse(view_pickle(four, huge, four, huge)); });
  expect_data_error("wanted >= 0", [&] { parse(view_pickle(four, zero, minus, "K\1")); });
  expect_data_error("wanted >= 0", [&] { parse(view_pickle(four, zero, four, minus)); });
  expect_data_error("1 sizes but 0 strides", [&] { parse(view_pickle(four, zero, four, "")); });
  expect_data_error("wanted 5 elements", [&] { parse(view_pickle("K\5", zero, four, "K\1")); });
  expect_data_error("elements", [&] { parse(view_pickle(minus, zero, four, "K\1")); });
  expect_data_error("too large", [&] { parse(view_pickle(four, zero, huge + huge, zero + zero)); });
  // 2^40 repeats of one element: within its storage, but not within reason.
  const std::string many = std::string("\x8a\6\0\0\0\0\0\1", 8);
  expect_data_error("repeats its storage", [&] { parse(view_pickle(four, zero, many, zero)); });
  expect_data_error("storage type 'torch QInt8Storage'",
                    [&] { parse(view_pickle(four, zero, four, "K\1", "QInt8Storage")); });
}

TEST(TorchFile, RefusesHostilePickles) {
  const auto refuses = [](std::string_view part, std::string pickle) {
    const std::string file = torch_file("\x80\x02" + pickle);
    expect_data_error(part, [&] { parse_torch_file(bytes_of(file)); });
  };
  refuses("ends in the middle", "");
  refuses("ends in the middle", "X\xFF\xFF\xFF\xFFx");
  refuses("a value is missing", ".");
  refuses("a mark is missing", "t.");
  refuses("memo", "h\5.");
  refuses("memo", "Nr\xFF\xFF\xFF\x7F.");
  refuses("no list", "NNa.");
  refuses("no dict", "NNNs.");
  refuses("a key has no value", "}(Nu.");
  refuses("no global", "N)R.");
  refuses("opcode", "i.");
  refuses("state is not supported", "}}b.");
  refuses("builtins.eval", "cbuiltins\neval\nX" + std::string("\1\0\0\0", 4) + "1\x85R.");
  refuses("nested deeper", std::string(100'000, ']') + std::string(99'999, 'a') + ".");
  refuses("a bare storage", "(X" + std::string("\7\0\0\0", 4) + "storagectorch\nFloatStorage\nX" +
                                std::string("\1\0\0\0", 4) + "0X" + std::string("\3\0\0\0", 4) +
                                "cpuK\4tQ.");
  // A chain of lists that each hold the one before twice: 2^150 leaves, but only 151 values.
  std::string doubling = "]q" + std::string(1, '\0');
  for (char i = 1; i <= 100; ++i) {
    doubling += str("](h", static_cast<char>(i - 1), "h", static_cast<char>(i - 1), "eq", i);
  }
  const std::string file = torch_file("\x80\x02" + doubling + ".");
  EXPECT_EQ(parse_torch_file(bytes_of(file)).items().size(), 2U);
  // Lists deep inside lists seen before: no walk is deep, but the value would be.
  std::string towers;
  for (char i = 0; i < 100; ++i) {
    towers += std::string(100, ']');
    if (i > 0) towers += str("h", static_cast<char>(i - 1), "a");
    towers += std::string(99, 'a') + "q" + i;
  }
  std::string all = towers + "](";
  for (char i = 0; i < 100; ++i) all += str("h", i);
  refuses("nested deeper", all + "e.");
}

TEST(TorchFile, ChecksNumpyNumbersAndArrays) {
  const auto text = [](std::string_view value) {
    return str("X", static_cast<char>(value.size()), std::string_view("\0\0\0", 3), value);
  };
  const auto raw = [](std::string_view value) {
    return str("C", static_cast<char>(value.size()), value);
  };
  const auto type = [&](std::string_view code, std::string_view order) {
    return str("cnumpy\ndtype\n", text(code), "\x85R", "(K\3", text(order), "NNNK\1tb");
  };
  const auto number = [&](std::string_view dtype, std::string_view data) {
    return str("cnumpy.core.multiarray\nscalar\n", dtype, data, "\x86R");
  };
  const auto array = [&](std::string_view dtype, std::string_view sizes, std::string_view data) {
    return str("cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\1\x85", raw("b"), "\x87R",
               "(K\1(", sizes, "t", dtype, "\x89", data, "tb");
  };
  const auto parse = [](const std::string& pickle) {
    const std::string file = torch_file(str("\x80\x04", pickle, "."));
    return parse_torch_file(bytes_of(file));
  };
  const std::string f4 = type("f4", "<");
  const std::string one("\0\0\x80\x3F", 4);
  EXPECT_EQ(parse(number(f4, raw(one))).as_double(), 1.0);
  EXPECT_EQ(parse(array(f4, "K\1", raw(one))).as_tensor().data<float>()[0], 1.0F);
  const auto refuses = [&](std::string_view part, const std::string& pickle) {
    expect_data_error(part, [&] { parse(pickle); });
  };
  refuses("has 3 bytes, wanted 4", number(f4, raw("abc")));
  refuses("has 5 bytes, wanted 4", number(f4, raw("abcde")));
  refuses("has no bytes", number(f4, text("abcd")));
  refuses("byte order '>'", number(type("f4", ">"), raw(one)));
  refuses("type 'O8'", number(type("O8", "|"), raw("12345678")));
  refuses("type 'V4'", number(type("V4", "|"), raw(one)));
  refuses("type 'f'", number(type("f", "<"), raw(one)));
  refuses("wanted a numpy dtype", number("K\1", raw(one)));
  refuses("wanted a numpy dtype", number("cnumpy\ndtype\n", raw(one)));
  refuses("beyond 2^63 - 1", number(type("u8", "<"), raw("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")));
  refuses("fields", str("cnumpy\ndtype\n", text("f4"), "\x85R(K\3", text("<"), "N}NtbK\1"));
  refuses("a numpy dtype on its own", f4);
  refuses("4 bytes, wanted [2]", array(f4, "K\2", raw(one)));
  refuses("4 bytes, wanted [0]", array(f4, std::string("K\0", 2), raw(one)));
  refuses("wanted >= 0", array(f4, "J\xFF\xFF\xFF\xFF", raw(one)));
  refuses("too large", array(f4, "J\1\1\1\x7FJ\1\1\1\x7FJ\1\1\1\x7F", raw(one)));
  const std::string numbered = array(f4, "K\1", raw(one));
  refuses("its order", std::string(numbered).replace(numbered.find('\x89'), 1, "N"));
  refuses("without its data",
          str("cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\1\x85", raw("b"), "\x87R"));
  refuses("wanted numpy.ndarray",
          str("cnumpy.core.multiarray\n_reconstruct\ncnumpy\nmatrix\nK\1\x85", raw("b"), "\x87R"));
  refuses("builtins.bytes", "cbuiltins\nbytes\nK\1\x85R");
  refuses("numpy.core.multiarray.fromfile", "cnumpy.core.multiarray\nfromfile\n)R");
  // Few bytes of pickle can name the same data again and again.
  const std::string kept =
      torch_file(str("\x80\x04(", array(f4, "K\1", raw(one)), array(f4, "K\1", raw(one)), "t."));
  PtReadOptions options;
  options.max_tensor_bytes = 8;
  EXPECT_EQ(parse_torch_file(bytes_of(kept), options).items().size(), 2U);
  options.max_tensor_bytes = 7;
  expect_data_error("more memory", [&] { parse_torch_file(bytes_of(kept), options); });
}

TEST(TorchFile, EveryTruncationIsAnError) {
  const std::string whole = read_file(data_file("views.pt"));
  for (std::size_t n = 0; n < whole.size(); n += 7) {
    const auto outcome = testing::outcome_of(
        [&] { parse_torch_file(bytes_of(std::string_view(whole).substr(0, n))); });
    EXPECT_TRUE(outcome.threw && outcome.kind == ErrorKind::kData) << n;
  }
}

// What --verify of tools/reference/io_fixtures.py expects.
PtValue everything() {
  PtValue out = PtValue::dict();
  out.set("state_dict", state_dict());
  out.set("tied", out.get("state_dict").get("f32").shared_tensor());
  out.set("none", PtValue());
  out.set("true", true);
  out.set("false", false);
  PtValue ints = PtValue::list();
  for (const std::int64_t value :
       {std::int64_t{0}, std::int64_t{255}, std::int64_t{256}, std::int64_t{65535},
        std::int64_t{65536}, std::int64_t{-1}, std::int64_t{INT32_MAX}, std::int64_t{INT32_MIN},
        std::int64_t{1} << 31, std::int64_t{INT64_MIN}, std::int64_t{INT64_MAX}}) {
    ints.add(value);
  }
  out.set("ints", ints);
  out.set("floats", PtValue::list({0.0, -1.5, 1e300, std::numeric_limits<double>::infinity(),
                                   std::numeric_limits<double>::quiet_NaN()}));
  out.set("text", "h\u00e9llo \u4e2d");
  out.set("bytes", PtValue::bytes(std::string("\x00\x7f\x80\xff", 4)));
  out.set("tuple", PtValue::tuple({1, PtValue::tuple({"a", PtValue()})}));
  PtValue inner = PtValue::dict();
  inner.set("b", PtValue::list({PtValue::list(), PtValue::dict(), PtValue::tuple({})}));
  PtValue nested = PtValue::dict();
  nested.set("a", inner);
  out.set("nested", nested);
  out.set(7, "int key");
  return out;
}

TEST(TorchFile, WritesTheCommittedBytes) {
  const testing::TempFolder folder;
  write_torch_file(folder / "a.pt", everything());
  const auto golden = data_file("written.pt");
  if (std::getenv("DRRIK_UPDATE_GOLDEN") != nullptr) {
    write_file_atomic(golden, std::string_view(read_file(folder / "a.pt")));
  }
  EXPECT_EQ(read_file(folder / "a.pt"), read_file(golden));
  const PtValue back = read_torch_file(folder / "a.pt");
  expect_state_dict(back.get("state_dict"));
  expect_plain(back);
  EXPECT_EQ(back.get("tied").shared_tensor(), back.get("state_dict").get("f32").shared_tensor());
}

TEST(TorchFile, WriterRefusesEndlessNesting) {
  const testing::TempFolder folder;
  PtValue value;
  for (int i = 0; i < 250; ++i) value = PtValue::list({value});
  expect_error(ErrorKind::kUsage, "nested deeper",
               [&] { write_torch_file(folder / "a.pt", value); });
  EXPECT_TRUE(folder.empty());
}

TEST(TorchFile, FullDiskLeavesNothingBehind) {
  const testing::TempFolder folder;
  {
    const testing::FileSizeLimit limit(1 << 16);
    expect_error(ErrorKind::kIo, "a.pt",
                 [&] { write_torch_file(folder / "a.pt", Tensor(DType::kF32, {1 << 20})); });
  }
  EXPECT_TRUE(folder.empty());
}

TEST(TorchFile, AccessorsSayWhatTheyGot) {
  PtValue dict = PtValue::dict();
  dict.set("weight", 1);
  dict.set("weight", 2);
  EXPECT_EQ(dict.members().size(), 1U);
  EXPECT_EQ(dict.get("weight").as_double(), 2.0);
  expect_data_error("no member 'wieght'; did you mean 'weight'?", [&] { dict.get("wieght"); });
  expect_data_error("got a dict, wanted a tensor", [&] { dict.as_tensor(); });
  expect_data_error("got a int, wanted a string", [&] { dict.get("weight").as_string(); });
  EXPECT_EQ(dict.find("absent"), nullptr);
}

TEST(TorchFile, SharedSamples) {
  const auto folder = shared_file("data/candle");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "SKIPPED: " << folder << " is not here";
  const PtValue plain = read_torch_file(folder / "test.pt");
  EXPECT_EQ(plain.members().at(0).second.as_tensor().shape(), (std::vector<std::int64_t>{2, 4}));
  EXPECT_TRUE(read_torch_file(folder / "test_with_key.pt").find("model_state_dict") != nullptr);
  const PtValue fortran = read_torch_file(folder / "fortran_tensor_3d.pth");
  const Tensor& tensor = fortran.kind() == PtValue::Kind::kDict
                             ? fortran.members().at(0).second.as_tensor()
                             : fortran.as_tensor();
  ASSERT_EQ(tensor.shape(), (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(difference(tensor.to(DType::kF32), counted(DType::kF32, {2, 3, 4}, 1)), "");
  int read = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(shared_file("models"))) {
    if (item.path().extension() != ".pt") continue;
    EXPECT_NO_THROW(read_torch_file(item.path())) << item.path();
    ++read;
  }
  EXPECT_GE(read, 8);
}

}  // namespace
}  // namespace drrik
