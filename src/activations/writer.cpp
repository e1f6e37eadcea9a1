#include <algorithm>
#include <fstream>
#include <optional>
#include <system_error>

#include "activations/metadata.h"
#include "activations/nonfinite.h"
#include "drrik/activations/store.h"
#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/io/npy.h"

namespace drrik {
namespace {

using detail::StoreFile;
using detail::StoreHead;

// Up to here metadata.json holds the samples itself, so that one file tells all; beyond it they
// stay in samples-*.jsonl, so that it can still be opened.
constexpr std::int64_t kInlineSamples = 100'000;
constexpr std::uint64_t kInlineBytes = std::uint64_t{64} << 20;

bool is_temporary(const std::filesystem::path& path) {
  return path.filename().string().find(".tmp-") != std::string::npos;
}

/// The names of a store's files are common: what is not known to be a store is somebody's work.
void refuse_foreign_files(const std::filesystem::path& folder) {
  for (const auto& path : detail::store_files(folder)) {
    if (is_temporary(path)) continue;
    if (is_activation_store(folder)) {
      if (detail::is_own_metadata(folder)) return;
      throw_usage("'", (folder / detail::kMetadataFile).string(),
                  "' is not that of an activation store, so it is not replaced; choose another "
                  "folder, or move the file away");
    }
    throw_usage("'", path.string(), "' is there without the ", detail::kMetadataFile,
                " of an activation store, so it is not replaced; choose another folder, or move "
                "the file away");
  }
}

/// Every file of an earlier store but its metadata, or only what writing it left unfinished.
void remove_store_files(const std::filesystem::path& folder, bool temporary_only) {
  std::error_code error;
  for (const auto& path : detail::store_files(folder)) {
    if (path.filename() == detail::kMetadataFile) continue;
    if (temporary_only && !is_temporary(path)) continue;
    if (!std::filesystem::remove(path, error) && error) {
      throw_io("cannot remove '", path.string(), "' of an earlier extraction: ", error.message());
    }
  }
}

void refuse_other_configuration(const ActivationMetadata& then, const ActivationMetadata& now,
                                const std::filesystem::path& folder) {
  const auto differ = [&](std::string_view name, const std::string& a, const std::string& b) {
    throw_usage("cannot resume '", folder.string(), "': ", name, " was ", a, ", now ", b,
                "; repeat the options of the first run, or start over without resuming");
  };
  const Json a = detail::config_to_json(then.config);
  const Json b = detail::config_to_json(now.config);
  for (const auto& [group, fields] : a.items()) {
    for (const auto& [name, value] : fields.items()) {
      if (name == "output_dir") continue;
      if (value != b[group][name]) differ(name, json_text(value), json_text(b[group][name]));
    }
  }
  if (then.layer_paths != now.layer_paths) {
    differ("the layers", join(then.layer_paths), join(now.layer_paths));
  }
  if (then.activation_dim != now.activation_dim) {
    differ("activation_dim", str(then.activation_dim), str(now.activation_dim));
  }
}

}  // namespace

struct ActivationWriter::Impl {
  std::filesystem::path folder;
  StoreHead head;  // closed shards only
  Progress at;     // after the last batch
  bool complete = false;
  std::int64_t next_row = 0;

  // The open shard.
  std::optional<NpyWriter> rows;
  std::optional<AtomicFile> samples;
  StoreFile open;
  bool broken = false;

  std::int64_t row_bytes() const {
    return head.metadata.row_dim() * static_cast<std::int64_t>(dtype_size(head.metadata.dtype));
  }

  void write_metadata() {
    write_file_atomic(folder / detail::kMetadataFile, detail::head_text(head) + "\n}\n");
  }

  void count_files() {
    auto& metadata = head.metadata;
    metadata.num_rows = 0;
    metadata.num_samples = 0;
    for (const StoreFile& file : head.files) {
      metadata.num_rows += file.rows;
      metadata.num_samples += file.samples;
    }
    metadata.skipped = at.skipped;
  }

  void open_shard(std::int64_t number) {
    open = StoreFile{};
    open.file = detail::shard_name(number);
    open.samples_file = detail::samples_name(number);
    rows.emplace(folder / open.file, head.metadata.dtype,
                 std::vector<std::int64_t>{head.metadata.row_dim()});
    samples.emplace(folder / open.samples_file);
  }

  // Line by line: samples can be of any number.
  void copy_samples(const StoreFile& old) {
    const auto path = folder / old.samples_file;
    std::ifstream in(path, std::ios::binary);
    if (!in) throw_io("cannot open '", path.string(), "', which metadata.json names");
    std::int64_t lines = 0;
    bool whole = true;
    for (std::string line; std::getline(in, line); ++lines) {
      whole = !in.eof();  // ended by a newline
      samples->write(line);
      samples->write("\n");
    }
    if (in.bad()) throw_io("cannot read '", path.string(), "'");
    if (lines != old.samples || !whole) {
      throw_data("'", path.string(), "' does not have the ", old.samples,
                 " samples that metadata.json says");
    }
  }

  // A shard that an interruption closed early is written again from its start under the same name,
  // so that the files come out as if nothing had happened. Until that is committed the old one
  // stands.
  void reopen_shard(const StoreFile& old) {
    const NpyFile before =
        NpyFile::open(folder / old.file, {.bfloat16 = head.metadata.dtype == DType::kBF16});
    if (before.rows() != old.rows || before.cols() != head.metadata.row_dim() ||
        before.dtype() != head.metadata.dtype || !before.mapped_as_rows()) {
      throw_data("'", before.path().string(), "' is not what metadata.json says");
    }
    open_shard(static_cast<std::int64_t>(head.files.size()));
    constexpr std::int64_t kChunkRows = 1024;
    for (std::int64_t r = 0; r < old.rows; r += kChunkRows) {
      const std::int64_t count = std::min(kChunkRows, old.rows - r);
      rows->append({before.row_bytes(r), static_cast<std::size_t>(count * row_bytes())});
      before.drop_rows(r, count);
    }
    copy_samples(old);
    open.rows = old.rows;
    open.samples = old.samples;
    open.end = old.end;
  }

  void close_shard(bool full) {
    if (!rows) return;
    open.full = full;
    samples->commit();
    rows->commit();
    samples.reset();
    rows.reset();
    head.files.push_back(open);
    count_files();
    head.metadata.complete = false;
    write_metadata();
  }

  void drop_shard() noexcept {
    rows.reset();
    samples.reset();
  }

  // One shard becomes activations.npy. It keeps its numbered name until the metadata speaks of the
  // new one.
  void name_single_file() {
    const auto from = folder / head.files[0].file;
    const auto to = folder / detail::kSingleFile;
    std::error_code error;
    std::filesystem::remove(to, error);
    std::filesystem::create_hard_link(from, to, error);
    if (error) std::filesystem::copy_file(from, to, error);
    if (error) throw_io("cannot create '", to.string(), "': ", error.message());
    head.files[0].file = detail::kSingleFile;
  }

  void write_complete() {
    head.metadata.complete = true;
    std::vector<std::filesystem::path> obsolete;
    if (head.files.size() == 1) {
      obsolete.push_back(folder / head.files[0].file);
      name_single_file();
    }
    std::uint64_t bytes = 0;
    for (const StoreFile& file : head.files) {
      bytes += detail::file_bytes(folder / file.samples_file);
    }
    if (head.metadata.num_samples > kInlineSamples || bytes > kInlineBytes) {
      write_metadata();
    } else {
      std::vector<std::string> sample_files;
      for (StoreFile& file : head.files) {
        sample_files.push_back(file.samples_file);
        file.samples_file.clear();
      }
      AtomicFile out(folder / detail::kMetadataFile);
      out.write(detail::head_text(head));
      out.write(",\n  \"samples\": [");
      bool first = true;
      std::string line;
      for (const std::string& name : sample_files) {
        std::ifstream in(folder / name, std::ios::binary);
        if (!in) throw_io("cannot open '", (folder / name).string(), "'");
        while (std::getline(in, line)) {
          out.write(first ? "\n    " : ",\n    ");
          out.write(line);
          first = false;
        }
        if (in.bad()) throw_io("cannot read '", (folder / name).string(), "'");
        obsolete.push_back(folder / name);
      }
      out.write("\n  ]\n}\n");
      out.commit();
    }
    std::error_code ignored;
    for (const auto& path : obsolete) std::filesystem::remove(path, ignored);
  }
};

ActivationWriter::ActivationWriter(std::filesystem::path folder, ActivationMetadata head, Mode mode)
    : impl_(std::make_unique<Impl>()) {
  auto& impl = *impl_;
  impl.folder = std::move(folder);
  create_folders(impl.folder);
  head.samples.clear();
  head.num_rows = head.num_samples = head.skipped = 0;
  head.complete = false;
  impl.head.metadata = std::move(head);
  const bool present = is_activation_store(impl.folder);
  if (mode == Mode::kReplace || !present) {
    if (mode == Mode::kResume) {
      log_info("'", impl.folder.string(), "' holds no extraction to resume: starting a new one");
    }
    refuse_foreign_files(impl.folder);
    if (present) log_warning("replacing the activations in '", impl.folder.string(), "'");
    // The metadata goes first: half a store must not look whole, nor like somebody else's files.
    impl.write_metadata();
    remove_store_files(impl.folder, false);
    return;
  }
  StoreHead before = detail::read_store(impl.folder);
  refuse_other_configuration(before.metadata, impl.head.metadata, impl.folder);
  if (before.metadata.complete) {
    impl.complete = true;
    impl.head = std::move(before);
    return;
  }
  remove_store_files(impl.folder, true);
  if (!before.files.empty()) impl.at = before.files.back().end;
  const bool reopen = !before.files.empty() && !before.files.back().full;
  for (std::size_t i = 0; i < before.files.size(); ++i) {
    impl.next_row += before.files[i].rows;
    if (reopen && i + 1 == before.files.size()) break;
    impl.head.files.push_back(before.files[i]);
  }
  impl.count_files();
  if (reopen) impl.reopen_shard(before.files.back());
}

ActivationWriter::~ActivationWriter() = default;

const ActivationWriter::Progress& ActivationWriter::progress() const { return impl_->at; }
bool ActivationWriter::already_complete() const { return impl_->complete; }

void ActivationWriter::append(MatView<const float> rows, std::vector<SampleRecord> samples,
                              const Progress& progress) {
  auto& impl = *impl_;
  std::int64_t expected = 0;
  for (const SampleRecord& sample : samples) {
    expected += sample.rows;
    const bool nameless = sample.input_ids.empty() && sample.text.empty();
    const std::string wrong =
        detail::sample_contradiction(sample, impl.head.metadata.config.extraction.positions);
    if (!wrong.empty() && !nameless) throw_usage("sample ", sample.index, ": ", wrong);
  }
  if (rows.cols() != impl.head.metadata.row_dim() || rows.rows() != expected) {
    throw_usage("activations [", rows.rows(), ", ", rows.cols(), "] for ", expected,
                " rows of samples of width ", impl.head.metadata.row_dim());
  }
  try {
    if (impl.head.metadata.dtype == DType::kF16) detail::refuse_beyond_half(rows);
    if (!impl.rows) impl.open_shard(static_cast<std::int64_t>(impl.head.files.size()));
    impl.rows->append_rows(rows);
    for (SampleRecord& sample : samples) {
      sample.row = impl.next_row;
      impl.next_row += sample.rows;
      impl.samples->write(detail::sample_line(sample));
      impl.samples->write("\n");
    }
    impl.open.rows += rows.rows();
    impl.open.samples += static_cast<std::int64_t>(samples.size());
    impl.open.end = impl.at = progress;
    if (impl.open.rows * impl.row_bytes() >= impl.head.metadata.config.extraction.shard_bytes) {
      impl.close_shard(true);
    }
  } catch (const Error& error) {
    // A value that does not fit was seen before anything was written; the rest spoils the shard.
    if (error.kind() != ErrorKind::kNumeric) {
      impl.broken = true;
      impl.drop_shard();
    }
    throw;
  }
}

void ActivationWriter::suspend() {
  if (impl_->complete || impl_->broken) return;
  try {
    impl_->close_shard(false);
  } catch (...) {
    impl_->broken = true;
    impl_->drop_shard();
    throw;
  }
}

ActivationMetadata ActivationWriter::finish(const Progress& progress) {
  auto& impl = *impl_;
  if (impl.broken) throw_usage("an activation store that failed cannot be finished");
  if (!impl.complete) {
    impl.at = progress;
    impl.close_shard(true);
    if (impl.head.files.empty()) {
      impl.open_shard(0);
      impl.close_shard(true);
    }
    impl.count_files();
    impl.write_complete();
    impl.complete = true;
  }
  return impl.head.metadata;
}

}  // namespace drrik
