#pragma once
// Small things every kernel file of this room uses.

#include <algorithm>
#include <cstdint>
#include <string>

#include "drrik/base/error.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Elements below which a second thread costs more (about 2 µs of fork and join) than it saves.
constexpr std::int64_t kElementGrain = 8192;

/// Rows of `cols` elements that make up kElementGrain.
inline std::int64_t row_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(cols, 1));
}

template <typename T>
std::string shape_of(MatView<T> m) {
  return str("[", m.rows(), ", ", m.cols(), "]");
}

template <typename A, typename B>
void check_same_shape(const char* what, MatView<A> a, MatView<B> b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) {
    throw_data(what, ": shapes ", shape_of(a), " and ", shape_of(b), " differ");
  }
}

}  // namespace drrik
