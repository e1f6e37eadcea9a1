#pragma once
// gzip of whole texts in memory.

#include <cstdint>
#include <string>
#include <string_view>

namespace drrik::detail {

bool is_gzip(std::string_view bytes);
/// The same bytes for the same text on every machine with the same zlib: no name, no time.
std::string gzip(std::string_view text);
/// Of one or more members. Throws Error(data) for bytes that are none, cut short, or unpack to more
/// than `max_bytes`.
std::string gunzip(std::string_view bytes, std::uint64_t max_bytes);

}  // namespace drrik::detail
