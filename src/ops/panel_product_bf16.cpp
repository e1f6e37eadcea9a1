// bfloat16 dot products (vdpbf16ps), which Highway 1.0.3 does not reach.

#include "ops/panel_product.h"
#include "ops/panel_tasks.h"
#include "ops/unroll.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace drrik::detail {

#if defined(__x86_64__)

#define DRRIK_TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace {

constexpr int kTileRows = 6;
constexpr int kTileVectors = 4;
constexpr std::int64_t kLanes = 16;

inline std::int32_t pair_at(const BF16* p) {
  std::int32_t bits = 0;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return bits;
}

// to[R][64] = from[R][64] + x[R][count] · panel[count / 2][64][2].
template <int R>
DRRIK_TARGET_BF16 void tile(const BF16* x, std::int64_t stride, const BF16* panel,
                            std::int64_t count, SumsIn from, SumsOut to) {
  __m512 sums[R][kTileVectors];
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      sums[r][v] = _mm512_loadu_ps(from.data + r * from.stride + v * kLanes);
    }
  }
  for (std::int64_t k = 0; k < count; k += 2) {
    __m512i w[kTileVectors];
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      w[v] = _mm512_load_si512(panel + k * kPanel + v * 2 * kLanes);
    }
    DRRIK_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512i a = _mm512_set1_epi32(pair_at(x + r * stride + k));
      DRRIK_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], __m512bh(a), __m512bh(w[v]));
      }
    }
  }
  DRRIK_UNROLL
  for (int r = 0; r < R; ++r) {
    DRRIK_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      _mm512_storeu_ps(to.data + r * to.stride + v * kLanes, sums[r][v]);
    }
  }
}

void any_tile(std::int64_t rows, const BF16* x, std::int64_t stride, const BF16* panel,
              std::int64_t count, SumsIn from, SumsOut to) {
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

}  // namespace

bool has_bf16_dot() {
  static const bool found =
      __builtin_cpu_supports("avx512bf16") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
  return found && kernels_use_avx512();
}

namespace {

struct Run {
  static void piece(MatView<const BF16> rows, const std::byte* data, DType /*dtype*/, SumsIn from,
                    SumsOut to) {
    const auto* panel = reinterpret_cast<const BF16*>(data);
    for (std::int64_t r = 0; r < rows.rows(); r += kTileRows) {
      any_tile(std::min<std::int64_t>(kTileRows, rows.rows() - r), rows.row_ptr(r), rows.stride(),
               panel, rows.cols(), {from.data + r * from.stride, from.stride},
               {to.data + r * to.stride, to.stride});
    }
  }
  static void rows(MatView<const BF16> x, const RowsInPlace& w, DType /*dtype*/, SumsIn from,
                   SumsOut to) {
    row_product_bf16(x, w, from, to);
  }
};

}  // namespace

void panel_product_bf16(MatView<const BF16> x, const Weight::Impl& w, const float* bias,
                        bool accumulate, MatView<float> y) {
  run_panels(x, w, bias, accumulate, y, Run());
}

void gated_panel_product_bf16(MatView<const BF16> x, const Weight::Impl& w, const float* bias,
                              Activation activation, MatView<BF16> out) {
  run_gated_panels(x, w, bias, activation, out, Run());
}

#else

bool has_bf16_dot() { return false; }
void panel_product_bf16(MatView<const BF16>, const Weight::Impl&, const float*, bool,
                        MatView<float>) {
  DRRIK_ASSERT(false);
}
void gated_panel_product_bf16(MatView<const BF16>, const Weight::Impl&, const float*, Activation,
                              MatView<BF16>) {
  DRRIK_ASSERT(false);
}

#endif

}  // namespace drrik::detail
