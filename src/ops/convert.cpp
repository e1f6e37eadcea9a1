#include "drrik/ops/convert.h"

#include <cmath>
#include <type_traits>
#include <vector>

#include "drrik/base/threads.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/convert.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

struct Same {
  HWY_INLINE VF operator()(DF, VF x) const { return x; }
};
struct Times {
  VF by;
  HWY_INLINE VF operator()(DF, VF x) const { return hn::Mul(x, by); }
};
struct Plus {
  HWY_INLINE VF operator()(DF, VF x, VF y) const { return hn::Add(x, y); }
};
struct Clamp {
  VF limit;
  // Comparisons, as Min and Max would turn NaN into a bound on some targets.
  HWY_INLINE VF operator()(DF, VF x) const {
    const VF low = hn::IfThenElse(hn::Lt(x, hn::Neg(limit)), hn::Neg(limit), x);
    return hn::IfThenElse(hn::Gt(low, limit), limit, low);
  }
};
struct PlusScaled {
  VF by;
  HWY_INLINE VF operator()(DF, VF x, VF y) const { return hn::MulAdd(x, by, y); }
};

void ToBF16(const float* x, BF16* out, std::int64_t n) { map1(x, out, n, Same()); }
void ToF16(const float* x, F16* out, std::int64_t n) { map1(x, out, n, Same()); }
void FromBF16(const BF16* x, float* out, std::int64_t n) { map1(x, out, n, Same()); }
void FromF16(const F16* x, float* out, std::int64_t n) { map1(x, out, n, Same()); }
void AddTo(const float* x, float* y, std::int64_t n) { map2(x, y, y, n, Plus()); }
void AxpyTo(float a, const float* x, float* y, std::int64_t n) {
  map2(x, y, y, n, PlusScaled{hn::Set(DF(), a)});
}
void ScaleBy(float a, float* x, std::int64_t n) { map1(x, x, n, Times{hn::Set(DF(), a)}); }
void ClampTo(float a, float* x, std::int64_t n) { map1(x, x, n, Clamp{hn::Set(DF(), a)}); }

float DotBlock(const float* a, const float* b, std::int64_t n) { return dot_product(a, b, n); }

bool AnyNonfinite(const float* x, std::int64_t n) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const auto exponent = hn::Set(du, 0x7F800000U);
  const std::int64_t lanes = float_lanes();
  // An exponent of all ones is NaN or infinity; the largest masked value over a block tells.
  auto worst = hn::Zero(du);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    worst = hn::Max(worst, hn::And(hn::BitCast(du, load(d, x + i)), exponent));
  }
  if (i < n) worst = hn::Max(worst, hn::And(hn::BitCast(du, load_n(d, x + i, n - i)), exponent));
  return !hn::AllFalse(du, hn::Eq(worst, exponent));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(ToBF16);
HWY_EXPORT(ToF16);
HWY_EXPORT(FromBF16);
HWY_EXPORT(FromF16);
HWY_EXPORT(AddTo);
HWY_EXPORT(AxpyTo);
HWY_EXPORT(ScaleBy);
HWY_EXPORT(ClampTo);
HWY_EXPORT(DotBlock);
HWY_EXPORT(AnyNonfinite);

// Sums are formed over blocks of this size whatever the number of threads.
constexpr std::int64_t kBlock = 8192;

void convert_run(const float* from, BF16* to, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToBF16)(from, to, n);
}
void convert_run(const float* from, F16* to, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(ToF16)(from, to, n);
}
void convert_run(const BF16* from, float* to, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(FromBF16)(from, to, n);
}
void convert_run(const F16* from, float* to, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(FromF16)(from, to, n);
}
void convert_run(const float* from, float* to, std::int64_t n) { std::copy_n(from, n, to); }

template <typename From, typename To>
void convert_span(std::span<const From> from, std::span<To> to) {
  if (from.size() != to.size()) {
    throw_data("convert: ", from.size(), " elements into ", to.size());
  }
  parallel_for(static_cast<std::int64_t>(from.size()), 4 * kElementGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 convert_run(from.data() + begin, to.data() + begin, end - begin);
               });
}

template <typename From, typename To>
void convert_mat(MatView<const From> from, MatView<To> to) {
  check_same_shape("convert", from, to);
  parallel_for(from.rows(), row_grain(from.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      convert_run(from.row_ptr(r), to.row_ptr(r), from.cols());
    }
  });
}

void check_ids(const Tensor& table, std::span<const std::int32_t> ids, MatView<float> out) {
  if (table.rank() != 2) {
    throw_data("embedding: table of shape ", shape_string(table.shape()), " is not a matrix");
  }
  if (table.dtype() != DType::kF32 && table.dtype() != DType::kBF16 &&
      table.dtype() != DType::kF16) {
    throw_data("embedding: table of ", dtype_name(table.dtype()), ", wanted a 16 or 32 bit float");
  }
  if (out.rows() != static_cast<std::int64_t>(ids.size()) || out.cols() != table.dim(1)) {
    throw_data("embedding: output is ", shape_of(out), ", wanted [", ids.size(), ", ", table.dim(1),
               "]");
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= table.dim(0)) {
      throw_data("embedding: id ", ids[i], " at position ", i, ", the table has ", table.dim(0),
                 " rows");
    }
  }
}

// Row `id` of the table as floats. A row of a mapped file may be unaligned for its type, so it goes
// through memory of our own where it is.
void load_row(const Tensor& table, std::int32_t id, float* out) {
  const std::int64_t cols = table.dim(1);
  const std::size_t row_bytes = static_cast<std::size_t>(cols) * dtype_size(table.dtype());
  const std::byte* from = table.raw() + static_cast<std::size_t>(id) * row_bytes;
  if (!table.aligned()) {
    convert_to_float(from, table.dtype(), cols, out);
  } else if (table.dtype() == DType::kBF16) {
    convert_run(reinterpret_cast<const BF16*>(from), out, cols);
  } else if (table.dtype() == DType::kF16) {
    convert_run(reinterpret_cast<const F16*>(from), out, cols);
  } else {
    convert_run(reinterpret_cast<const float*>(from), out, cols);
  }
}

}  // namespace

void convert(std::span<const float> from, std::span<BF16> to) { convert_span(from, to); }
void convert(std::span<const float> from, std::span<F16> to) { convert_span(from, to); }
void convert(std::span<const BF16> from, std::span<float> to) { convert_span(from, to); }
void convert(std::span<const F16> from, std::span<float> to) { convert_span(from, to); }
void convert(MatView<const float> from, MatView<BF16> to) { convert_mat(from, to); }
void convert(MatView<const float> from, MatView<F16> to) { convert_mat(from, to); }
void convert(MatView<const BF16> from, MatView<float> to) { convert_mat(from, to); }
void convert(MatView<const F16> from, MatView<float> to) { convert_mat(from, to); }
void copy(MatView<const float> from, MatView<float> to) { convert_mat(from, to); }

void embedding(const Tensor& table, std::span<const std::int32_t> ids, MatView<float> out,
               float scale) {
  check_ids(table, ids, out);
  parallel_for(out.rows(), row_grain(out.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      load_row(table, ids[static_cast<std::size_t>(r)], out.row_ptr(r));
      if (scale != 1.0F) HWY_DYNAMIC_DISPATCH(ScaleBy)(scale, out.row_ptr(r), out.cols());
    }
  });
}

void add_embedding(const Tensor& table, std::span<const std::int32_t> ids, MatView<float> out) {
  check_ids(table, ids, out);
  parallel_for(out.rows(), row_grain(out.cols()), [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(out.cols()));
    for (std::int64_t r = begin; r < end; ++r) {
      load_row(table, ids[static_cast<std::size_t>(r)], row.data());
      HWY_DYNAMIC_DISPATCH(AddTo)(row.data(), out.row_ptr(r), out.cols());
    }
  });
}

void add(MatView<const float> x, MatView<float> y) {
  check_same_shape("add", x, y);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(AddTo)(x.row_ptr(r), y.row_ptr(r), x.cols());
    }
  });
}

void axpy(float a, MatView<const float> x, MatView<float> y) {
  check_same_shape("axpy", x, y);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(AxpyTo)(a, x.row_ptr(r), y.row_ptr(r), x.cols());
    }
  });
}

void axpy(float a, std::span<const float> x, std::span<float> y) {
  if (x.size() != y.size()) throw_data("axpy: ", x.size(), " elements onto ", y.size());
  parallel_for(static_cast<std::int64_t>(x.size()), 2 * kElementGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 HWY_DYNAMIC_DISPATCH(AxpyTo)
                 (a, x.data() + begin, y.data() + begin, end - begin);
               });
}

void add_row(std::span<const float> v, MatView<float> y) {
  if (static_cast<std::int64_t>(v.size()) != y.cols()) {
    throw_data("add_row: ", v.size(), " elements onto rows of ", y.cols());
  }
  parallel_for(y.rows(), row_grain(y.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(AddTo)(v.data(), y.row_ptr(r), y.cols());
    }
  });
}

void scale(float a, MatView<float> x) {
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(ScaleBy)(a, x.row_ptr(r), x.cols());
    }
  });
}

void clamp(float limit, MatView<float> x) {
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(ClampTo)(limit, x.row_ptr(r), x.cols());
    }
  });
}

void sum_rows(MatView<const float> x, std::span<float> out) {
  if (static_cast<std::int64_t>(out.size()) != x.cols()) {
    throw_data("sum_rows: output has ", out.size(), " elements, rows have ", x.cols());
  }
  // Split by columns: every sum runs down the rows in order, in blocks that bound its rounding.
  constexpr std::int64_t kRows = 256;
  parallel_for(x.cols(),
               std::max<std::int64_t>(64, kElementGrain / std::max<std::int64_t>(x.rows(), 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 const std::int64_t n = end - begin;
                 std::vector<float> block(static_cast<std::size_t>(n));
                 std::fill_n(out.data() + begin, n, 0.0F);
                 for (std::int64_t top = 0; top < x.rows(); top += kRows) {
                   std::fill(block.begin(), block.end(), 0.0F);
                   const std::int64_t bottom = std::min(x.rows(), top + kRows);
                   for (std::int64_t r = top; r < bottom; ++r) {
                     HWY_DYNAMIC_DISPATCH(AddTo)(x.row_ptr(r) + begin, block.data(), n);
                   }
                   HWY_DYNAMIC_DISPATCH(AddTo)(block.data(), out.data() + begin, n);
                 }
               });
}

double dot(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) throw_data("dot: ", a.size(), " and ", b.size(), " elements");
  const auto n = static_cast<std::int64_t>(a.size());
  const std::int64_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<float> partial(static_cast<std::size_t>(blocks));
  parallel_for(blocks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t from = i * kBlock;
      partial[static_cast<std::size_t>(i)] = HWY_DYNAMIC_DISPATCH(DotBlock)(
          a.data() + from, b.data() + from, std::min(kBlock, n - from));
    }
  });
  double total = 0.0;
  for (const float p : partial) total += static_cast<double>(p);
  return total;
}

double sum_squares(std::span<const float> a) { return dot(a, a); }

bool has_nonfinite(std::span<const float> x) {
  const auto n = static_cast<std::int64_t>(x.size());
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    if (HWY_DYNAMIC_DISPATCH(AnyNonfinite)(x.data() + begin, std::min(kBlock, n - begin))) {
      return true;
    }
  }
  return false;
}

bool has_nonfinite(MatView<const float> x) {
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    if (HWY_DYNAMIC_DISPATCH(AnyNonfinite)(x.row_ptr(r), x.cols())) return true;
  }
  return false;
}

}  // namespace drrik
#endif  // HWY_ONCE
