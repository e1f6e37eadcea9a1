#include "ops/panel_product.h"

#include <algorithm>

#include "ops/panel_tasks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/panel_product.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"
#include "ops/unroll.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

constexpr std::int64_t kWidth = static_cast<std::int64_t>(hn::MaxLanes(DF()));
// Sums of a tile: rows × vectors, with one row of the panel and one broadcast beside them in 32
// registers (AVX-512, NEON) or 16.
constexpr int kTileRows = 6;
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif
constexpr std::int64_t kTileColumns = kTileVectors * kWidth;
static_assert(kPanel % kTileColumns == 0);

// sums += x[R rows][k] · w for one input k.
template <int R>
HWY_INLINE void step(const float* x, std::int64_t stride, const VF (&w)[kTileVectors],
                     VF (&sums)[R][kTileVectors]) {
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    const VF a = hn::Set(DF(), x[r * stride]);
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sums[r][v] = hn::MulAdd(a, w[v], sums[r][v]);
  }
}

template <int R, typename T>
HWY_INLINE void depth_loop(const float* x, std::int64_t stride, const T* panel, std::int64_t count,
                           VF (&sums)[R][kTileVectors]) {
  const DF d;
  for (std::int64_t k = 0; k < count; ++k) {
    VF w[kTileVectors];
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) w[v] = load(d, panel + k * kPanel + v * kWidth);
    step<R>(x + k, stride, w, sums);
  }
}

// Two inputs lie in one 32-bit lane: the even one is its lower half, the odd one its upper.
template <int R>
HWY_INLINE void depth_loop(const float* x, std::int64_t stride, const BF16* panel,
                           std::int64_t count, VF (&sums)[R][kTileVectors]) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const auto upper = hn::Set(du, 0xFFFF0000U);
  const auto* words = reinterpret_cast<const std::uint32_t*>(panel);
  std::int64_t k = 0;
  for (; k + 2 <= count; k += 2) {
    VF w[kTileVectors];
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      const auto pair = hn::Load(du, words + k / 2 * kPanel + v * kWidth);
      w[v] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
    }
    step<R>(x + k, stride, w, sums);
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      const auto pair = hn::Load(du, words + k / 2 * kPanel + v * kWidth);
      w[v] = hn::BitCast(d, hn::And(pair, upper));
    }
    step<R>(x + k + 1, stride, w, sums);
  }
  if (k < count) {
    VF w[kTileVectors];
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      const auto pair = hn::Load(du, words + k / 2 * kPanel + v * kWidth);
      w[v] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
    }
    step<R>(x + k, stride, w, sums);
  }
}

// to[R][kTileColumns] = from[R][kTileColumns] + x[R][count] · panel[count].
template <int R, typename T>
HWY_INLINE void tile_run(const float* x, std::int64_t stride, const T* panel, std::int64_t count,
                         detail::SumsIn from, detail::SumsOut to) {
  const DF d;
  VF sums[R][kTileVectors];
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      sums[r][v] = load(d, from.data + r * from.stride + v * kWidth);
  }
  depth_loop<R>(x, stride, panel, count, sums);
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      store(d, sums[r][v], to.data + r * to.stride + v * kWidth);
  }
}

template <int R, typename T>
HWY_NOINLINE void tile(const float* x, std::int64_t stride, const T* panel, std::int64_t count,
                       detail::SumsIn from, detail::SumsOut to) {
  // Columns of the panel interleave pairs in bfloat16: one column is two elements wide.
  constexpr std::int64_t kColumn = std::is_same_v<T, BF16> ? 2 : 1;
  for (std::int64_t j = 0; j < kPanel; j += kTileColumns) {
    tile_run<R>(x, stride, panel + j * kColumn, count, {from.data + j, from.stride},
                {to.data + j, to.stride});
  }
}

template <typename T>
HWY_INLINE void any_tile(std::int64_t rows, const float* x, std::int64_t stride, const T* panel,
                         std::int64_t count, detail::SumsIn from, detail::SumsOut to) {
  switch (rows) {
    case 1:
      return tile<1>(x, stride, panel, count, from, to);
    case 2:
      return tile<2>(x, stride, panel, count, from, to);
    case 3:
      return tile<3>(x, stride, panel, count, from, to);
    case 4:
      return tile<4>(x, stride, panel, count, from, to);
    case 5:
      return tile<5>(x, stride, panel, count, from, to);
    default:
      return tile<6>(x, stride, panel, count, from, to);
  }
}

template <typename T>
HWY_INLINE void rows_run(MatView<const float> x, const T* panel, detail::SumsIn from,
                         detail::SumsOut to) {
  for (std::int64_t r = 0; r < x.rows(); r += kTileRows) {
    any_tile(std::min<std::int64_t>(kTileRows, x.rows() - r), x.row_ptr(r), x.stride(), panel,
             x.cols(), {from.data + r * from.stride, from.stride},
             {to.data + r * to.stride, to.stride});
  }
}

void PanelTask(MatView<const float> x, const std::byte* panel, DType dtype, detail::SumsIn from,
               detail::SumsOut to) {
  switch (dtype) {
    case DType::kBF16:
      return rows_run(x, reinterpret_cast<const BF16*>(panel), from, to);
    case DType::kF16:
      return rows_run(x, reinterpret_cast<const F16*>(panel), from, to);
    default:
      return rows_run(x, reinterpret_cast<const float*>(panel), from, to);
  }
}

bool HasAvx512() { return HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik::detail {
namespace {

HWY_EXPORT(PanelTask);
HWY_EXPORT(HasAvx512);

}  // namespace

bool kernels_use_avx512() { return HWY_DYNAMIC_DISPATCH(HasAvx512)(); }

namespace {

// A panel's products, dispatched.
struct Run {
  static void piece(MatView<const float> rows, const std::byte* panel, DType dtype, SumsIn from,
                    SumsOut to) {
    HWY_DYNAMIC_DISPATCH(PanelTask)(rows, panel, dtype, from, to);
  }
  static void rows(MatView<const float> x, const RowsInPlace& w, DType dtype, SumsIn from,
                   SumsOut to) {
    row_product(x, w, dtype, from, to);
  }
};

}  // namespace

void panel_product(MatView<const float> x, const Weight::Impl& w, const float* bias,
                   bool accumulate, MatView<float> y) {
  run_panels(x, w, bias, accumulate, y, Run());
}

void gated_panel_product(MatView<const float> x, const Weight::Impl& w, const float* bias,
                         Activation activation, MatView<float> out) {
  run_gated_panels(x, w, bias, activation, out, Run());
}

}  // namespace drrik::detail
#endif  // HWY_ONCE
