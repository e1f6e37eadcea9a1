#pragma once
// Text sources: datasets as streams of texts, read in bounded memory.
//
// Formats: text (.txt, .text, .md), JSON Lines (.jsonl, .ndjson), JSON (.json), CSV and TSV, each
// also inside gzip or zstd (told by the bytes, not by the name).

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
  /// Configuration of a dataset from the Hub; refused for local files, which have none.
  std::string config;
  /// In a folder, only files whose path says so ("train", "validation", "test" and HuggingFace's
  /// other words for them). Empty or "all": every file. "train" takes every file of a folder where
  /// none names a split. A single file or a glob is taken as it is.
  std::string split;
  /// Column of JSON objects and CSV files that holds the text. Empty: "text", or the only string
  /// column when there is one.
  std::string text_column;
  SampleBy sample_by = SampleBy::kLine;
  /// First rows to leave out, before num_samples counts.
  std::int64_t skip = 0;
  /// At most so many samples; negative: all.
  std::int64_t num_samples = -1;
  /// A longer row (line, JSON value, CSV record) is an error. Bytes; 0 is not allowed.
  std::size_t max_row_bytes = std::size_t{64} << 20;
};

struct Sample {
  /// Number of the row in the dataset, from 0, rows left out by `skip` counted.
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

/// Texts in memory, for tests and library users. index counts from 0.
std::unique_ptr<TextSource> make_text_source(std::vector<std::string> texts);

}  // namespace drrik
