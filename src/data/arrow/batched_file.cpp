#include "data/arrow/batched_file.h"

#include <algorithm>

#include "data/arrow/fail.h"

namespace drrik {

std::vector<ColumnarColumn> BatchedFile::columns() const {
  std::vector<ColumnarColumn> out;
  const auto all = schema();
  for (const auto& field : all->fields()) {
    std::string type = field->type()->ToString();
    constexpr std::size_t kMaxType = 200;
    if (type.size() > kMaxType) type = type.substr(0, kMaxType) + "...";
    out.push_back(
        {field->name(), std::move(type), true, is_string(*field->type()), is_text(*field->type())});
  }
  for (const auto& field : all->fields()) list_columns(*field, out);
  return out;
}

void BatchedFile::select(const ColumnPath& path) {
  thrown_.unwrap([&] {
    const auto all = schema();
    int column = -1;
    // The first one of a name, where a file has several.
    for (int i = all->num_fields() - 1; i >= 0; --i) {
      if (all->field(i)->name() == path.front().name) column = i;
    }
    if (column < 0) fail("no column '", path.front().name, "'");
    plan_texts(*all->field(column)->type(), path, options_.scalars);
    project(column, path);
    collector_.emplace(plan_texts(*batch_type(), path, options_.scalars), options_.max_row_bytes);
  });
}

bool BatchedFile::fetch() {
  const auto batch = read_batch();
  data_.reset();
  at_ = 0;
  if (batch == nullptr) return false;
  if (batch->num_columns() < 1) fail("a batch without its column; damaged?");
  data_ = batch->column_data(0);
  if (batch->num_rows() < 0 || data_->length != batch->num_rows()) {
    fail("a batch of ", batch->num_rows(), " rows has a column of ", data_->length, "; damaged?");
  }
  return true;
}

std::int64_t BatchedFile::skip(std::int64_t rows) {
  return thrown_.unwrap([&] {
    std::int64_t done = 0;
    while (done < rows) {
      if (data_ == nullptr || at_ >= data_->length) {
        done += skip_groups(rows - done);
        if (done == rows || !fetch()) break;
      }
      const std::int64_t now = std::min(rows - done, data_->length - at_);
      at_ += now;
      done += now;
    }
    return done;
  });
}

bool BatchedFile::next(std::vector<TextRow>& rows) {
  return thrown_.unwrap([&] {
    while (data_ == nullptr || at_ >= data_->length) {
      if (!fetch()) return false;
    }
    at_ = collector_->collect(*data_, at_, rows);
    return true;
  });
}

}  // namespace drrik
