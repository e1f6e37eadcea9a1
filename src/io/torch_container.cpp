// torch/serialization.py and caffe2/serialize/inline_container.cc of PyTorch.

#include "io/torch_container.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "drrik/base/checked.h"
#include "drrik/base/error.h"
#include "io/pickle.h"
#include "io/zip.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxPickle = std::size_t{64} << 20;

bool starts_with(std::span<const std::byte> bytes, std::string_view start) {
  return bytes.size() >= start.size() && std::memcmp(bytes.data(), start.data(), start.size()) == 0;
}

class ZipContainer final : public TorchContainer {
 public:
  explicit ZipContainer(std::span<const std::byte> file) : zip_(file) {
    find_folder();
    const ZipEntry* entry = zip_.find(folder_ + "data.pkl");
    if (entry->size > kMaxPickle) {
      throw_data("its data.pkl has ", entry->size, " bytes, wanted at most ", kMaxPickle);
    }
    // PyTorch can be told not to compute checksums and does not check them itself.
    pickle_ = zip_.read(*entry, /*check_crc=*/false);
  }

  std::span<const std::byte> pickle() const override { return pickle_; }
  void find_storages(std::size_t /*size*/, const ElementSize& /*element_size*/) override {}
  bool big_endian() const override { return big_endian_; }

  std::span<const std::byte> storage(std::string_view key) const override {
    const ZipEntry* entry = zip_.find(folder_ + "data/" + std::string(key));
    if (entry == nullptr) throw_data("storage '", key, "' is missing");
    if (entry->method != 0) throw_data("storage '", key, "' is compressed, wanted stored");
    return zip_.raw(*entry);
  }

 private:
  // The one folder that holds data.pkl; its name is the file's stem or "archive".
  void find_folder() {
    for (const ZipEntry& entry : zip_.entries()) {
      const auto slash = entry.name.find('/');
      if (slash == std::string::npos) continue;
      const std::string_view rest = std::string_view(entry.name).substr(slash + 1);
      if (rest == "constants.pkl" || rest.starts_with("code/")) {
        throw_data("a TorchScript program, not a file of tensors; save its state_dict() instead");
      }
      if (rest == "data.pkl") folder_ = entry.name.substr(0, slash + 1);
    }
    if (folder_.empty()) throw_data("a zip archive without data.pkl; not a PyTorch file?");
    if (const ZipEntry* order = zip_.find(folder_ + "byteorder")) {
      big_endian_ = starts_with(zip_.raw(*order), "big");
    }
  }

  ZipReader zip_;
  std::string folder_;
  std::vector<std::byte> pickle_;
  bool big_endian_ = false;
};

// 0x1950a86a20f9469cfc6c as pickle protocol 2 writes it; torch itself compares the number.
constexpr std::string_view kMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
constexpr std::int64_t kProtocol = 1001;

/// Five pickles end to end (magic number, protocol, the machine that wrote it, the object, the keys
/// of its storages), then for each key how many elements and the elements, little-endian.
class StreamContainer final : public TorchContainer {
 public:
  explicit StreamContainer(std::span<const std::byte> file) : file_(file), at_(kMagic.size()) {
    const Pickle protocol = plain_pickle();
    if (protocol.integer(protocol.root(), "the file's protocol") != kProtocol) {
      throw_data("a file of torch before 1.6 in another protocol than ", kProtocol);
    }
    plain_pickle();  // The machine: torch reads the same bytes on any.
  }

  std::span<const std::byte> pickle() const override { return window(); }

  void find_storages(std::size_t size, const ElementSize& element_size) override {
    at_ += size;
    const Pickle keys = plain_pickle();
    const PickleNode& list = keys.node(keys.root());
    if (list.kind != PickleNode::Kind::kList) throw_data("the list of storages is no list");
    for (const Pickle::Id id : list.items) {
      const std::string key(keys.text(id, "a storage's key"));
      const std::size_t element = element_size(key);
      if (element == 0) throw_data("storage '", key, "' belongs to no tensor");
      std::uint64_t count = 0;
      if (file_.size() - at_ < sizeof count) {
        throw_data("the file ends before storage '", key, "'; incomplete download?");
      }
      for (std::size_t i = 0; i < sizeof count; ++i) {
        count |= std::to_integer<std::uint64_t>(file_[at_ + i]) << (8 * i);
      }
      at_ += sizeof count;
      const auto bytes = checked_mul<std::uint64_t>(count, element);
      if (!bytes || *bytes > file_.size() - at_) {
        throw_data("storage '", key, "' of ", count, " elements reaches beyond the file's end at ",
                   file_.size(), "; incomplete download?");
      }
      storages_[key] = file_.subspan(at_, static_cast<std::size_t>(*bytes));
      at_ += static_cast<std::size_t>(*bytes);
    }
  }

  std::span<const std::byte> storage(std::string_view key) const override {
    const auto found = storages_.find(key);
    if (found == storages_.end()) throw_data("storage '", key, "' is missing");
    return found->second;
  }

 private:
  std::span<const std::byte> window() const {
    return file_.subspan(at_, std::min(kMaxPickle, file_.size() - at_));
  }

  Pickle plain_pickle() {
    Pickle pickle(
        window(),
        [](Pickle& /*machine*/, std::string_view global, Pickle::Id /*arguments*/) -> Pickle::Id {
          throw_data("'", global, "' stands where plain values are wanted");
        },
        [](const Pickle& /*machine*/, Pickle::Id /*object*/, Pickle::Id /*state*/) {
          throw_data("an object stands where plain values are wanted");
        });
    at_ += pickle.input_used();
    return pickle;
  }

  std::span<const std::byte> file_;
  std::size_t at_;
  std::map<std::string, std::span<const std::byte>, std::less<>> storages_;
};

}  // namespace

std::unique_ptr<TorchContainer> open_torch_container(std::span<const std::byte> file) {
  if (starts_with(file, "PK")) return std::make_unique<ZipContainer>(file);
  if (starts_with(file, kMagic)) return std::make_unique<StreamContainer>(file);
  if (!file.empty() && file[0] == std::byte{0x80}) {
    throw_data("a bare pickle, not a PyTorch file; save it with torch.save or as safetensors");
  }
  if (starts_with(file, "version https://git-lfs")) {
    throw_data("a pointer of Git LFS, not the file itself; fetch it with 'git lfs pull'");
  }
  throw_data("not a PyTorch file (neither a zip archive nor the stream of torch before 1.6)");
}

}  // namespace drrik
