#include "ops/weight.h"

#include "drrik/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemv.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

constexpr std::int64_t kVectors = kPanel / static_cast<std::int64_t>(hn::MaxLanes(DF()));
constexpr std::int64_t kWidth = static_cast<std::int64_t>(hn::MaxLanes(DF()));

// acc[R][64] += x[R rows][count] · panel[count][64]. The panel is read once, from start to end:
// this runs at the speed of memory.
template <int R>
HWY_INLINE void panel_run(const float* const* x, const float* panel, std::int64_t count,
                          float* acc) {
  const DF d;
  VF sums[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      sums[r][v] = hn::Load(d, acc + r * kPanel + v * kWidth);
  }
  for (std::int64_t k = 0; k < count; ++k) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const VF w = hn::Load(d, panel + k * kPanel + v * kWidth);
      for (int r = 0; r < R; ++r) sums[r][v] = hn::MulAdd(hn::Set(d, x[r][k]), w, sums[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      hn::Store(sums[r][v], d, acc + r * kPanel + v * kWidth);
  }
}

template <int R>
HWY_INLINE void panel_run(const float* const* x, const F16* panel, std::int64_t count, float* acc) {
  const DF d;
  VF sums[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      sums[r][v] = hn::Load(d, acc + r * kPanel + v * kWidth);
  }
  for (std::int64_t k = 0; k < count; ++k) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const VF w = load(d, panel + k * kPanel + v * kWidth);
      for (int r = 0; r < R; ++r) sums[r][v] = hn::MulAdd(hn::Set(d, x[r][k]), w, sums[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      hn::Store(sums[r][v], d, acc + r * kPanel + v * kWidth);
  }
}

// Pairs of inputs lie in one 32-bit lane: the even one is its lower half, the odd one its upper.
template <int R>
HWY_INLINE void panel_run(const float* const* x, const BF16* panel, std::int64_t count,
                          float* acc) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const auto upper = hn::Set(du, 0xFFFF0000U);
  VF sums[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      sums[r][v] = hn::Load(d, acc + r * kPanel + v * kWidth);
  }
  const auto* words = reinterpret_cast<const std::uint32_t*>(panel);
  for (std::int64_t k = 0; k < count; k += 2) {
    for (std::int64_t v = 0; v < kVectors; ++v) {
      const auto pair = hn::Load(du, words + k / 2 * kPanel + v * kWidth);
      const VF even = hn::BitCast(d, hn::ShiftLeft<16>(pair));
      const VF odd = hn::BitCast(d, hn::And(pair, upper));
      for (int r = 0; r < R; ++r) {
        sums[r][v] = hn::MulAdd(hn::Set(d, x[r][k]), even, sums[r][v]);
        sums[r][v] = hn::MulAdd(hn::Set(d, x[r][k + 1]), odd, sums[r][v]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (std::int64_t v = 0; v < kVectors; ++v)
      hn::Store(sums[r][v], d, acc + r * kPanel + v * kWidth);
  }
}

// Inputs handled before the next group of rows: the panel's part stays in the second-level cache.
constexpr std::int64_t kDepthBlock = 1024;
constexpr int kGroup = 4;

template <typename T>
HWY_INLINE void panels_run(MatView<const float> x, const Weight::Impl& w, std::int64_t begin,
                           std::int64_t end, const float* bias, bool accumulate, MatView<float> y) {
  HWY_ALIGN_MAX float acc[detail::kFewRows * kPanel];
  const std::int64_t rows = x.rows();
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t first = p * kPanel;
    const std::int64_t width = std::min(kPanel, w.out - first);
    for (std::int64_t i = 0; i < rows * kPanel; ++i) acc[i] = 0.0F;
    for (std::int64_t k0 = 0; k0 < w.in_padded; k0 += kDepthBlock) {
      const std::int64_t count = std::min(kDepthBlock, w.in_padded - k0);
      const T* part = w.panel<T>(p) + k0 * kPanel;
      for (std::int64_t r = 0; r < rows; r += kGroup) {
        const float* lines[kGroup];
        const std::int64_t group = std::min<std::int64_t>(kGroup, rows - r);
        for (std::int64_t i = 0; i < group; ++i) lines[i] = x.row_ptr(r + i) + k0;
        float* to = acc + r * kPanel;
        switch (group) {
          case 1:
            panel_run<1>(lines, part, count, to);
            break;
          case 2:
            panel_run<2>(lines, part, count, to);
            break;
          case 3:
            panel_run<3>(lines, part, count, to);
            break;
          default:
            panel_run<4>(lines, part, count, to);
            break;
        }
      }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      float* to = y.row_ptr(r) + first;
      for (std::int64_t j = 0; j < width; ++j) {
        const float value = acc[r * kPanel + j] + (bias != nullptr ? bias[first + j] : 0.0F);
        to[j] = accumulate ? to[j] + value : value;
      }
    }
  }
}

void FewRows(MatView<const float> x, const Weight::Impl& w, std::int64_t begin, std::int64_t end,
             const float* bias, bool accumulate, MatView<float> y) {
  switch (w.dtype) {
    case DType::kBF16:
      return panels_run<BF16>(x, w, begin, end, bias, accumulate, y);
    case DType::kF16:
      return panels_run<F16>(x, w, begin, end, bias, accumulate, y);
    default:
      return panels_run<float>(x, w, begin, end, bias, accumulate, y);
  }
}

void WidenPanel(const Weight::Impl& w, std::int64_t p, float* to) {
  const DF d;
  if (w.dtype == DType::kBF16) {
    const hn::RebindToUnsigned<DF> du;
    const auto upper = hn::Set(du, 0xFFFF0000U);
    const auto* words = reinterpret_cast<const std::uint32_t*>(w.panel<BF16>(p));
    for (std::int64_t k = 0; k < round_up(w.in, 16); k += 2) {
      for (std::int64_t v = 0; v < kPanel; v += kWidth) {
        const auto pair = hn::Load(du, words + k / 2 * kPanel + v);
        hn::Store(hn::BitCast(d, hn::ShiftLeft<16>(pair)), d, to + k * kPanel + v);
        hn::Store(hn::BitCast(d, hn::And(pair, upper)), d, to + (k + 1) * kPanel + v);
      }
    }
    return;
  }
  const F16* from = w.panel<F16>(p);
  for (std::int64_t i = 0; i < w.panel_elements(); i += kWidth) {
    hn::Store(load(d, from + i), d, to + i);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik::detail {
namespace {

HWY_EXPORT(FewRows);
HWY_EXPORT(WidenPanel);

}  // namespace

void linear_few_rows(MatView<const float> x, const Weight::Impl& w, const float* bias,
                     bool accumulate, MatView<float> y) {
  // The kernels read x up to the padded depth.
  static thread_local AlignedBuffer scratch;
  if (x.cols() != w.in_padded) {
    const auto size = static_cast<std::size_t>(x.rows() * w.in_padded) * sizeof(float);
    if (scratch.size() < size) scratch = AlignedBuffer(size, AlignedBuffer::Init::kNone);
    const MatView<float> padded(reinterpret_cast<float*>(scratch.data()), x.rows(), w.in_padded);
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      std::copy_n(x.row_ptr(r), x.cols(), padded.row_ptr(r));
      std::fill_n(padded.row_ptr(r) + x.cols(), w.in_padded - x.cols(), 0.0F);
    }
    x = padded;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, 32768 / w.panel_elements());
  parallel_for(w.panels, grain, [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(FewRows)(x, w, begin, end, bias, accumulate, y);
  });
}

void widen_panels(const Weight::Impl& w, std::int64_t first, std::int64_t count, float* to) {
  parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(WidenPanel)(w, first + i, to + i * w.wide_panel_elements());
    }
  });
}

}  // namespace drrik::detail
#endif  // HWY_ONCE
