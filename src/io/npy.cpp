// The format: numpy/lib/format.py's docstring (NEP 1).

#include "drrik/io/npy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "drrik/base/checked.h"
#include "io/npy_layout.h"

namespace drrik {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
// A header is a few hundred bytes; NumPy itself refuses more than 10000 by default.
constexpr std::uint64_t kMaxHeader = 1 << 20;
constexpr std::size_t kMaxRank = 64;
constexpr std::size_t kAlignment = 64;
// Values of a column that are transposed together.
constexpr std::int64_t kStretch = 256;
// NumPy leaves room for this many digits of the first axis, so that appending can rewrite it.
constexpr std::size_t kGrowthDigits = 21;

// Reads the one kind of Python literal that stands in a header.
class Literal {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(str("wanted '", c, "'"));
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("wanted a string");
    const auto end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a string has no end");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    if (out.find('\\') != std::string::npos) fail("a string has an escape");
    at_ = end + 1;
    return out;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    fail("wanted True or False");
  }
  std::int64_t size() {
    skip_space();
    std::int64_t out = 0;
    const std::size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const auto shifted = checked_mul<std::int64_t>(out, 10);
      const auto sum = shifted ? checked_add<std::int64_t>(*shifted, text_[at_] - '0') : shifted;
      if (!sum) fail("a size overflows");
      out = *sum;
    }
    if (at_ == begin) fail("wanted a size >= 0");
    // Python 2 wrote long integers as 3L.
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;
    return out;
  }
  void expect_end() {
    if (peek() != '\0' || at_ < text_.size()) fail("text after the dictionary");
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw_data("npy header: ", why, " at character ", at_, " of ", text_.substr(0, 200));
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

struct NpyType {
  std::string_view code;
  DType dtype;
};
constexpr std::array<NpyType, 12> kTypes = {{{"f4", DType::kF32},
                                             {"f2", DType::kF16},
                                             {"f8", DType::kF64},
                                             {"i1", DType::kI8},
                                             {"i2", DType::kI16},
                                             {"i4", DType::kI32},
                                             {"i8", DType::kI64},
                                             {"u1", DType::kU8},
                                             {"u2", DType::kU16},
                                             {"u4", DType::kU32},
                                             {"u8", DType::kU64},
                                             {"b1", DType::kBool}}};

void parse_descr(const std::string& descr, const NpyOptions& options, NpyHeader& header) {
  if (descr == "|V2" && options.bfloat16) {
    header.dtype = DType::kBF16;
    return;
  }
  const std::string_view code =
      descr.empty() ? std::string_view() : std::string_view(descr).substr(1);
  const bool has_order =
      !descr.empty() && std::string_view("<>|=").find(descr[0]) != std::string_view::npos;
  const auto dtype = npy_dtype(code);
  if (!has_order || !dtype) {
    std::string hint;
    if (code == "O") hint = "; pickled objects are not read, save a numeric array";
    if (descr == "|V2") hint = "; a bfloat16 array?";
    throw_data("npy: element type '", descr, "' is not supported", hint);
  }
  header.dtype = *dtype;
  header.big_endian = descr[0] == '>' && dtype_size(header.dtype) > 1;
  if (options.bfloat16 && header.dtype == DType::kU16) header.dtype = DType::kBF16;
}

void parse_dictionary(std::string_view text, const NpyOptions& options, NpyHeader& header) {
  Literal literal(text);
  std::optional<std::string> descr;
  std::optional<bool> fortran;
  bool has_shape = false;
  literal.expect('{');
  while (!literal.take('}')) {
    const std::string key = literal.quoted();
    literal.expect(':');
    if (key == "descr" && !descr) {
      if (literal.peek() == '[') throw_data("npy: arrays of records are not supported");
      descr = literal.quoted();
    } else if (key == "fortran_order" && !fortran) {
      fortran = literal.boolean();
    } else if (key == "shape" && !has_shape) {
      has_shape = true;
      literal.expect('(');
      while (!literal.take(')')) {
        header.shape.push_back(literal.size());
        if (header.shape.size() > kMaxRank) literal.fail("more than 64 axes");
        if (!literal.take(',')) {
          // (3) is a number in Python, not a tuple.
          if (header.shape.size() < 2) literal.fail("wanted ','");
          literal.expect(')');
          break;
        }
      }
    } else {
      literal.fail("unexpected or repeated key '" + key + "'");
    }
    if (!literal.take(',')) {
      literal.expect('}');
      break;
    }
  }
  literal.expect_end();
  if (!descr || !fortran || !has_shape) {
    literal.fail("wanted the keys 'descr', 'fortran_order' and 'shape'");
  }
  header.fortran_order = *fortran && header.shape.size() > 1;
  parse_descr(*descr, options, header);
}

std::string repr(std::int64_t first, std::span<const std::int64_t> rest) {
  std::string out = "(" + std::to_string(first) + ",";
  for (std::size_t i = 0; i < rest.size(); ++i) {
    out += (i == 0 ? " " : ", ") + std::to_string(rest[i]);
  }
  return out + ")";
}

std::string_view npy_code(DType dtype) {
  if (dtype == DType::kBF16) dtype = DType::kU16;
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const NpyType& t) { return t.dtype == dtype; });
  if (found == kTypes.end()) throw_usage("npy has no element type for ", dtype_name(dtype));
  return found->code;
}

// `count` neighbours in the file as float32. `swapped` is room for their bytes.
void read_run(const NpyHeader& header, const std::byte* from, std::int64_t count,
              std::vector<std::byte>& swapped, float* out) {
  if (header.big_endian) {
    swapped.assign(from, from + static_cast<std::size_t>(count) * dtype_size(header.dtype));
    swap_bytes(swapped, dtype_size(header.dtype));
    from = swapped.data();
  }
  convert_to_float(from, header.dtype, count, out);
}

}  // namespace

std::optional<DType> npy_dtype(std::string_view code) {
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const NpyType& t) { return t.code == code; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->dtype);
}

std::string npy_header(DType dtype, std::span<const std::int64_t> shape) {
  std::string text = str("{'descr': '", dtype_size(dtype) == 1 ? '|' : '<', npy_code(dtype),
                         "', 'fortran_order': False, 'shape': ",
                         shape.empty() ? "()" : repr(shape[0], shape.subspan(1)), ", }");
  if (!shape.empty()) text.append(kGrowthDigits - std::to_string(shape[0]).size(), ' ');
  const std::size_t unpadded = kMagic.size() + 4 + text.size() + 1;
  const std::size_t total = (unpadded + kAlignment - 1) / kAlignment * kAlignment;
  text.append(total - unpadded, ' ');
  text += '\n';
  const std::size_t length = text.size();
  if (length > 0xFFFF) throw_usage("npy: a shape of ", shape.size(), " axes is too long to write");
  std::string out(kMagic);
  out += '\1';
  out += '\0';
  out += static_cast<char>(length & 0xFFU);
  out += static_cast<char>(length >> 8U);
  return out + text;
}

NpyHeader parse_npy(std::span<const std::byte> file, const NpyOptions& options) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.substr(0, kMagic.size()) != kMagic || text.size() < kMagic.size() + 4) {
    throw_data("not an npy file (it does not begin with \\x93NUMPY)");
  }
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint64_t>(file[i]); };
  const std::uint64_t version = byte(6);
  if (version < 1 || version > 3) throw_data("npy version ", version, ", wanted 1 to 3");
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  const std::size_t begin = kMagic.size() + 2 + length_bytes;
  if (file.size() < begin) throw_data("npy: file ends in its header");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= byte(8 + i) << (8 * i);
  if (length > kMaxHeader)
    throw_data("npy header of ", length, " bytes, wanted at most ", kMaxHeader);
  if (length > file.size() - begin) {
    throw_data("npy header of ", length, " bytes, but the file ends at ", file.size());
  }
  NpyHeader header;
  parse_dictionary(text.substr(begin, static_cast<std::size_t>(length)), options, header);
  header.data_offset = begin + length;
  // An empty axis makes the product 0 whatever the others are; they must still be sizes.
  const auto elements = static_cast<std::uint64_t>(shape_elements(header.shape));
  const auto bytes = checked_mul<std::uint64_t>(elements, dtype_size(header.dtype));
  if (!bytes) throw_data("npy: shape ", shape_string(header.shape), " overflows");
  if (*bytes > file.size() - header.data_offset) {
    throw_data("npy: shape ", shape_string(header.shape), " of ", dtype_name(header.dtype),
               " takes ", *bytes, " bytes, but ", file.size() - header.data_offset,
               " follow the header; incomplete file?");
  }
  header.data_bytes = *bytes;
  return header;
}

void swap_bytes(std::span<std::byte> data, std::size_t element) {
  for (std::size_t i = 0; element > 1 && i + element <= data.size(); i += element) {
    std::reverse(data.begin() + static_cast<std::ptrdiff_t>(i),
                 data.begin() + static_cast<std::ptrdiff_t>(i + element));
  }
}

void copy_strided(const std::byte* from, std::span<const std::int64_t> shape,
                  std::span<const std::int64_t> strides, std::size_t element, std::byte* to) {
  if (shape.empty()) {
    std::memcpy(to, from, element);
    return;
  }
  const std::size_t rank = shape.size();
  for (const std::int64_t size : shape) {
    if (size == 0) return;
  }
  const std::int64_t inner = shape[rank - 1];
  const std::int64_t step = strides[rank - 1] * static_cast<std::int64_t>(element);
  std::vector<std::int64_t> index(rank, 0);
  for (;;) {
    const std::byte* source = from;
    for (std::size_t d = 0; d + 1 < rank; ++d) {
      source += index[d] * strides[d] * static_cast<std::int64_t>(element);
    }
    for (std::int64_t i = 0; i < inner; ++i, to += element, source += step) {
      std::memcpy(to, source, element);
    }
    // The next row, like an odometer.
    std::size_t d = rank - 1;
    while (d > 0 && ++index[d - 1] == shape[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

Tensor npy_tensor(std::span<const std::byte> file, const NpyHeader& header) {
  const auto data = file.subspan(static_cast<std::size_t>(header.data_offset),
                                 static_cast<std::size_t>(header.data_bytes));
  Tensor out = Tensor::uninitialized(header.dtype, header.shape);
  if (data.empty()) return out;
  if (header.fortran_order) {
    std::vector<std::int64_t> strides(header.shape.size());
    std::int64_t stride = 1;
    for (std::size_t d = 0; d < strides.size(); ++d) {
      strides[d] = stride;
      stride *= header.shape[d];
    }
    copy_strided(data.data(), header.shape, strides, dtype_size(header.dtype), out.mutable_raw());
  } else {
    std::memcpy(out.mutable_raw(), data.data(), data.size());
  }
  if (header.big_endian) swap_bytes({out.mutable_raw(), out.bytes()}, dtype_size(header.dtype));
  return out;
}

Tensor read_npy(const std::filesystem::path& path, const NpyOptions& options) {
  const auto file = MappedFile::open(path);
  try {
    const NpyHeader header = parse_npy(file->bytes(), options);
    if (header.big_endian || header.fortran_order) return npy_tensor(file->bytes(), header);
    return Tensor::borrow(file, static_cast<std::size_t>(header.data_offset), header.dtype,
                          header.shape);
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
}

NpyFile NpyFile::open(const std::filesystem::path& path, const NpyOptions& options) {
  NpyFile out;
  out.file_ = MappedFile::open(path);
  try {
    out.header_ = parse_npy(out.file_->bytes(), options);
    const std::size_t rank = out.header_.shape.size();
    if (rank == 0) throw_data("npy: a scalar, wanted rows");
    if (out.header_.fortran_order && rank > 2) {
      throw_data("npy: Fortran order of ", rank, " axes, wanted two or C order");
    }
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
  const auto& shape = out.header_.shape;
  out.rows_ = shape[0];
  out.cols_ = shape_elements(std::span(shape).subspan(1));
  return out;
}

const std::byte* NpyFile::row_bytes(std::int64_t r) const {
  const auto row = static_cast<std::uint64_t>(cols_) * dtype_size(header_.dtype);
  return file_->bytes().data() + header_.data_offset + static_cast<std::uint64_t>(r) * row;
}

void NpyFile::read_rows(std::int64_t begin, MatView<float> out) const {
  if (out.cols() != cols_) {
    throw_usage(path().string(), ": rows have ", cols_, " columns, wanted ", out.cols());
  }
  read_block(begin, 0, out);
}

void NpyFile::read_block(std::int64_t begin, std::int64_t col, MatView<float> out) const {
  if (begin < 0 || begin > rows_ || out.rows() > rows_ - begin) {
    throw_usage(path().string(), ": rows ", begin, " to ", begin + out.rows(), " of ", rows_);
  }
  if (col < 0 || col > cols_ || out.cols() > cols_ - col) {
    throw_usage(path().string(), ": columns ", col, " to ", col + out.cols(), " of ", cols_);
  }
  if (header_.fortran_order) return transpose_block(begin, col, out);
  const std::size_t skip = static_cast<std::size_t>(col) * dtype_size(header_.dtype);
  std::vector<std::byte> swapped;
  for (std::int64_t r = 0; r < out.rows(); ++r) {
    read_run(header_, row_bytes(begin + r) + skip, out.cols(), swapped, out.row_ptr(r));
  }
}

// A column lies together in the file, a row does in `out`. By stretches of columns short enough
// that the lines of `out` one writes to are still in the cache for the next.
void NpyFile::transpose_block(std::int64_t begin, std::int64_t col, MatView<float> out) const {
  std::array<float, kStretch> stretch;
  std::vector<std::byte> swapped;
  const std::byte* data = file_->bytes().data() + header_.data_offset;
  for (std::int64_t r = 0; r < out.rows(); r += kStretch) {
    const std::int64_t count = std::min(kStretch, out.rows() - r);
    for (std::int64_t c = 0; c < out.cols(); ++c) {
      const auto element = static_cast<std::uint64_t>((col + c) * rows_ + begin + r);
      read_run(header_, data + element * dtype_size(header_.dtype), count, swapped, stretch.data());
      float* to = out.row_ptr(r) + c;
      for (std::int64_t i = 0; i < count; ++i, to += out.stride()) {
        *to = stretch[static_cast<std::size_t>(i)];
      }
    }
  }
}

Tensor NpyFile::tensor() const {
  if (header_.big_endian) throw_data(path().string(), ": big-endian, wanted little-endian");
  if (header_.fortran_order) throw_data(path().string(), ": Fortran order, wanted C order");
  return Tensor::borrow(file_, static_cast<std::size_t>(header_.data_offset), header_.dtype,
                        header_.shape);
}

void NpyFile::drop_rows(std::int64_t begin, std::int64_t count) const {
  if (header_.fortran_order) {
    begin = 0;
    count = rows_;
  }
  const auto row = static_cast<std::size_t>(cols_) * dtype_size(header_.dtype);
  file_->drop(static_cast<std::size_t>(header_.data_offset) + static_cast<std::size_t>(begin) * row,
              static_cast<std::size_t>(count) * row);
}

NpyWriter::NpyWriter(const std::filesystem::path& path, DType dtype,
                     std::vector<std::int64_t> row_shape, std::optional<std::int64_t> rows)
    : file_(path), dtype_(dtype), row_shape_(std::move(row_shape)), header_rows_(rows.value_or(0)) {
  if (header_rows_ < 0) throw_usage("npy: ", header_rows_, " rows, wanted >= 0");
  for (const std::int64_t size : row_shape_) {
    if (size <= 0)
      throw_usage("npy: row of shape ", shape_string(row_shape_), ", wanted sizes > 0");
  }
  cols_ = shape_elements(row_shape_);
  if (!rows && !file_.can_seek()) {
    throw_io("'", path.string(),
             "' takes what is written as it comes (a pipe or a terminal?), but "
             "the row count of an npy header is known only at the end; name a file");
  }
  const std::string header = header_text(header_rows_);
  header_size_ = header.size();
  file_.write(header);
}

std::string NpyWriter::header_text(std::int64_t rows) const {
  std::vector<std::int64_t> shape = {rows};
  shape.insert(shape.end(), row_shape_.begin(), row_shape_.end());
  return npy_header(dtype_, shape);
}

void NpyWriter::append(std::span<const std::byte> rows) {
  const std::size_t row = static_cast<std::size_t>(cols_) * dtype_size(dtype_);
  if (rows.size() % row != 0) {
    throw_usage("npy: ", rows.size(), " bytes are not whole rows of ", row, " bytes");
  }
  file_.write(rows);
  rows_ += static_cast<std::int64_t>(rows.size() / row);
}

void NpyWriter::append_rows(MatView<const float> rows) {
  if (rows.cols() != cols_) throw_usage("npy: rows of ", rows.cols(), " columns, wanted ", cols_);
  if (dtype_ != DType::kF32 && dtype_ != DType::kF16 && dtype_ != DType::kBF16) {
    throw_usage("npy: float32 rows cannot be appended to a file of ", dtype_name(dtype_));
  }
  if (dtype_ == DType::kF32 && rows.contiguous()) {
    append(std::as_bytes(std::span(rows.data(), static_cast<std::size_t>(rows.rows() * cols_))));
    return;
  }
  scratch_.resize(static_cast<std::size_t>(cols_) * dtype_size(dtype_));
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    if (dtype_ == DType::kF32) {
      append(std::as_bytes(rows.row(r)));
    } else {
      convert_from_float(rows.row_ptr(r), dtype_, cols_, scratch_.data());
      append(scratch_);
    }
  }
}

void NpyWriter::commit() {
  if (rows_ != header_rows_) {
    const std::string header = header_text(rows_);
    DRRIK_ASSERT(header.size() == header_size_);
    file_.write_at(0, std::as_bytes(std::span(header.data(), header.size())));
  }
  file_.commit();
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const std::string header = npy_header(tensor.dtype(), tensor.shape());
  AtomicFile file(path);
  file.write(header);
  file.write(std::span(tensor.raw(), tensor.bytes()));
  file.commit();
}

}  // namespace drrik
