// Layout: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64).

#include "io/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

#include "drrik/base/error.h"

namespace drrik {
namespace {

constexpr std::uint32_t kLocalMagic = 0x04034b50;
constexpr std::uint32_t kCentralMagic = 0x02014b50;
constexpr std::uint32_t kEndMagic = 0x06054b50;
constexpr std::uint32_t kEnd64Magic = 0x06064b50;
constexpr std::uint32_t kLocator64Magic = 0x07064b50;
constexpr std::uint64_t kLocalSize = 30;
constexpr std::uint64_t kCentralSize = 46;
constexpr std::uint64_t kEndSize = 22;
constexpr std::uint64_t kEnd64Size = 56;
constexpr std::uint64_t kLocator64Size = 20;
constexpr std::uint64_t kMax32 = 0xFFFFFFFF;
constexpr std::uint16_t kMax16 = 0xFFFF;
// 1980-01-01, the first date the format has: the bytes depend on the content alone.
constexpr std::uint16_t kDate = (1 << 5) | 1;

// Little-endian fields at a checked offset.
class Fields {
 public:
  Fields(std::span<const std::byte> file, std::uint64_t offset, std::uint64_t size,
         const char* what)
      : data_(file.data()) {
    if (offset > file.size() || size > file.size() - offset) {
      throw_data("zip: ", what, " of ", size, " bytes at ", offset, ", file ends at ", file.size(),
                 "; incomplete download?");
    }
    data_ += offset;
  }
  std::uint16_t u16(std::size_t at) const { return static_cast<std::uint16_t>(number(at, 2)); }
  std::uint32_t u32(std::size_t at) const { return static_cast<std::uint32_t>(number(at, 4)); }
  std::uint64_t u64(std::size_t at) const { return number(at, 8); }
  std::string text(std::size_t at, std::size_t size) const {
    return {reinterpret_cast<const char*>(data_) + at, size};
  }

 private:
  std::uint64_t number(std::size_t at, std::size_t size) const {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value |= std::to_integer<std::uint64_t>(data_[at + i]) << (8 * i);
    }
    return value;
  }
  const std::byte* data_;
};

struct Directory {
  std::uint64_t count = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
};

Directory find_directory(std::span<const std::byte> file) {
  if (file.size() < kEndSize) throw_data("not a zip archive: only ", file.size(), " bytes");
  // The end record is followed by a comment of at most 65535 bytes.
  const std::uint64_t last = file.size() - kEndSize;
  const std::uint64_t first = last > kMax16 ? last - kMax16 : 0;
  std::uint64_t at = last + 1;
  bool found = false;
  while (!found && at-- > first) found = Fields(file, at, 4, "end record").u32(0) == kEndMagic;
  if (!found) throw_data("not a zip archive (it has no end record); incomplete download?");
  const Fields end(file, at, kEndSize, "end record");
  Directory out{end.u16(10), end.u32(12), end.u32(16)};
  bool one_disk = (end.u16(4) == 0 || end.u16(4) == kMax16) && end.u16(6) == end.u16(4);
  if (out.count == kMax16 || out.size == kMax32 || out.offset == kMax32) {
    if (at >= kLocator64Size) {
      const Fields locator(file, at - kLocator64Size, kLocator64Size, "zip64 locator");
      if (locator.u32(0) == kLocator64Magic) {
        const Fields end64(file, locator.u64(8), kEnd64Size, "zip64 end record");
        if (end64.u32(0) != kEnd64Magic) throw_data("zip: the zip64 end record is damaged");
        out = {end64.u64(32), end64.u64(40), end64.u64(48)};
        one_disk = end64.u32(16) == 0 && end64.u32(20) == 0;
      }
    }
  }
  if (!one_disk) throw_data("zip: archives of several disks are not read");
  if (out.offset > file.size() || out.size > file.size() - out.offset ||
      out.count > out.size / kCentralSize) {
    throw_data("zip: directory of ", out.count, " entries, ", out.size, " bytes at ", out.offset,
               ", file ends at ", file.size());
  }
  return out;
}

// The zip64 extra field holds, in this order, those of the numbers that are 0xFFFFFFFF.
void read_zip64(const Fields& fields, std::size_t begin, std::size_t size, ZipEntry& entry) {
  const bool wide_size = entry.size == kMax32;
  const bool wide_compressed = entry.compressed_size == kMax32;
  const bool wide_offset = entry.header_offset == kMax32;
  if (!wide_size && !wide_compressed && !wide_offset) return;
  std::size_t at = begin;
  const std::size_t end = begin + size;
  while (end - at >= 4) {
    const std::uint16_t id = fields.u16(at);
    const std::size_t length = fields.u16(at + 2);
    at += 4;
    if (length > end - at) break;
    if (id == 1) {
      std::size_t used = 0;
      const auto take = [&](std::uint64_t& value) {
        if (length - used < 8) throw_data("zip: '", entry.name, "': zip64 field is too short");
        value = fields.u64(at + used);
        used += 8;
      };
      if (wide_size) take(entry.size);
      if (wide_compressed) take(entry.compressed_size);
      if (wide_offset) take(entry.header_offset);
      return;
    }
    at += length;
  }
}

std::uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

std::vector<std::byte> inflate_entry(std::span<const std::byte> raw, const ZipEntry& entry) {
  // Deflate shrinks at most 1032 times: a larger claim is a lie and not worth an allocation.
  if (entry.size / 1032 > entry.compressed_size + 64) {
    throw_data("zip: '", entry.name, "' claims ", entry.size, " bytes in ", entry.compressed_size);
  }
  std::vector<std::byte> out(static_cast<std::size_t>(entry.size));
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw_data("zip: cannot start zlib");
  const auto closer = [](z_stream* s) { inflateEnd(s); };
  const std::unique_ptr<z_stream, decltype(closer)> guard(&stream, closer);
  constexpr std::size_t kStep = std::size_t{1} << 30;  // zlib counts in 32 bits.
  std::size_t in = 0;
  std::size_t done = 0;
  std::byte spare{};
  int status = Z_OK;
  while (status == Z_OK) {
    const std::size_t in_step = std::min(raw.size() - in, kStep);
    const std::size_t out_step = std::min(out.size() - done, kStep);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(raw.data() + in));
    stream.avail_in = static_cast<uInt>(in_step);
    // When all is there, one spare byte lets zlib see the end mark and tell an overlong stream.
    stream.next_out = reinterpret_cast<Bytef*>(out_step > 0 ? out.data() + done : &spare);
    stream.avail_out = static_cast<uInt>(std::max<std::size_t>(out_step, 1));
    const uInt given = stream.avail_out;
    status = inflate(&stream, Z_NO_FLUSH);
    in += in_step - stream.avail_in;
    const std::size_t made = given - stream.avail_out;
    if (made > out.size() - done) {
      throw_data("zip: '", entry.name, "' is longer than the ", entry.size, " bytes it claims");
    }
    done += made;
  }
  if (status != Z_STREAM_END || done != out.size()) {
    throw_data("zip: '", entry.name, "': damaged deflate data, ", done, " of ", entry.size,
               " bytes");
  }
  return out;
}

class Record {
 public:
  Record& u16(std::uint64_t value) { return put(value, 2); }
  Record& u32(std::uint64_t value) { return put(value, 4); }
  Record& u64(std::uint64_t value) { return put(value, 8); }
  Record& text(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Record& put(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>((value >> (8 * i)) & 0xFFU);
    return *this;
  }
  std::string bytes_;
};

}  // namespace

ZipReader::ZipReader(std::span<const std::byte> file, std::size_t max_entries) : file_(file) {
  const Directory directory = find_directory(file);
  if (directory.count > max_entries) {
    throw_data("zip: ", directory.count, " entries, wanted at most ", max_entries);
  }
  entries_.reserve(static_cast<std::size_t>(directory.count));
  const auto within = file.first(static_cast<std::size_t>(directory.offset + directory.size));
  std::uint64_t at = directory.offset;
  for (std::uint64_t i = 0; i < directory.count; ++i) {
    const Fields fixed(within, at, kCentralSize, "directory entry");
    if (fixed.u32(0) != kCentralMagic) throw_data("zip: directory entry ", i, " is damaged");
    const std::size_t name = fixed.u16(28);
    const std::size_t extra = fixed.u16(30);
    const std::size_t comment = fixed.u16(32);
    const Fields whole(within, at, kCentralSize + name + extra + comment, "directory entry");
    ZipEntry entry;
    entry.name = whole.text(kCentralSize, name);
    entry.method = whole.u16(10);
    entry.crc = whole.u32(16);
    entry.compressed_size = whole.u32(20);
    entry.size = whole.u32(24);
    entry.header_offset = whole.u32(42);
    if ((whole.u16(8) & 1U) != 0) throw_data("zip: '", entry.name, "' is encrypted");
    read_zip64(whole, kCentralSize + name, extra, entry);
    entries_.push_back(std::move(entry));
    at += kCentralSize + name + extra + comment;
  }
  by_name_.resize(entries_.size());
  for (std::size_t i = 0; i < by_name_.size(); ++i) by_name_[i] = i;
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::size_t a, std::size_t b) { return entries_[a].name < entries_[b].name; });
  for (std::size_t i = 1; i < by_name_.size(); ++i) {
    const std::string& name = entries_[by_name_[i]].name;
    if (name == entries_[by_name_[i - 1]].name) throw_data("zip: '", name, "' occurs twice");
  }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::size_t i, std::string_view key) { return entries_[i].name < key; });
  if (found == by_name_.end() || entries_[*found].name != name) return nullptr;
  return &entries_[*found];
}

std::span<const std::byte> ZipReader::raw(const ZipEntry& entry) const {
  // The local header's name and extra field may differ in length from the directory's.
  const Fields local(file_, entry.header_offset, kLocalSize, "local header");
  if (local.u32(0) != kLocalMagic) {
    throw_data("zip: no local header of '", entry.name, "' at ", entry.header_offset);
  }
  const std::uint64_t begin =
      entry.header_offset + kLocalSize + std::uint64_t{local.u16(26)} + local.u16(28);
  if (begin > file_.size() || entry.compressed_size > file_.size() - begin) {
    throw_data("zip: '", entry.name, "': ", entry.compressed_size, " bytes at ", begin,
               ", file ends at ", file_.size(), "; incomplete download?");
  }
  return file_.subspan(static_cast<std::size_t>(begin),
                       static_cast<std::size_t>(entry.compressed_size));
}

std::vector<std::byte> ZipReader::read(const ZipEntry& entry, bool check_crc) const {
  const auto bytes = raw(entry);
  std::vector<std::byte> out;
  if (entry.method == 0) {
    if (entry.size != entry.compressed_size) {
      throw_data("zip: stored entry '", entry.name, "' has two sizes, ", entry.size, " and ",
                 entry.compressed_size);
    }
    out.assign(bytes.begin(), bytes.end());
  } else if (entry.method == 8) {
    out = inflate_entry(bytes, entry);
  } else {
    throw_data("zip: '", entry.name, "' uses compression method ", entry.method,
               ", wanted stored (0) or deflate (8)");
  }
  if (check_crc && crc_of(out) != entry.crc) {
    throw_data("zip: '", entry.name, "' is damaged: its checksum differs");
  }
  return out;
}

void ZipWriter::add(std::string_view name, std::span<const std::byte> content,
                    std::size_t alignment) {
  ZipEntry entry;
  entry.name = name;
  entry.crc = crc_of(content);
  entry.size = entry.compressed_size = content.size();
  entry.header_offset = file_.size();
  const bool wide = entry.size >= kMax32;
  Record extra;
  if (wide) extra.u16(1).u16(16).u64(entry.size).u64(entry.size);
  if (alignment > 1) {
    // PyTorch's padding field: id "FB", then as many bytes as are missing.
    const std::uint64_t begin =
        entry.header_offset + kLocalSize + name.size() + extra.bytes().size() + 4;
    const std::uint64_t padding = (alignment - begin % alignment) % alignment;
    extra.u16('F' | ('B' << 8)).u16(padding).text(std::string(padding, 'Z'));
  }
  Record header;
  header.u32(kLocalMagic).u16(wide ? 45 : 20).u16(0x0800).u16(0).u16(0).u16(kDate).u32(entry.crc);
  header.u32(wide ? kMax32 : entry.size).u32(wide ? kMax32 : entry.size);
  header.u16(name.size()).u16(extra.bytes().size()).text(name).text(extra.bytes());
  file_.write(header.bytes());
  file_.write(content);
  entries_.push_back(std::move(entry));
}

void ZipWriter::finish() {
  const std::uint64_t begin = file_.size();
  for (const ZipEntry& entry : entries_) {
    const bool wide_size = entry.size >= kMax32;
    const bool wide_offset = entry.header_offset >= kMax32;
    Record extra;
    if (wide_size || wide_offset) {
      extra.u16(1).u16((wide_size ? 16U : 0U) + (wide_offset ? 8U : 0U));
      if (wide_size) extra.u64(entry.size).u64(entry.size);
      if (wide_offset) extra.u64(entry.header_offset);
    }
    const std::uint64_t size = wide_size ? kMax32 : entry.size;
    const unsigned needed = wide_size || wide_offset ? 45 : 20;
    Record record;
    record.u32(kCentralMagic).u16(needed).u16(needed).u16(0x0800).u16(0).u16(0).u16(kDate);
    record.u32(entry.crc).u32(size).u32(size).u16(entry.name.size()).u16(extra.bytes().size());
    record.u16(0).u16(0).u16(0).u32(0).u32(wide_offset ? kMax32 : entry.header_offset);
    record.text(entry.name).text(extra.bytes());
    file_.write(record.bytes());
  }
  const std::uint64_t end = file_.size();
  const std::uint64_t count = entries_.size();
  const bool wide = count >= kMax16 || begin >= kMax32 || end - begin >= kMax32;
  Record record;
  if (wide) {
    record.u32(kEnd64Magic).u64(kEnd64Size - 12).u16(45).u16(45).u32(0).u32(0);
    record.u64(count).u64(count).u64(end - begin).u64(begin);
    record.u32(kLocator64Magic).u32(0).u64(end).u32(1);
  }
  const std::uint64_t short_count = wide ? kMax16 : count;
  record.u32(kEndMagic).u16(0).u16(0).u16(short_count).u16(short_count);
  record.u32(wide ? kMax32 : end - begin).u32(wide ? kMax32 : begin).u16(0);
  file_.write(record.bytes());
}

}  // namespace drrik
