#pragma once
// What the dataset tests share. Streams hand out one to five bytes a time unless told otherwise, so
// that every boundary falls everywhere.

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/row_reader.h"
#include "drrik/data/source.h"
#include "io/io_testing.h"

namespace drrik::testing {

class DrippingStream final : public ByteStream {
 public:
  DrippingStream(std::string bytes, std::size_t most) : bytes_(std::move(bytes)), most_(most) {}
  std::size_t read(std::span<char> to) override {
    const std::size_t n = std::min({to.size(), bytes_.size() - at_, 1 + at_ % most_});
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at_), n, to.begin());
    at_ += n;
    return n;
  }
  std::uint64_t consumed() const override { return at_; }

 private:
  std::string bytes_;
  std::size_t most_;
  std::size_t at_ = 0;
};

/// Texts of every row; "<none>" for a row without text.
inline std::vector<std::string> rows_of(RowOpener open, const std::string& bytes,
                                        const RowOptions& options = {}, std::size_t most = 5) {
  const auto reader = open(std::make_unique<DrippingStream>(bytes, most), options);
  std::vector<std::string> out;
  Row row;
  while (reader->next(row)) out.push_back(row.present ? row.text : "<none>");
  return out;
}

using Texts = std::vector<std::string>;

inline Texts texts_of(TextSource& source) {
  Texts out;
  while (auto sample = source.next()) out.push_back(std::move(sample->text));
  return out;
}

inline Texts texts_of(const DatasetOptions& options) { return texts_of(*open_dataset(options)); }

inline std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, static_cast<uLong>(text.size())) + 64, '\0');
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

}  // namespace drrik::testing
