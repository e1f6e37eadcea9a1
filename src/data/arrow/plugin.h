#pragma once
// What the library and its plug-in for Parquet and Arrow files say to each other.
//
// The plug-in (libdrrik_arrow.so) is the only thing that links Arrow's C++ library, whose 60 MB
// would otherwise be mapped and relocated at every start. It is loaded when the first such file is
// opened. Both sides are built together by one compiler; drrik_arrow_version() guards against a
// stray older plug-in.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
#include "data/column_path.h"

namespace drrik {

/// The bytes of one file, handed to the plug-in. Used by one thread.
class ColumnarInput {
 public:
  virtual ~ColumnarInput() = default;
  virtual std::uint64_t size() const = 0;
  /// Fills `to` from `offset` on; short only at the end of the file. Throws Error(io).
  virtual std::size_t read_at(std::uint64_t offset, std::span<char> to) = 0;
  /// The whole file where it lies in memory or is mapped, else null.
  virtual const std::byte* memory() const = 0;
  /// Bytes before `offset` are not needed any more.
  virtual void done_with(std::uint64_t offset) = 0;
};

enum class ColumnarFormat { kParquet, kArrowFile, kArrowStream };

struct ColumnarColumn {
  std::string name;  ///< A path for what lies inside nested columns.
  std::string type;  ///< In Arrow's words.
  bool top_level = true;
  bool string = false;  ///< A string (or a dictionary of them).
  bool text = false;    ///< Can be read as text: strings and binary.
};

struct ColumnarOptions {
  /// What Arrow may hold at a time, bytes.
  std::int64_t memory_limit = std::int64_t{1} << 30;
  std::size_t max_row_bytes = std::size_t{64} << 20;
  bool scalars = false;  ///< As in DatasetOptions.
};

struct TextRow {
  const char* data = nullptr;
  std::size_t size = 0;
  bool present = false;
};

/// One open file. Not thread-safe. Everything throws std::runtime_error for bad files, with a
/// message that does not name the file, and passes on what the input throws.
class ColumnarFile {
 public:
  virtual ~ColumnarFile() = default;
  /// Top-level columns in order, then texts inside nested ones (a limited number).
  virtual std::vector<ColumnarColumn> columns() const = 0;
  /// Rows of the whole file; where no header says so, counts them by reading (streams; nothing can
  /// be read after that).
  virtual std::int64_t count_rows() = 0;
  /// Row groups or batches that set_order() can name; 0 for a stream.
  virtual std::size_t groups() const = 0;
  /// Chooses what rows give. Must be called once before rows are read.
  virtual void select(const ColumnPath& path) = 0;
  /// Reads the groups in this order instead of theirs. Only before the first row.
  virtual void set_order(std::vector<std::size_t> order) = 0;
  /// Leaves out up to `rows` rows, whole groups or batches at a time; says how many.
  virtual std::int64_t skip(std::int64_t rows) = 0;
  /// The next rows (at least one); false at the end. They live until the next call.
  virtual bool next(std::vector<TextRow>& rows) = 0;
  /// The share of the file that was read, 0 to 1.
  virtual double fraction() const = 0;
};

struct ColumnarPlugin {
  const char* version;        ///< Of drrik, which must agree.
  const char* arrow_version;  ///< For messages.
  std::unique_ptr<ColumnarFile> (*open)(std::unique_ptr<ColumnarInput>, ColumnarFormat,
                                        const ColumnarOptions&);
  /// An Arrow stream that can be read only from front to back (inside a compression).
  std::unique_ptr<ColumnarFile> (*open_stream)(std::unique_ptr<ByteStream>, const ColumnarOptions&);
};

/// The plug-in's one symbol: extern "C" const ColumnarPlugin* drrik_arrow_plugin().
using ColumnarPluginEntry = const ColumnarPlugin* (*)();
inline constexpr const char* kColumnarPluginEntry = "drrik_arrow_plugin";
inline constexpr const char* kColumnarPluginFile = "libdrrik_arrow.so";

}  // namespace drrik
