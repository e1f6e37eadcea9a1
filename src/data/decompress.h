#pragma once
// Compressions, undone piece by piece.

#include <memory>
#include <span>

#include "data/byte_stream.h"

namespace drrik {

/// Undoes a compression other than zip. Errors are Error(data) naming it.
std::unique_ptr<ByteStream> decompress(Magic magic, std::unique_ptr<ByteStream> from);

/// Undoes raw deflate, as zip archives hold it, and checks size and CRC-32 at its end.
std::unique_ptr<ByteStream> inflate_member(std::unique_ptr<ByteStream> from, bool deflated,
                                           std::uint32_t crc, std::uint64_t size);

}  // namespace drrik
