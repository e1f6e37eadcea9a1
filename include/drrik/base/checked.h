#pragma once
// Arithmetic on sizes that come from outside: overflow is an answer, never a wrap.

#include <concepts>
#include <optional>

namespace drrik {

template <std::integral T>
std::optional<T> checked_mul(T a, T b) {
  T out{};
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

template <std::integral T>
std::optional<T> checked_add(T a, T b) {
  T out{};
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

}  // namespace drrik
