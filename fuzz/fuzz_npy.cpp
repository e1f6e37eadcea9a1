// .npy headers and .npz archives: refused with Error(data), or arrays that lie inside the file.

#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/io/npy.h"
#include "io/npy_layout.h"
#include "io/zip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto try_array = [](std::span<const std::byte> bytes) {
    const auto header = drrik::parse_npy(bytes);
    if (header.data_offset + header.data_bytes > bytes.size()) std::abort();
    const auto tensor = drrik::npy_tensor(bytes, header);
    if (tensor.bytes() != header.data_bytes) std::abort();
  };
  try {
    if (size > 1 && data[0] == 'P') {
      const drrik::ZipReader zip(file);
      for (const auto& entry : zip.entries()) try_array(zip.read(entry, /*check_crc=*/false));
    } else {
      try_array(file);
    }
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
