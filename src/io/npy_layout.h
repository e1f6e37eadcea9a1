#pragma once
// What .npy, .npz and PyTorch's reader share: headers, byte order, strided copies.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "drrik/io/npy.h"

namespace drrik {

/// The dtype of a NumPy code without its byte order ("f4", "b1"); nothing for types drrik lacks.
std::optional<DType> npy_dtype(std::string_view code);
/// Magic, version 1 and dictionary as numpy.save writes them. Throws Error(usage) for a dtype that
/// NumPy lacks.
std::string npy_header(DType dtype, std::span<const std::int64_t> shape);
/// The array of a whole .npy in memory as an owned tensor, row-major and in native byte order.
Tensor npy_tensor(std::span<const std::byte> file, const NpyHeader& header);

/// Reverses the bytes of every element.
void swap_bytes(std::span<std::byte> data, std::size_t element);
/// Copies a view (`strides` in elements) to row-major order at `to`. The caller has checked that
/// every element lies inside the source.
void copy_strided(const std::byte* from, std::span<const std::int64_t> shape,
                  std::span<const std::int64_t> strides, std::size_t element, std::byte* to);

}  // namespace drrik
