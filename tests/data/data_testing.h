#pragma once
// What the dataset tests share. Streams hand out one to five bytes a time unless told otherwise, so
// that every boundary falls everywhere.

#include <bzlib.h>
#include <lz4frame.h>
#include <lzma.h>
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
#include "io/zip.h"

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

inline std::string bzip2(std::string_view text) {
  std::string out(text.size() + text.size() / 100 + 600, '\0');
  auto size = static_cast<unsigned>(out.size());
  BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(text.data()),
                           static_cast<unsigned>(text.size()), 1, 0, 0);
  out.resize(size);
  return out;
}

inline std::string xz(std::string_view text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t size = 0;
  lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, nullptr,
                          reinterpret_cast<const std::uint8_t*>(text.data()), text.size(),
                          reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size());
  out.resize(size);
  return out;
}

inline std::string lz4(std::string_view text) {
  LZ4F_preferences_t checked{};
  checked.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
  std::string out(LZ4F_compressFrameBound(text.size(), &checked), '\0');
  out.resize(LZ4F_compressFrame(out.data(), out.size(), text.data(), text.size(), &checked));
  return out;
}

/// An archive of so many files with this content, stored: deflated ones are among the fixtures.
inline std::string zip_of(std::string_view text, int files) {
  TempFolder folder;
  AtomicFile file(folder / "x.zip");
  ZipWriter writer(file);
  for (int i = 0; i < files; ++i) writer.add(str("corpus", i, ".jsonl"), bytes_of(text));
  writer.finish();
  file.commit();
  return read_file(folder / "x.zip");
}
inline std::string zip(std::string_view text) { return zip_of(text, 1); }

}  // namespace drrik::testing
