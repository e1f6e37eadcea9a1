#pragma once
// PyTorch's files (.pt, .pth, .bin: zip archives, and the plain stream of torch before 1.6), read
// without running anything.
//
// The pickle inside is interpreted by a small machine that knows data opcodes and an allow-list of
// constructors (tensors, OrderedDict, Size, dtype, device; numpy's numbers, which come out as plain
// ones, and its numeric arrays, which come out as tensors); any other global is refused by name.
// Limits on depth, memo, items and bytes make hostile files an Error(data).

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "drrik/tensor/tensor.h"

namespace drrik {

/// A value of such a file. Copies are cheap and share containers and tensors: set() and add() on
/// one copy are seen through the others.
class PtValue {
 public:
  enum class Kind { kNone, kBool, kInt, kFloat, kString, kBytes, kList, kTuple, kDict, kTensor };
  using Member = std::pair<PtValue, PtValue>;

  PtValue() = default;  ///< None
  /// bool and nothing that merely converts to it (a pointer, say).
  template <std::same_as<bool> T>
  PtValue(T value) : kind_(Kind::kBool), value_(value) {}                 // NOLINT
  PtValue(int value) : kind_(Kind::kInt), value_(std::int64_t{value}) {}  // NOLINT
  PtValue(std::int64_t value) : kind_(Kind::kInt), value_(value) {}       // NOLINT
  PtValue(double value) : kind_(Kind::kFloat), value_(value) {}           // NOLINT
  PtValue(std::string value);                                             // NOLINT
  PtValue(const char* value) : PtValue(std::string(value)) {}             // NOLINT
  PtValue(Tensor tensor);                                                 // NOLINT
  PtValue(std::shared_ptr<const Tensor> tensor);                          // NOLINT
  static PtValue bytes(std::string value);
  static PtValue list(std::vector<PtValue> items = {});
  static PtValue tuple(std::vector<PtValue> items);
  /// An OrderedDict when `ordered` (what state_dict() gives), else a dict. Keys must differ.
  static PtValue dict(bool ordered = false, std::vector<Member> members = {});

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::kNone; }
  /// "dict", "tensor", …
  std::string_view kind_name() const;

  // Each throws Error(data) naming both kinds when this is of another kind. as_double takes ints.
  bool as_bool() const;
  std::int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;        ///< kString, kBytes
  const std::vector<PtValue>& items() const;   ///< kList, kTuple
  const std::vector<Member>& members() const;  ///< kDict, in the file's order
  bool ordered() const;                        ///< kDict: OrderedDict?
  const Tensor& as_tensor() const;             ///< Contiguous. Its strides in the file are undone.
  std::shared_ptr<const Tensor> shared_tensor() const;

  /// kDict: the member with this string key, or nullptr. Valid while this value lives unchanged.
  const PtValue* find(std::string_view key) const;
  /// kDict: the member; throws Error(data) naming it and the nearest key when absent.
  const PtValue& get(std::string_view key) const;

  /// kDict: sets or appends. Throws as the accessors do.
  void set(PtValue key, PtValue value);
  /// kList: appends.
  void add(PtValue item);

 private:
  using Items = std::vector<PtValue>;
  using Members = std::vector<Member>;
  template <typename T>
  const T& held(Kind kind) const;
  [[noreturn]] void throw_kind(std::string_view wanted) const;

  Kind kind_ = Kind::kNone;
  bool ordered_ = false;
  std::variant<std::monostate, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<Items>, std::shared_ptr<Members>, std::shared_ptr<const Tensor>>
      value_;
};

struct PtReadOptions {
  /// Bytes that tensors copied out of storages may take together; views that repeat a small
  /// storage could otherwise ask for any amount. 0: 16 times the file's size and 256 MiB more.
  std::uint64_t max_tensor_bytes = 0;
};

/// Contiguous tensors borrow the mapped file; others are copied into row-major order. Throws
/// Error(io); Error(data) naming the path (TorchScript, a bare pickle, a global
/// that is not allowed, a storage that is too short, …).
PtValue read_torch_file(const std::filesystem::path& path, const PtReadOptions& options = {});
/// The same for a file in memory; every tensor is copied.
PtValue parse_torch_file(std::span<const std::byte> file, const PtReadOptions& options = {});

/// Writes what torch.load(path, weights_only=True) reads back. Deterministic, atomic; storages
/// start at multiples of 64 bytes, and a tensor that occurs several times is stored once. Throws
/// Error(io); Error(usage) for dtypes that torch lacks or nesting deeper than 200.
void write_torch_file(const std::filesystem::path& path, const PtValue& value);

}  // namespace drrik
