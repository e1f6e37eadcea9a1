// Parquet: one column chunk of one row group at a time, page by page.

#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/properties.h>

#include <algorithm>
#include <numeric>

#include "data/arrow/batched_file.h"
#include "data/arrow/fail.h"

namespace drrik {
namespace {

constexpr std::int64_t kReadBytes = std::int64_t{1} << 20;
constexpr std::int64_t kBatchBytes = std::int64_t{4} << 20;
constexpr std::int64_t kMaxBatchRows = 8192;
constexpr std::int32_t kMaxHeaderString = 64 << 20;

class ParquetFile final : public BatchedFile {
 public:
  ParquetFile(std::unique_ptr<ColumnarInput> input, const ColumnarOptions& options)
      : BatchedFile(options), input_(std::move(input)) {
    thrown().unwrap([&] { open(); });
  }

  std::int64_t count_rows() override { return metadata_->num_rows(); }
  std::size_t groups() const override { return static_cast<std::size_t>(groups_); }
  double fraction() const override {
    const auto all = static_cast<double>(std::max<std::int64_t>(metadata_->num_rows(), 1));
    return std::min(1.0, static_cast<double>(read_) / all);
  }

 protected:
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  std::shared_ptr<arrow::DataType> batch_type() const override { return type_; }

  void project(int column, const ColumnPath& path) override {
    const auto& manifest = reader_->manifest();
    if (static_cast<std::size_t>(column) >= manifest.schema_fields.size()) {
      fail("the schema is damaged");
    }
    leaves_.clear();
    add_leaves(manifest.schema_fields[static_cast<std::size_t>(column)], path, 1);
    // The type that reading only these leaves gives; it holds for every row group.
    reader_->set_batch_size(1);
    type_ = check(reader_->GetRecordBatchReader({}, leaves_))->schema()->field(0)->type();
  }

  std::shared_ptr<arrow::RecordBatch> read_batch() override {
    for (;;) {
      if (batches_ == nullptr) {
        if (next_ == order().size()) return nullptr;
        open_group(static_cast<int>(order()[next_++]));
      }
      std::shared_ptr<arrow::RecordBatch> batch;
      check(batches_->ReadNext(&batch));
      if (batch != nullptr) {
        read_ += batch->num_rows();
        return batch;
      }
      batches_.reset();
    }
  }

  std::int64_t skip_groups(std::int64_t rows) override {
    std::int64_t done = 0;
    if (batches_ != nullptr) return 0;
    for (; next_ < order().size(); ++next_) {
      const std::int64_t size = metadata_->RowGroup(static_cast<int>(order()[next_]))->num_rows();
      if (size < 0 || size > rows - done) break;
      done += size;
    }
    read_ += done;
    return done;
  }

 private:
  void open() {
    parquet::ReaderProperties properties(pool());
    properties.enable_buffered_stream();
    properties.set_buffer_size(kReadBytes);
    properties.set_page_checksum_verification(true);
    properties.set_thrift_string_size_limit(kMaxHeaderString);
    parquet::ArrowReaderProperties arrow_properties(/*use_threads=*/false);
    arrow_properties.set_pre_buffer(false);
    auto file =
        parquet::ParquetFileReader::Open(make_random_access(*input_, thrown(), pool()), properties);
    metadata_ = file->metadata();
    groups_ = metadata_->num_row_groups();
    if (metadata_->num_rows() < 0) fail("the header claims ", metadata_->num_rows(), " rows");
    reader_ = check(parquet::arrow::FileReader::Make(pool(), std::move(file), arrow_properties));
    check(reader_->GetSchema(&schema_));
    order().resize(groups());
    std::iota(order().begin(), order().end(), std::size_t{0});
  }

  // Only the leaves that the path leads to: their siblings' bytes are never read.
  void add_leaves(const parquet::arrow::SchemaField& field, const ColumnPath& path,
                  std::size_t step) {
    if (field.is_leaf()) {
      leaves_.push_back(field.column_index);
      return;
    }
    const bool member = step < path.size() && path[step].kind == ColumnStep::Kind::kMember;
    for (const auto& child : field.children) {
      if (member && child.field->name() != path[step].name) continue;
      add_leaves(child, path, step + 1);
      if (member) return;
    }
  }

  void open_group(int group) {
    const auto row_group = metadata_->RowGroup(group);
    std::int64_t bytes = 0;
    for (const int leaf : leaves_) bytes += row_group->ColumnChunk(leaf)->total_uncompressed_size();
    const std::int64_t each = std::max<std::int64_t>(
        1, std::max<std::int64_t>(bytes, 0) / std::max<std::int64_t>(row_group->num_rows(), 1));
    reader_->set_batch_size(std::clamp<std::int64_t>(kBatchBytes / each, 1, kMaxBatchRows));
    batches_ = check(reader_->GetRecordBatchReader({group}, leaves_));
  }

  std::unique_ptr<ColumnarInput> input_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<arrow::DataType> type_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::vector<int> leaves_;
  int groups_ = 0;
  std::size_t next_ = 0;
  std::int64_t read_ = 0;
};

}  // namespace

std::unique_ptr<ColumnarFile> open_parquet(std::unique_ptr<ColumnarInput> input,
                                           const ColumnarOptions& options) {
  return std::make_unique<ParquetFile>(std::move(input), options);
}

}  // namespace drrik
