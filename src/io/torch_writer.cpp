#include <algorithm>
#include <bit>
#include <map>

#include "drrik/io/torch_file.h"
#include "io/torch_types.h"
#include "io/zip.h"

namespace drrik {
namespace {

constexpr int kMaxDepth = 200;
constexpr std::size_t kAlignment = 64;

// Protocol 2, only what torch.load(weights_only=True) takes. No memo: nothing needs one, since
// tensors that occur twice name the same storage.
class Pickler {
 public:
  std::string run(const PtValue& value) {
    out_ = "\x80\x02";
    put(value, 0);
    out_ += '.';
    return std::move(out_);
  }
  const std::vector<const Tensor*>& storages() const { return storages_; }

 private:
  void little(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) out_ += static_cast<char>((value >> (8 * i)) & 0xFFU);
  }

  void put_text(std::string_view text) {
    if (text.size() > 0xFFFFFFFFU) throw_usage("a string of ", text.size(), " bytes is too long");
    out_ += 'X';
    little(text.size(), 4);
    out_ += text;
  }

  void put_int(std::int64_t value) {
    if (value >= 0 && value <= 0xFF) {
      out_ += 'K';
      little(static_cast<std::uint64_t>(value), 1);
    } else if (value >= 0 && value <= 0xFFFF) {
      out_ += 'M';
      little(static_cast<std::uint64_t>(value), 2);
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
      out_ += 'J';
      little(static_cast<std::uint64_t>(value), 4);
    } else {
      out_ += "\x8a\x08";
      little(static_cast<std::uint64_t>(value), 8);
    }
  }

  void put_float(double value) {
    out_ += 'G';
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int i = 7; i >= 0; --i) out_ += static_cast<char>((bits >> (8 * i)) & 0xFFU);
  }

  void put_global(std::string_view module, std::string_view name) {
    out_ += 'c';
    out_ += module;
    out_ += '\n';
    out_ += name;
    out_ += '\n';
  }

  void put_ordered_dict() {
    put_global("collections", "OrderedDict");
    out_ += ")R";
  }

  // encode(text, "latin1"): the way protocol 2 has for bytes.
  void put_bytes(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) {
      const auto u = static_cast<unsigned char>(c);
      if (u < 0x80) {
        text += c;
      } else {
        text += static_cast<char>(0xC0U | (u >> 6U));
        text += static_cast<char>(0x80U | (u & 0x3FU));
      }
    }
    put_global("_codecs", "encode");
    put_text(text);
    put_text("latin1");
    out_ += "\x86R";
  }

  void put_sizes(std::span<const std::int64_t> sizes) {
    out_ += '(';
    for (const std::int64_t size : sizes) put_int(size);
    out_ += 't';
  }

  void put_tensor(const Tensor& tensor) {
    const auto type = std::find_if(kTorchTypes.begin(), kTorchTypes.end(),
                                   [&](const TorchType& t) { return t.dtype == tensor.dtype(); });
    if (type == kTorchTypes.end()) throw_usage("torch has no type ", dtype_name(tensor.dtype()));
    const auto [at, is_new] = keys_.emplace(&tensor, storages_.size());
    if (is_new) storages_.push_back(&tensor);
    // Types without a storage class of their own are named beside an untyped storage.
    const bool untyped = type->storage.empty();
    put_global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    out_ += "((";
    put_text("storage");
    put_global(untyped ? "torch.storage" : "torch", untyped ? "UntypedStorage" : type->storage);
    put_text(std::to_string(at->second));
    put_text("cpu");
    put_int(untyped ? static_cast<std::int64_t>(tensor.bytes()) : tensor.elements());
    out_ += "tQ";
    put_int(0);
    put_sizes(tensor.shape());
    std::vector<std::int64_t> strides(tensor.shape().size());
    std::int64_t stride = 1;
    for (std::size_t d = strides.size(); d-- > 0;) {
      strides[d] = stride;
      stride *= std::max<std::int64_t>(tensor.shape()[d], 1);
    }
    put_sizes(strides);
    out_ += '\x89';
    put_ordered_dict();
    if (untyped) put_global("torch", type->name);
    out_ += "tR";
  }

  void put(const PtValue& value, int depth) {
    if (depth > kMaxDepth) throw_usage("value is nested deeper than ", kMaxDepth, " levels");
    switch (value.kind()) {
      case PtValue::Kind::kNone:
        out_ += 'N';
        return;
      case PtValue::Kind::kBool:
        out_ += value.as_bool() ? '\x88' : '\x89';
        return;
      case PtValue::Kind::kInt:
        put_int(value.as_int());
        return;
      case PtValue::Kind::kFloat:
        put_float(value.as_double());
        return;
      case PtValue::Kind::kString:
        put_text(value.as_string());
        return;
      case PtValue::Kind::kBytes:
        put_bytes(value.as_string());
        return;
      case PtValue::Kind::kTensor:
        put_tensor(value.as_tensor());
        return;
      case PtValue::Kind::kList:
      case PtValue::Kind::kTuple: {
        const bool list = value.kind() == PtValue::Kind::kList;
        out_ += list ? "](" : "(";
        for (const PtValue& item : value.items()) put(item, depth + 1);
        out_ += list ? 'e' : 't';
        return;
      }
      case PtValue::Kind::kDict:
        if (value.ordered()) {
          put_ordered_dict();
        } else {
          out_ += '}';
        }
        out_ += '(';
        for (const auto& [key, member] : value.members()) {
          put(key, depth + 1);
          put(member, depth + 1);
        }
        out_ += 'u';
        return;
    }
  }

  std::string out_;
  std::vector<const Tensor*> storages_;
  std::map<const Tensor*, std::size_t> keys_;
};

std::span<const std::byte> text_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

void write_torch_file(const std::filesystem::path& path, const PtValue& value) {
  Pickler pickler;
  const std::string pickled = pickler.run(value);
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add("archive/data.pkl", text_bytes(pickled), kAlignment);
  zip.add("archive/byteorder", text_bytes("little"), kAlignment);
  for (std::size_t i = 0; i < pickler.storages().size(); ++i) {
    const Tensor& tensor = *pickler.storages()[i];
    zip.add("archive/data/" + std::to_string(i), {tensor.raw(), tensor.bytes()}, kAlignment);
  }
  zip.add("archive/version", text_bytes("3\n"), kAlignment);
  zip.finish();
  file.commit();
}

}  // namespace drrik
