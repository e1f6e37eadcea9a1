#pragma once
// Where a PyTorch file keeps its pickle and its storages: in a zip archive (torch >= 1.6), or one
// after the other in a plain stream (before).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace drrik {

class TorchContainer {
 public:
  /// Bytes an element of this storage takes; nothing (0) for a key the pickle does not name.
  using ElementSize = std::function<std::size_t(std::string_view key)>;

  virtual ~TorchContainer() = default;
  /// The pickle of the object, and perhaps bytes after it. Valid while the container lives.
  virtual std::span<const std::byte> pickle() const = 0;
  /// To be called once the pickle, `size` bytes long, has run and before storage().
  virtual void find_storages(std::size_t size, const ElementSize& element_size) = 0;
  /// The storage's bytes inside the file. Throws Error(data) when there is none.
  virtual std::span<const std::byte> storage(std::string_view key) const = 0;
  virtual bool big_endian() const { return false; }
};

/// Looks at what the file is. Throws Error(data) for what is none of the two, TorchScript programs,
/// bare pickles and archives without an object among it. `file` must outlive the container.
std::unique_ptr<TorchContainer> open_torch_container(std::span<const std::byte> file);

}  // namespace drrik
