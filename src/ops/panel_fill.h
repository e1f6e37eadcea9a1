#pragma once
// Panels (weight.h) made from rows as a checkpoint stores them.

#include <cstddef>
#include <cstdint>

#include "ops/weight.h"

namespace drrik::detail {

/// 32-bit words of an output's inputs (one float, two of bfloat16) in the pieces that are made for
/// one use: 32 KiB a piece, so that it is still in the first-level cache when the kernel reads it.
constexpr std::int64_t kPieceWords = 128;
/// Of the memory that such a piece is made in.
constexpr std::size_t kPieceBytes = static_cast<std::size_t>(kPieceWords + 4) * kPanel * 4;

/// to[count][64] = inputs [k, k + count) of outputs 64p..64p+63 as floats; or, for T = BF16,
/// rounded and in pairs, [count / 2][64][2]. What lies beyond `in` and `out` is zero. `to` is
/// aligned to 64 bytes and has room for a multiple of four words of each output, which are written.
///
/// Each value is converted on its own, so that it does not matter how a panel is cut. The memory
/// that the next piece would come from is fetched meanwhile.
void fill_panel(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count, float* to);
void fill_panel(const StoredRows& w, std::int64_t p, std::int64_t k, std::int64_t count, BF16* to);

}  // namespace drrik::detail
