#pragma once
// What Parquet and Arrow files share: rows come in batches, and one column of them is read.

#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <memory>
#include <optional>
#include <vector>

#include "data/arrow/input.h"
#include "data/arrow/plugin.h"
#include "data/arrow/texts.h"

namespace drrik {

class BatchedFile : public ColumnarFile {
 public:
  explicit BatchedFile(const ColumnarOptions& options)
      : options_(options),
        counting_(arrow::system_memory_pool()),
        pool_(&counting_, options.memory_limit) {}

  std::vector<ColumnarColumn> columns() const override;
  std::size_t groups() const override { return 0; }
  void select(const ColumnPath& path) override;
  void set_order(std::vector<std::size_t> order) override { order_ = std::move(order); }
  std::int64_t skip(std::int64_t rows) override;
  bool next(std::vector<TextRow>& rows) override;

 protected:
  virtual std::shared_ptr<arrow::Schema> schema() const = 0;
  /// Column path[0], number `column` of the schema, is the one to read.
  virtual void project(int column, const ColumnPath& path) = 0;
  /// The next batch, whose column 0 is the chosen one; null at the end.
  virtual std::shared_ptr<arrow::RecordBatch> read_batch() = 0;
  /// Leaves out groups of at most `rows` rows together, unread; says how many.
  virtual std::int64_t skip_groups(std::int64_t) { return 0; }
  /// Type of the chosen column as batches have it.
  virtual std::shared_ptr<arrow::DataType> batch_type() const = 0;

  arrow::MemoryPool* pool() { return &pool_; }
  const ColumnarOptions& options() const { return options_; }
  std::vector<std::size_t>& order() { return order_; }
  Thrown& thrown() { return thrown_; }

 private:
  bool fetch();

  ColumnarOptions options_;
  arrow::ProxyMemoryPool counting_;
  arrow::CappedMemoryPool pool_;
  Thrown thrown_;
  std::vector<std::size_t> order_;
  std::optional<TextCollector> collector_;
  std::shared_ptr<arrow::ArrayData> data_;
  std::int64_t at_ = 0;
};

/// Throws std::runtime_error for what is no such file.
std::unique_ptr<ColumnarFile> open_parquet(std::unique_ptr<ColumnarInput> input,
                                           const ColumnarOptions& options);
std::unique_ptr<ColumnarFile> open_arrow_file(std::unique_ptr<ColumnarInput> input,
                                              const ColumnarOptions& options);
std::unique_ptr<ColumnarFile> open_arrow_stream(std::unique_ptr<ColumnarInput> input,
                                                const ColumnarOptions& options);
std::unique_ptr<ColumnarFile> open_arrow_stream(std::unique_ptr<ByteStream> stream,
                                                const ColumnarOptions& options);

}  // namespace drrik
