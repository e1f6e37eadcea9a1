#pragma once
// Text sources: datasets as streams of texts, read in bounded memory.
//
// Formats: text (.txt, .text, .md), JSON Lines (.jsonl, .ndjson), JSON (.json), CSV and TSV, each
// also inside gzip, bzip2, xz, zstd, lz4 or zip (told by the bytes, not by the name); Parquet and
// Arrow IPC, files and streams, where the plug-in for Arrow is there. docs/datasets.md has the
// rules.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace drrik {

/// What one sample of a plain text file is.
enum class SampleBy {
  kLine,       ///< A line; blank lines are skipped.
  kParagraph,  ///< Text between blank lines.
  kDocument    ///< The whole file.
};
/// "line", "paragraph", "document"; throws Error(usage) otherwise.
SampleBy parse_sample_by(const std::string& name);

struct DatasetOptions {
  /// A file, a folder (its data files, subfolders too, in order of path; hidden ones left out), or
  /// a glob with * ? [] and ** (quote it in a shell).
  std::string path;
  /// When not empty, the files to read, in this order; `path` is then their name in messages, and
  /// `config` and `split` were settled before.
  std::vector<std::string> files;
  /// Configuration of a folder whose README.md names some, or of a dataset from the Hub. Empty: the
  /// default one.
  std::string config;
  /// Branch, tag or commit of a dataset from the Hub.
  std::string revision = "main";
  /// In a folder, the files of this split, told as HuggingFace `datasets` does: by README.md, by
  /// dataset_dict.json, by names. Empty or "all": every file. A single file or a glob is taken as
  /// it is.
  std::string split;
  /// The column that holds the text, or a path to texts inside a nested one: `a.b`,
  /// `messages[].content`, `turns[0].text`. The texts that `[]` finds in a row are joined by "\n"
  /// (nulls left out). Empty: "text", or the only string column when there is one.
  std::string text_column;
  /// Whether the text column may hold numbers and booleans, which become the texts that JSON writes
  /// for them (3, 0.5, true): for columns of labels.
  bool scalars = false;
  SampleBy sample_by = SampleBy::kLine;
  /// Shuffles the rows with this seed: the order of files and of row groups or batches inside
  /// them, then rows within a window of shuffle_buffer. The same seed and files give the same order
  /// everywhere. A dataset of one file without groups and no more rows than the window is shuffled
  /// uniformly.
  std::optional<std::uint64_t> shuffle_seed;
  /// Rows of the window; memory holds their texts, 256 MiB at most (a fuller window gives rows
  /// before it takes new ones).
  std::int64_t shuffle_buffer = 10'000;
  /// First rows to leave out, after shuffling and before num_samples counts.
  std::int64_t skip = 0;
  /// At most so many samples; negative: all.
  std::int64_t num_samples = -1;
  /// A longer row (line, JSON value, CSV record) is an error. Bytes; 0 is not allowed.
  std::size_t max_row_bytes = std::size_t{64} << 20;
};

struct Sample {
  /// Number of the row in the dataset, from 0, rows left out by `skip` counted; of a shuffled
  /// dataset, in the shuffled order.
  std::int64_t index = 0;
  /// Valid UTF-8: broken sequences are replaced by U+FFFD (a warning tells how many rows, once).
  std::string text;
};

/// A stream of samples. Not thread-safe.
class TextSource {
 public:
  virtual ~TextSource() = default;
  /// The next sample, or nothing at the end. Throws Error(data) naming file and line, Error(io).
  /// Rows whose text is null or absent are left out and counted in a warning.
  virtual std::optional<Sample> next() = 0;
  /// The share of the input read so far, 0 to 1, by bytes of the files on disk; for progress bars.
  virtual double fraction() const = 0;
  /// The files, in order of reading.
  virtual const std::vector<std::string>& files() const = 0;
};

/// Opens a dataset. Throws Error(usage) for impossible options, Error(io) for what cannot be read,
/// Error(data) for an unknown format, a missing column (naming those there are), or a dataset
/// without a single sample. A name that looks like a Hub id and is no local path is Error(io)
/// saying what can be done. The first row is read here, so that such errors come before any work.
std::unique_ptr<TextSource> open_dataset(const DatasetOptions& options);

struct DatasetColumn {
  std::string name;     ///< A path as in DatasetOptions::text_column for texts in nested columns.
  std::string type;     ///< "string", "int64", "list<item: string>", …: the format's own words.
  bool nested = false;  ///< Inside another column.
  bool string = false;  ///< Taken as the text column when it is the only one.
  bool text = false;    ///< Can be the text column: strings and binary.
};

/// What a dataset is, for people.
struct DatasetInfo {
  std::vector<std::string> files;
  std::uint64_t bytes = 0;  ///< Of the files on disk.
  std::string format;       ///< Of the first file: "json", "csv", "text", "parquet", "arrow".
  /// Of the first file, in order; JSON's are those of the first row, plain text has one, "text".
  std::vector<DatasetColumn> columns;
  /// The column that an empty text_column means; empty when that is not clear.
  std::string text_column;
  /// Rows of all files where their headers tell (Parquet, Arrow), else nothing.
  std::optional<std::int64_t> rows;
  std::vector<std::string> configs;  ///< Of a folder whose README.md names them.
  std::vector<std::string> splits;   ///< Of the configuration, in order; empty for single files.
};

/// Reads headers and beginnings only (of Arrow streams, every batch's header). Throws as
/// open_dataset() does, except that no text column has to be there.
DatasetInfo inspect_dataset(const DatasetOptions& options);

/// True when Parquet and Arrow files can be read: the plug-in is there and loads.
bool arrow_available();

/// Texts in memory, for tests and library users. index counts from 0.
std::unique_ptr<TextSource> make_text_source(std::vector<std::string> texts);

}  // namespace drrik
