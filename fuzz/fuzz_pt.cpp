// PyTorch files. An input that begins with "PK" or with the magic number of torch before 1.6 is a
// whole file; any other is the pickle of a file with two storages, which lets the fuzzer past the
// archive to the interpreter.

#include <cstdlib>
#include <string>

#include "drrik/base/error.h"
#include "drrik/io/torch_file.h"

namespace {

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i, value >>= 8U) out += static_cast<char>(value & 0xFFU);
}

class Archive {
 public:
  void add(const std::string& name, const std::string& content) {
    const auto offset = out_.size();
    put(out_, 0x04034b50, 4);
    put(out_, 20, 2);
    put(out_, 0, 12);
    put(out_, content.size(), 4);
    put(out_, content.size(), 4);
    put(out_, name.size(), 2);
    put(out_, 0, 2);
    out_ += name + content;
    put(directory_, 0x02014b50, 4);
    put(directory_, 20, 2);
    put(directory_, 20, 2);
    put(directory_, 0, 12);
    put(directory_, content.size(), 4);
    put(directory_, content.size(), 4);
    put(directory_, name.size(), 2);
    put(directory_, 0, 12);
    put(directory_, offset, 4);
    directory_ += name;
    ++count_;
  }
  std::string finish() {
    const auto offset = out_.size();
    out_ += directory_;
    put(out_, 0x06054b50, 4);
    put(out_, 0, 4);
    put(out_, count_, 2);
    put(out_, count_, 2);
    put(out_, directory_.size(), 4);
    put(out_, offset, 4);
    put(out_, 0, 2);
    return out_;
  }

 private:
  std::string out_;
  std::string directory_;
  std::uint64_t count_ = 0;
};

// Touches every byte and node, so that the sanitizers see what was made.
std::uint64_t walk(const drrik::PtValue& value, std::int64_t& budget) {
  if (--budget < 0) return 0;
  std::uint64_t sum = 0;
  switch (value.kind()) {
    case drrik::PtValue::Kind::kList:
    case drrik::PtValue::Kind::kTuple:
      for (const auto& item : value.items()) sum += walk(item, budget);
      break;
    case drrik::PtValue::Kind::kDict:
      for (const auto& [key, member] : value.members()) {
        sum += walk(key, budget) + walk(member, budget);
      }
      break;
    case drrik::PtValue::Kind::kString:
    case drrik::PtValue::Kind::kBytes:
      for (const char c : value.as_string()) sum += static_cast<unsigned char>(c);
      break;
    case drrik::PtValue::Kind::kTensor: {
      const drrik::Tensor& tensor = value.as_tensor();
      for (std::size_t i = 0; i < tensor.bytes(); ++i)
        sum += std::to_integer<unsigned>(tensor.raw()[i]);
      break;
    }
    default:
      break;
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  if (file.rfind("PK", 0) != 0 && file.rfind("\x80\x02\x8a\x0a\x6c\xfc", 0) != 0) {
    Archive archive;
    archive.add("archive/data.pkl", file);
    archive.add("archive/data/0", std::string(64, '\1'));
    archive.add("archive/data/1", std::string(24, '\2'));
    file = archive.finish();
  }
  drrik::PtReadOptions options;
  options.max_tensor_bytes = 1 << 20;
  try {
    const auto value =
        drrik::parse_torch_file(std::as_bytes(std::span(file.data(), file.size())), options);
    std::int64_t budget = 100'000;
    if (walk(value, budget) == UINT64_MAX) std::abort();  // Keeps the walk from being left out.
  } catch (const drrik::Error& error) {
    if (error.kind() != drrik::ErrorKind::kData) std::abort();
  }
  return 0;
}
