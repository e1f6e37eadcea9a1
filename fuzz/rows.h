#pragma once
// What the row readers' fuzz targets share: rows must not depend on how the stream cuts the bytes,
// and texts must be valid UTF-8.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "data/row_reader.h"
#include "drrik/base/error.h"
#include "drrik/base/utf8.h"

namespace drrik::fuzz {

class CutStream final : public ByteStream {
 public:
  CutStream(std::string_view bytes, std::size_t step) : bytes_(bytes), step_(step) {}
  std::size_t read(std::span<char> to) override {
    const std::size_t n = std::min({to.size(), step_, bytes_.size() - at_});
    std::copy_n(bytes_.data() + at_, n, to.data());
    at_ += n;
    return n;
  }
  std::uint64_t consumed() const override { return at_; }

 private:
  std::string_view bytes_;
  std::size_t step_;
  std::size_t at_ = 0;
};

inline std::vector<std::string> read_rows(RowOpener open, std::unique_ptr<ByteStream> stream,
                                          const RowOptions& options) {
  std::vector<std::string> out;
  try {
    const auto reader = open(std::move(stream), options);
    Row row;
    while (reader->next(row)) {
      if (row.present && !is_valid_utf8(row.text)) std::abort();
      out.push_back((row.present ? "+" : "-") + (row.present ? row.text : std::string()));
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
    out.push_back(std::string("!") + error.what());
  }
  return out;
}

inline void check_rows(RowOpener open, std::string_view bytes, const RowOptions& options) {
  const auto whole = read_rows(open, std::make_unique<CutStream>(bytes, 1 << 20), options);
  if (read_rows(open, std::make_unique<CutStream>(bytes, 3), options) != whole) std::abort();
}

}  // namespace drrik::fuzz
