#include "drrik/activations/store.h"

#include <algorithm>

#include "activations/metadata.h"
#include "drrik/activations/row_source.h"
#include "drrik/io/npy.h"

namespace drrik {
namespace {

// Rows after which a shard may be closed.
constexpr std::int64_t kSaveRows = 256;

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

// The store that a path belongs to as a whole: a folder, or the one array of a folder.
std::optional<std::filesystem::path> store_of(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    if (is_activation_store(path)) return path;
    return std::nullopt;
  }
  if (path.filename() == detail::kSingleFile && is_activation_store(folder_of(path))) {
    return folder_of(path);
  }
  return std::nullopt;
}

ActivationMetadata metadata_of_shape(std::int64_t rows, std::int64_t dim) {
  ActivationMetadata metadata;
  metadata.num_rows = rows;
  metadata.activation_dim = dim;
  metadata.layer_paths = {""};
  return metadata;
}

}  // namespace

ActivationMetadata::Origin ActivationMetadata::origin(std::int64_t row) const {
  const auto after =
      std::upper_bound(samples.begin(), samples.end(), row,
                       [](std::int64_t r, const SampleRecord& s) { return r < s.row; });
  if (row < 0 || after == samples.begin() || row >= (after - 1)->row + (after - 1)->rows) {
    throw_usage("row ", row, " belongs to none of the ", samples.size(), " samples");
  }
  const SampleRecord& sample = *(after - 1);
  Origin out;
  out.sample = (after - samples.begin()) - 1;
  switch (config.extraction.positions) {
    case Positions::kLast:
      out.position = static_cast<std::int64_t>(sample.input_ids.size()) - 1;
      break;
    case Positions::kAll:
      out.position = row - sample.row;
      break;
    case Positions::kFirst:
      out.position = 0;
      break;
    case Positions::kMean:
      out.position = -1;
      break;
  }
  return out;
}

void save_activations(const Tensor& activations, const ActivationMetadata& metadata,
                      const std::filesystem::path& folder) {
  if (activations.rank() != 2 || activations.dtype() != DType::kF32) {
    throw_usage("save_activations: ", dtype_name(activations.dtype()), " of shape ",
                shape_string(activations.shape()), ", wanted float32 [rows, dim]");
  }
  const auto rows = activations.mat<float>();
  if (rows.cols() != metadata.row_dim()) {
    throw_usage("save_activations: ", rows.cols(), " columns, the metadata says ",
                metadata.row_dim());
  }
  std::int64_t covered = 0;
  for (const SampleRecord& sample : metadata.samples) {
    if (sample.row != covered) {
      throw_usage("save_activations: sample ", sample.index, " begins at row ", sample.row,
                  ", wanted ", covered);
    }
    const std::string wrong =
        detail::sample_contradiction(sample, metadata.config.extraction.positions);
    if (!wrong.empty()) throw_usage("save_activations: sample ", sample.index, ": ", wrong);
    covered += sample.rows;
  }
  if (!metadata.samples.empty() && covered != rows.rows()) {
    throw_usage("save_activations: ", rows.rows(), " rows, the samples have ", covered);
  }
  ActivationMetadata head = metadata;
  head.dtype = metadata.config.extraction.store_dtype;
  ActivationWriter writer(folder, head, ActivationWriter::Mode::kReplace);
  ActivationWriter::Progress progress;
  if (metadata.samples.empty() && rows.rows() > 0) {
    // Rows of unknown origin are one nameless sample, so that they are still accounted for.
    SampleRecord all;
    all.rows = rows.rows();
    writer.append(rows, {all}, progress);
  }
  for (std::size_t i = 0; i < metadata.samples.size();) {
    // Some samples at a time, so that shards can be cut.
    const std::int64_t begin = metadata.samples[i].row;
    std::vector<SampleRecord> batch;
    std::int64_t count = 0;
    while (i < metadata.samples.size() && (batch.empty() || count < kSaveRows)) {
      count += metadata.samples[i].rows;
      batch.push_back(metadata.samples[i++]);
    }
    progress.next_index = batch.back().index + 1;
    progress.consumed = progress.next_index;
    writer.append(rows.rows_range(begin, count), std::move(batch), progress);
  }
  progress.skipped = metadata.skipped;
  writer.finish(progress);
}

ActivationMetadata load_activation_metadata(const std::filesystem::path& folder,
                                            WithSamples samples) {
  if (samples == WithSamples::kNo) return detail::read_store(folder).metadata;
  std::vector<SampleRecord> records;
  ActivationMetadata metadata =
      detail::read_store(folder, [&](SampleRecord r) { records.push_back(std::move(r)); }).metadata;
  metadata.samples = std::move(records);
  return metadata;
}

Activations load_activations(const std::filesystem::path& path) {
  const auto source = open_row_source(path);
  Activations out;
  const auto store = store_of(path);
  out.metadata =
      store ? load_activation_metadata(*store) : metadata_of_shape(source->rows(), source->dim());
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const auto single = folder ? path / detail::kSingleFile : path;
  if (std::filesystem::exists(single, ignored)) {
    NpyFile file = NpyFile::open(single);
    if (file.dtype() == DType::kF32 && file.mapped_as_rows() && file.rows() == source->rows() &&
        file.shape().size() == 2) {
      out.activations = file.tensor();
      if (out.activations.aligned()) return out;
    }
  }
  out.activations = Tensor::uninitialized(DType::kF32, {source->rows(), source->dim()});
  source->read(0, out.activations.mutable_mat<float>());
  return out;
}

ActivationInfo describe_activations(const std::filesystem::path& path) {
  ActivationInfo info;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored) && is_activation_store(path)) {
    const detail::StoreHead head = detail::read_store(path);
    info.has_metadata = true;
    info.metadata = head.metadata;
    info.rows = head.metadata.num_rows;
    info.dim = head.metadata.row_dim();
    info.dtype = head.metadata.dtype;
    for (const detail::StoreFile& file : head.files) {
      info.files.push_back(file.file);
      info.bytes += detail::file_bytes(path / file.file);
    }
    return info;
  }
  const auto source = open_row_source(path);
  info.rows = source->rows();
  info.dim = source->dim();
  info.metadata = metadata_of_shape(info.rows, info.dim);
  if (std::filesystem::is_directory(path, ignored)) {
    for (const auto& file : detail::store_files(path)) {
      info.files.push_back(file.filename().string());
      info.bytes += detail::file_bytes(file);
    }
    info.dtype = NpyFile::open(path / info.files.at(0)).dtype();
  } else {
    info.files = {path.filename().string()};
    info.bytes = detail::file_bytes(path);
    info.dtype = NpyFile::open(path).dtype();
  }
  info.metadata.dtype = info.dtype;
  return info;
}

}  // namespace drrik
