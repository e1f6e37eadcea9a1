#pragma once
// Writing GGUF (version 3), llama.cpp's container: metadata by key, then tensors.
//
// Layout, little-endian: "GGUF", u32 version, u64 tensors, u64 entries; each entry a key, a type
// and a value; each tensor a name, its axes from the fastest to the slowest, type and offset; then
// the tensors' bytes, each at a multiple of 32. Source: ggml's docs/gguf.md.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <variant>

#include "drrik/io/named_tensor.h"

namespace drrik {

using GgufValue =
    std::variant<std::uint32_t, std::int32_t, float, bool, std::uint64_t, std::string>;

/// Atomic; the bytes are a function of the arguments. Entries are in the order of their keys,
/// "general.architecture" first, as readers expect it. Throws Error(io); Error(usage) for a
/// repeated tensor name, one of more than 63 bytes, more than four axes, or a type other than
/// float32, float16 and bfloat16.
void write_gguf(const std::filesystem::path& path, const std::map<std::string, GgufValue>& metadata,
                std::span<const NamedTensor> tensors);

}  // namespace drrik
