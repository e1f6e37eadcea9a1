// What a PyTorch file's pickle means: torch/_utils.py and torch/serialization.py of PyTorch.

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "drrik/base/checked.h"
#include "drrik/io/torch_file.h"
#include "io/npy_layout.h"
#include "io/pickle.h"
#include "io/torch_container.h"
#include "io/torch_types.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxPickle = std::size_t{64} << 20;
constexpr std::int64_t kMaxDepth = 200;
constexpr std::size_t kMaxRank = 64;

using Id = Pickle::Id;
using Kind = PickleNode::Kind;

struct Storage {
  std::string_view key;
  DType dtype = DType::kU8;
  bool untyped = false;
  std::int64_t elements = 0;
};

struct View {
  Storage storage;
  DType dtype = DType::kF32;
  std::int64_t offset = 0;  ///< Elements of `dtype`.
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
};

// A numpy array; what it holds comes only with its state.
struct Array {
  bool built = false;
  NpyHeader header;
  std::string_view data;
};

// What a kCaller node is: its number is index * 4 + this.
enum class Made : std::uint8_t { kStorage, kView, kNumberType, kArray };

const TorchType* find_torch_type(std::string_view name, std::string_view TorchType::*member) {
  const auto found = std::find_if(kTorchTypes.begin(), kTorchTypes.end(), [&](const TorchType& t) {
    return !name.empty() && t.*member == name;
  });
  return found == kTorchTypes.end() ? nullptr : &*found;
}

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::shared_ptr<const MappedFile> file,
         const PtReadOptions& options)
      : file_(std::move(file)), container_(open_torch_container(bytes)), bytes_(bytes) {
    budget_ = options.max_tensor_bytes;
    if (budget_ == 0) {
      budget_ = checked_mul<std::uint64_t>(bytes.size(), 16).value_or(UINT64_MAX / 2) +
                (std::uint64_t{256} << 20);
    }
  }

  PtValue read() {
    Pickle pickle(
        container_->pickle(),
        [this](Pickle& machine, std::string_view global, Id arguments) {
          return call(machine, global, arguments);
        },
        [this](const Pickle& machine, Id object, Id state) { build(machine, object, state); });
    find_storages(pickle.input_used());
    made_.resize(pickle.size());
    height_.assign(pickle.size(), kUnseen);
    convert(pickle, pickle.root(), 0);
    return made_[pickle.root()];
  }

 private:
  using Key = std::tuple<std::string, std::int64_t, DType, std::vector<std::int64_t>,
                         std::vector<std::int64_t>>;
  static constexpr int kUnseen = -1;
  static constexpr int kOpen = -2;

  Id call(Pickle& pickle, std::string_view global, Id arguments) {
    if (global.empty()) return make_storage(pickle, arguments);
    if (global == "collections OrderedDict") {
      if (!pickle.tuple(arguments, 0, "OrderedDict").empty()) {
        throw_data("an OrderedDict with arguments is not supported");
      }
      PickleNode node;
      node.kind = Kind::kDict;
      node.ordered = true;
      return pickle.make(std::move(node));
    }
    if (global == "torch._utils _rebuild_tensor_v2" || global == "torch._utils _rebuild_tensor") {
      return make_view(pickle, pickle.tuple(arguments, 4, "a tensor"), std::nullopt);
    }
    if (global == "torch._utils _rebuild_tensor_v3") {
      const auto& items = pickle.tuple(arguments, 7, "a tensor");
      return make_view(pickle, items, dtype_of_global(pickle, items[6]));
    }
    if (global == "torch._utils _rebuild_parameter") {
      return pickle.tuple(arguments, 1, "a parameter")[0];
    }
    if (global == "torch Size" || global == "torch device") {
      // Size(tuple) is the tuple; device("cpu") and device("cuda", 0) are their type.
      return pickle.tuple(arguments, 1, global)[0];
    }
    if (global == "builtins set" || global == "__builtin__ set") {
      return pickle.tuple(arguments, 1, "a set")[0];
    }
    if (global == "_codecs encode") return make_bytes(pickle, arguments);
    // Protocol 2's b"".
    if ((global == "builtins bytes" || global == "__builtin__ bytes") &&
        pickle.tuple(arguments, 0, "bytes").empty()) {
      PickleNode node;
      node.kind = Kind::kBytes;
      return pickle.make(std::move(node));
    }
    if (global == "numpy dtype") return make_number_type(pickle, arguments);
    // numpy 2 renamed the module.
    for (const std::string_view module : {"numpy._core.multiarray ", "numpy.core.multiarray "}) {
      if (!starts_with(global, module)) continue;
      if (global.substr(module.size()) == "scalar") return make_number(pickle, arguments);
      if (global.substr(module.size()) == "_reconstruct") return make_array(pickle, arguments);
    }
    throw_data("it would call ", dotted(global),
               ", which is not allowed; save plain containers and tensors (a state_dict()), or "
               "convert the file to safetensors");
  }

  // Protocol 2 has no bytes: they come as encode(text, "latin1"), a character a byte.
  Id make_bytes(Pickle& pickle, Id arguments) {
    const auto& items = pickle.tuple(arguments, 2, "bytes");
    const std::string_view text = pickle.text(items[0], "bytes");
    if (pickle.text(items[1], "bytes") != "latin1") throw_data("bytes that are not latin1");
    copied_ += text.size();
    // The same text may be encoded again and again by a few opcodes each.
    if (copied_ > kMaxPickle) throw_data("too many bytes in strings");
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      unsigned c = static_cast<unsigned char>(text[i]);
      if (c >= 0x80) {
        const bool two = (c & 0xFEU) == 0xC2U && i + 1 < text.size();
        if (!two) throw_data("bytes that are not latin1");
        c = ((c & 3U) << 6U) | (static_cast<unsigned char>(text[++i]) & 0x3FU);
      }
      out += static_cast<char>(c);
    }
    PickleNode node;
    node.kind = Kind::kBytes;
    node.text = pickle.intern(std::move(out));
    return pickle.make(std::move(node));
  }

  static std::string dotted(std::string_view global) {
    std::string name(global);
    std::replace(name.begin(), name.end(), ' ', '.');
    return name;
  }

  static Id make_number_type(Pickle& pickle, Id arguments) {
    const auto& items = pickle.tuple(arguments, 1, "a numpy dtype");
    const std::string_view code = pickle.text(items[0], "a numpy dtype");
    const auto dtype = npy_dtype(code);
    if (!dtype) throw_data("numpy's type '", code, "' is not supported");
    return make_caller_node(pickle, static_cast<std::size_t>(*dtype), Made::kNumberType);
  }

  static DType number_type(const Pickle& pickle, Id id) {
    const PickleNode& node = pickle.node(id);
    if (!is_made(node, Made::kNumberType)) throw_data("numpy's numbers: wanted a numpy dtype");
    return static_cast<DType>(index_of(node));
  }

  static std::string_view raw_bytes(const Pickle& pickle, Id id) {
    if (pickle.node(id).kind != Kind::kBytes) throw_data("a numpy value has no bytes");
    return pickle.node(id).text;
  }

  // numpy.float64(0.5) and its like: a dtype and the bytes of one element.
  static Id make_number(Pickle& pickle, Id arguments) {
    const auto& items = pickle.tuple(arguments, 2, "a numpy number");
    const DType dtype = number_type(pickle, items[0]);
    const std::string_view data = raw_bytes(pickle, items[1]);
    if (data.size() != dtype_size(dtype)) {
      throw_data("a numpy ", dtype_name(dtype), " has ", data.size(), " bytes, wanted ",
                 dtype_size(dtype));
    }
    std::uint64_t bits = 0;
    std::memcpy(&bits, data.data(), data.size());
    PickleNode node;
    if (is_floating(dtype)) {
      node.kind = Kind::kFloat;
      node.real = dtype == DType::kF64 ? std::bit_cast<double>(bits) : small_float(dtype, data);
    } else if (dtype == DType::kBool) {
      node.kind = Kind::kBool;
      node.number = bits != 0 ? 1 : 0;
    } else {
      node.kind = Kind::kInt;
      const bool is_signed = dtype == DType::kI8 || dtype == DType::kI16 || dtype == DType::kI32 ||
                             dtype == DType::kI64;
      const auto unused = is_signed ? 64 - 8 * data.size() : 0;
      node.number = static_cast<std::int64_t>(bits << unused) >> unused;
      if (dtype == DType::kU64 && node.number < 0) {
        throw_data("a numpy uint64 beyond 2^63 - 1 is not supported");
      }
    }
    return pickle.make(std::move(node));
  }

  // float16 and float32: exact.
  static double small_float(DType dtype, std::string_view data) {
    float value = 0.0F;
    convert_to_float(reinterpret_cast<const std::byte*>(data.data()), dtype, 1, &value);
    return static_cast<double>(value);
  }

  Id make_array(Pickle& pickle, Id arguments) {
    const std::string_view name =
        global_name(pickle, pickle.tuple(arguments, 1, "a numpy array")[0]);
    if (name != "numpy ndarray") {
      throw_data("a numpy array is a '", dotted(name), "', wanted numpy.ndarray");
    }
    arrays_.emplace_back();
    return make_caller_node(pickle, arrays_.size() - 1, Made::kArray);
  }

  void build(const Pickle& pickle, Id object, Id state) {
    const PickleNode& node = pickle.node(object);
    if (is_made(node, Made::kNumberType)) {
      check_number_type(pickle, state);
    } else if (is_made(node, Made::kArray)) {
      arrays_[index_of(node)] = array_of(pickle, state);
    } else {
      throw_data("a tensor's or a storage's state is not supported");
    }
  }

  // (version, byte order, subtype, names, fields, …)
  static void check_number_type(const Pickle& pickle, Id state) {
    const auto& items = pickle.tuple(state, 5, "a numpy dtype's state");
    const std::string_view order = pickle.text(items[1], "a numpy dtype's byte order");
    if (order != "<" && order != "|") {
      throw_data("numpy values of byte order '", order, "' are not supported");
    }
    for (std::size_t i = 2; i < 5; ++i) {
      if (pickle.node(items[i]).kind != Kind::kNone) {
        throw_data("numpy types with parts or fields are not supported");
      }
    }
  }

  // (version, shape, dtype, Fortran order?, bytes)
  static Array array_of(const Pickle& pickle, Id state) {
    const auto& items = pickle.tuple(state, 5, "a numpy array's state");
    Array array;
    array.built = true;
    array.header.shape = sizes(pickle, items[1], "a numpy array's shape");
    array.header.dtype = number_type(pickle, items[2]);
    const PickleNode& fortran = pickle.node(items[3]);
    if (fortran.kind != Kind::kBool) throw_data("a numpy array does not say its order");
    array.header.fortran_order = fortran.number != 0 && array.header.shape.size() > 1;
    array.data = raw_bytes(pickle, items[4]);
    const auto wanted =
        checked_mul<std::uint64_t>(static_cast<std::uint64_t>(shape_elements(array.header.shape)),
                                   dtype_size(array.header.dtype));
    if (!wanted || *wanted != array.data.size()) {
      throw_data("a numpy array has ", array.data.size(), " bytes, wanted ",
                 shape_string(array.header.shape), " of ", dtype_name(array.header.dtype));
    }
    array.header.data_bytes = *wanted;
    return array;
  }

  static std::string_view global_name(const Pickle& pickle, Id id) {
    return pickle.node(id).kind == Kind::kGlobal ? pickle.node(id).text : std::string_view();
  }

  static DType dtype_of_global(const Pickle& pickle, Id id) {
    const std::string_view name = global_name(pickle, id);
    const TorchType* type =
        starts_with(name, "torch ") ? find_torch_type(name.substr(6), &TorchType::name) : nullptr;
    if (type == nullptr) throw_data("element type '", name, "' is not supported");
    return type->dtype;
  }

  Id make_storage(Pickle& pickle, Id id) {
    const auto& items = pickle.tuple(id, 5, "a storage");
    if (pickle.text(items[0], "a storage") != "storage") throw_data("an unknown persistent id");
    Storage storage;
    const std::string_view name = global_name(pickle, items[1]);
    if (name == "torch.storage UntypedStorage") {
      storage.untyped = true;
    } else {
      const TorchType* type = starts_with(name, "torch ")
                                  ? find_torch_type(name.substr(6), &TorchType::storage)
                                  : nullptr;
      if (type == nullptr) throw_data("storage type '", name, "' is not supported");
      storage.dtype = type->dtype;
    }
    storage.key = pickle.text(items[2], "a storage's key");
    storage.elements = pickle.integer(items[4], "a storage's size");
    if (storage.elements < 0) throw_data("a storage of ", storage.elements, " elements");
    // Torch before 0.4 could save a storage that was part of another.
    if (items.size() > 5 && pickle.node(items[5]).kind != Kind::kNone) {
      throw_data("storage '", storage.key, "' is a part of another, which is not supported");
    }
    storages_.push_back(storage);
    return make_caller_node(pickle, storages_.size() - 1, Made::kStorage);
  }

  static Id make_caller_node(Pickle& pickle, std::size_t index, Made made) {
    PickleNode node;
    node.kind = Kind::kCaller;
    node.number = static_cast<std::int64_t>(4 * index + static_cast<std::size_t>(made));
    return pickle.make(std::move(node));
  }
  static bool is_made(const PickleNode& node, Made made) {
    return node.kind == Kind::kCaller && node.number % 4 == static_cast<std::int64_t>(made);
  }
  static std::size_t index_of(const PickleNode& node) {
    return static_cast<std::size_t>(node.number / 4);
  }

  static std::vector<std::int64_t> sizes(const Pickle& pickle, Id id, std::string_view what) {
    std::vector<std::int64_t> out;
    for (const Id item : pickle.tuple(id, 0, what)) {
      out.push_back(pickle.integer(item, what));
      if (out.back() < 0) throw_data(what, " has ", out.back(), ", wanted >= 0");
    }
    if (out.size() > kMaxRank) throw_data(what, " has ", out.size(), " axes, wanted at most 64");
    return out;
  }

  Id make_view(Pickle& pickle, const std::vector<Id>& items, std::optional<DType> dtype) {
    const PickleNode& node = pickle.node(items[0]);
    if (!is_made(node, Made::kStorage)) throw_data("a tensor has no storage");
    View view;
    view.storage = storages_[index_of(node)];
    view.dtype = dtype.value_or(view.storage.dtype);
    if (!dtype && view.storage.untyped) throw_data("a tensor on an untyped storage has no type");
    view.offset = pickle.integer(items[1], "a tensor's offset");
    view.shape = sizes(pickle, items[2], "a tensor's shape");
    view.strides = sizes(pickle, items[3], "a tensor's strides");
    check_view(view);
    views_.push_back(std::move(view));
    return make_caller_node(pickle, views_.size() - 1, Made::kView);
  }

  static void check_view(const View& view) {
    if (view.strides.size() != view.shape.size()) {
      throw_data("a tensor has ", view.shape.size(), " sizes but ", view.strides.size(),
                 " strides");
    }
    const std::int64_t count = shape_elements(view.shape);
    const auto element = static_cast<std::int64_t>(dtype_size(view.dtype));
    const std::int64_t stored =
        view.storage.untyped ? view.storage.elements / element : view.storage.elements;
    std::optional<std::int64_t> last = view.offset;
    for (std::size_t d = 0; last && count > 0 && d < view.shape.size(); ++d) {
      const auto reach = checked_mul(view.shape[d] - 1, view.strides[d]);
      last = reach ? checked_add(*last, *reach) : std::nullopt;
    }
    if (view.offset < 0 || !last || (count > 0 && *last >= stored)) {
      throw_data("a tensor of shape ", shape_string(view.shape), ", strides ",
                 shape_string(view.strides), " at ", view.offset, " reaches beyond its storage '",
                 view.storage.key, "' of ", stored, " elements");
    }
  }

  static std::size_t element_size(const Storage& storage) {
    return storage.untyped ? 1 : dtype_size(storage.dtype);
  }

  void find_storages(std::size_t pickle_size) {
    std::map<std::string_view, std::size_t> sizes;
    for (const Storage& storage : storages_) sizes.emplace(storage.key, element_size(storage));
    container_->find_storages(pickle_size, [&](std::string_view key) {
      const auto found = sizes.find(key);
      return found == sizes.end() ? std::size_t{0} : found->second;
    });
  }

  std::span<const std::byte> storage_bytes(const Storage& storage) const {
    const auto bytes = container_->storage(storage.key);
    const std::size_t element = element_size(storage);
    const auto wanted =
        checked_mul<std::uint64_t>(static_cast<std::uint64_t>(storage.elements), element);
    if (!wanted || *wanted > bytes.size()) {
      throw_data("storage '", storage.key, "' has ", bytes.size(), " bytes, wanted ",
                 storage.elements, " elements of ", element);
    }
    return bytes;
  }

  std::shared_ptr<const Tensor> tensor_of(const View& view) {
    // Tied weights are two views of one storage: one tensor here too. The key is all that a view
    // is, so that a file of many views costs n log n.
    Key key(view.storage.key, view.offset, view.dtype, view.shape, view.strides);
    auto& tensor = tensors_[std::move(key)];
    if (tensor == nullptr) tensor = std::make_shared<const Tensor>(make_tensor(view));
    return tensor;
  }

  Tensor make_tensor(const View& view) {
    const auto bytes = storage_bytes(view.storage);
    const std::size_t element = dtype_size(view.dtype);
    const std::int64_t count = shape_elements(view.shape);
    const std::byte* from =
        count > 0 ? bytes.data() + static_cast<std::size_t>(view.offset) * element : bytes.data();
    bool contiguous = true;
    std::int64_t expected = 1;
    for (std::size_t d = view.shape.size(); d-- > 0;) {
      contiguous = contiguous && (view.shape[d] == 1 || view.strides[d] == expected);
      expected *= std::max<std::int64_t>(view.shape[d], 1);
    }
    contiguous = contiguous || count == 0;
    if (contiguous && !container_->big_endian() && file_ != nullptr) {
      return Tensor::borrow(file_, static_cast<std::size_t>(from - bytes_.data()), view.dtype,
                            view.shape);
    }
    spend(checked_mul<std::uint64_t>(static_cast<std::uint64_t>(count), element), view.shape);
    Tensor out = Tensor::uninitialized(view.dtype, view.shape);
    if (count == 0) return out;
    if (contiguous) {
      std::memcpy(out.mutable_raw(), from, out.bytes());
    } else {
      copy_strided(from, view.shape, view.strides, element, out.mutable_raw());
    }
    if (container_->big_endian()) swap_bytes({out.mutable_raw(), out.bytes()}, element);
    return out;
  }

  void spend(std::optional<std::uint64_t> size, const std::vector<std::int64_t>& shape) {
    if (!size || *size > budget_) {
      throw_data("tensors take more memory than is allowed for a file of ", bytes_.size(),
                 " bytes; one of shape ", shape_string(shape), " repeats its storage?");
    }
    budget_ -= *size;
  }

  Tensor array_tensor(const Array& array) {
    if (!array.built) throw_data("a numpy array without its data");
    spend(array.header.data_bytes, array.header.shape);
    return npy_tensor(std::as_bytes(std::span(array.data.data(), array.data.size())), array.header);
  }

  // Every node becomes one value, however often it occurs. Heights bound the depth of what comes
  // out: depth of the walk alone would not, since finished nodes are not walked again.
  void convert(const Pickle& pickle, Id id, std::int64_t depth) {
    if (height_[id] == kOpen) throw_data("a container holds itself");
    if (height_[id] != kUnseen) return;
    if (depth > kMaxDepth) throw_data("nested deeper than ", kMaxDepth, " levels");
    height_[id] = kOpen;
    const PickleNode& node = pickle.node(id);
    int height = 0;
    for (const Id item : node.items) {
      convert(pickle, item, depth + 1);
      height = std::max(height, height_[item] + 1);
    }
    if (height > kMaxDepth) throw_data("nested deeper than ", kMaxDepth, " levels");
    made_[id] = value_of(node);
    height_[id] = height;
  }

  PtValue value_of(const PickleNode& node) {
    switch (node.kind) {
      case Kind::kNone:
        return {};
      case Kind::kBool:
        return node.number != 0;
      case Kind::kInt:
        return node.number;
      case Kind::kFloat:
        return node.real;
      case Kind::kText:
        return std::string(node.text);
      case Kind::kBytes:
        return PtValue::bytes(std::string(node.text));
      case Kind::kList:
      case Kind::kTuple: {
        std::vector<PtValue> items;
        items.reserve(node.items.size());
        for (const Id item : node.items) items.push_back(made_[item]);
        return node.kind == Kind::kList ? PtValue::list(std::move(items))
                                        : PtValue::tuple(std::move(items));
      }
      case Kind::kDict:
        return dict_of(node);
      case Kind::kGlobal:
        // A dtype, or a class nobody called: its name is all there is.
        return global_text(node.text);
      case Kind::kCaller:
        break;
    }
    if (is_made(node, Made::kView)) return tensor_of(views_[index_of(node)]);
    if (is_made(node, Made::kArray)) return array_tensor(arrays_[index_of(node)]);
    if (is_made(node, Made::kNumberType)) throw_data("a numpy dtype on its own is not supported");
    throw_data("a bare storage is not supported, only tensors");
  }

  static std::string global_text(std::string_view global) {
    if (!starts_with(global, "torch ") ||
        find_torch_type(global.substr(6), &TorchType::name) == nullptr) {
      throw_data("it names ", dotted(global), ", which is not allowed");
    }
    return "torch." + std::string(global.substr(6));
  }

  PtValue dict_of(const PickleNode& node) const {
    // As in Python the last of equal keys wins; sought by a map, since members may be many.
    std::map<std::string_view, std::size_t> last;
    for (std::size_t i = 0; i < node.items.size(); i += 2) {
      const PtValue& key = made_[node.items[i]];
      if (key.kind() == PtValue::Kind::kString) last[key.as_string()] = i;
    }
    std::vector<PtValue::Member> members;
    for (std::size_t i = 0; i < node.items.size(); i += 2) {
      const PtValue& key = made_[node.items[i]];
      if (key.kind() == PtValue::Kind::kString && last[key.as_string()] != i) continue;
      members.emplace_back(key, made_[node.items[i + 1]]);
    }
    return PtValue::dict(node.ordered, std::move(members));
  }

  std::shared_ptr<const MappedFile> file_;
  std::unique_ptr<TorchContainer> container_;
  std::span<const std::byte> bytes_;
  std::uint64_t budget_ = 0;
  std::uint64_t copied_ = 0;
  std::vector<Storage> storages_;
  std::vector<View> views_;
  std::vector<Array> arrays_;
  std::vector<PtValue> made_;
  std::vector<int> height_;
  std::map<Key, std::shared_ptr<const Tensor>> tensors_;
};

PtValue read_bytes(std::span<const std::byte> bytes, std::shared_ptr<const MappedFile> file,
                   const PtReadOptions& options) {
  return Reader(bytes, std::move(file), options).read();
}

}  // namespace

PtValue parse_torch_file(std::span<const std::byte> file, const PtReadOptions& options) {
  return read_bytes(file, nullptr, options);
}

PtValue read_torch_file(const std::filesystem::path& path, const PtReadOptions& options) {
  const auto file = MappedFile::open(path);
  try {
    return read_bytes(file->bytes(), file, options);
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
}

}  // namespace drrik
