// Arrow IPC: files, whose footer names the batches, and streams, as the `datasets` library caches
// and saves them.

#include <arrow/ipc/reader.h>

#include <algorithm>
#include <numeric>

#include "data/arrow/batched_file.h"
#include "data/arrow/fail.h"

namespace drrik {
namespace {

arrow::ipc::IpcReadOptions read_options(arrow::MemoryPool* pool) {
  auto options = arrow::ipc::IpcReadOptions::Defaults();
  options.memory_pool = pool;
  options.use_threads = false;
  return options;
}

class ArrowFile final : public BatchedFile {
 public:
  ArrowFile(std::unique_ptr<ColumnarInput> input, const ColumnarOptions& options)
      : BatchedFile(options), input_(std::move(input)) {
    thrown().unwrap([&] {
      file_ = make_random_access(*input_, thrown(), pool());
      reader_ = check(arrow::ipc::RecordBatchFileReader::Open(file_, read_options(pool())));
      schema_ = reader_->schema();
      groups_ = reader_->num_record_batches();
      order().resize(groups());
      std::iota(order().begin(), order().end(), std::size_t{0});
    });
  }

  std::int64_t count_rows() override {
    return thrown().unwrap([&] { return check(reader_->CountRows()); });
  }
  std::size_t groups() const override { return static_cast<std::size_t>(std::max(groups_, 0)); }
  double fraction() const override {
    return static_cast<double>(next_) / static_cast<double>(std::max<std::size_t>(groups(), 1));
  }

 protected:
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  std::shared_ptr<arrow::DataType> batch_type() const override { return type_; }

  void project(int column, const ColumnPath&) override {
    auto options = read_options(pool());
    options.included_fields = {column};
    reader_ = check(arrow::ipc::RecordBatchFileReader::Open(file_, options));
    if (reader_->schema()->num_fields() != 1) fail("the schema is damaged");
    type_ = reader_->schema()->field(0)->type();
  }

  std::shared_ptr<arrow::RecordBatch> read_batch() override {
    if (next_ == order().size()) return nullptr;
    return check(reader_->ReadRecordBatch(static_cast<int>(order()[next_++])));
  }

 private:
  std::unique_ptr<ColumnarInput> input_;
  std::shared_ptr<arrow::io::RandomAccessFile> file_;
  std::shared_ptr<arrow::ipc::RecordBatchFileReader> reader_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<arrow::DataType> type_;
  int groups_ = 0;
  std::size_t next_ = 0;
};

class ArrowStream final : public BatchedFile {
 public:
  ArrowStream(std::unique_ptr<ColumnarInput> input, std::unique_ptr<ByteStream> stream,
              const ColumnarOptions& options)
      : BatchedFile(options), input_(std::move(input)), stream_(std::move(stream)) {
    thrown().unwrap([&] {
      open(read_options(pool()));
      schema_ = reader_->schema();
    });
  }

  std::int64_t count_rows() override {
    return thrown().unwrap([&] {
      std::int64_t rows = 0;
      while (const auto batch = read_batch()) rows += std::max<std::int64_t>(batch->num_rows(), 0);
      return rows;
    });
  }
  double fraction() const override {
    if (input_ == nullptr || input_->size() == 0) return 0;
    return static_cast<double>(arrow_stream_->Tell().ValueOr(0)) /
           static_cast<double>(input_->size());
  }

 protected:
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  std::shared_ptr<arrow::DataType> batch_type() const override {
    return schema_->field(column_)->type();
  }

  void project(int column, const ColumnPath&) override {
    column_ = column;
    if (input_ == nullptr) return;  // Read already: the column is taken from whole batches.
    auto options = read_options(pool());
    options.included_fields = {column};
    open(options);
    projected_ = true;
  }

  std::shared_ptr<arrow::RecordBatch> read_batch() override {
    if (input_ != nullptr)
      input_->done_with(static_cast<std::uint64_t>(check(arrow_stream_->Tell())));
    std::shared_ptr<arrow::RecordBatch> batch;
    check(reader_->ReadNext(&batch));
    if (batch == nullptr || projected_ || schema_->num_fields() == 0) return batch;
    return check(batch->SelectColumns({column_}));
  }

 private:
  void open(const arrow::ipc::IpcReadOptions& options) {
    if (input_ != nullptr) {
      arrow_stream_ = make_random_access(*input_, thrown(), pool());
    } else {
      arrow_stream_ = make_stream(*stream_, thrown(), pool());
    }
    reader_ = check(arrow::ipc::RecordBatchStreamReader::Open(arrow_stream_, options));
  }

  std::unique_ptr<ColumnarInput> input_;
  std::unique_ptr<ByteStream> stream_;
  std::shared_ptr<arrow::io::InputStream> arrow_stream_;
  std::shared_ptr<arrow::ipc::RecordBatchStreamReader> reader_;
  std::shared_ptr<arrow::Schema> schema_;
  int column_ = 0;
  bool projected_ = false;
};

}  // namespace

std::unique_ptr<ColumnarFile> open_arrow_file(std::unique_ptr<ColumnarInput> input,
                                              const ColumnarOptions& options) {
  return std::make_unique<ArrowFile>(std::move(input), options);
}

std::unique_ptr<ColumnarFile> open_arrow_stream(std::unique_ptr<ColumnarInput> input,
                                                const ColumnarOptions& options) {
  return std::make_unique<ArrowStream>(std::move(input), nullptr, options);
}

std::unique_ptr<ColumnarFile> open_arrow_stream(std::unique_ptr<ByteStream> stream,
                                                const ColumnarOptions& options) {
  return std::make_unique<ArrowStream>(nullptr, std::move(stream), options);
}

}  // namespace drrik
