#pragma once
// Texts out of Arrow arrays along a column path.
//
// Arrays that come from IPC files hold whatever the file says: every offset, index and length is
// checked where it is used, so that no other validation is needed.

#include <arrow/array/data.h>
#include <arrow/type.h>

#include <cstdint>
#include <string>
#include <vector>

#include "data/arrow/plugin.h"

namespace drrik {

/// The type behind extension types.
const arrow::DataType& storage_type(const arrow::DataType& type);

bool is_string(const arrow::DataType& type);
bool is_text(const arrow::DataType& type);

/// Appends the texts below `field`, which is called `name`.
void list_columns(const arrow::Field& field, std::vector<ColumnarColumn>& out);

/// A path bound to a type.
struct TextPlan {
  struct Step {
    enum class Kind { kChild, kAll, kAt };
    Kind kind = Kind::kChild;
    int child = 0;
    std::int64_t index = 0;
  };
  std::vector<Step> steps;
  bool joins = false;  ///< A row may have several texts, or one that has to be written first.
};

/// Binds path[1...] to the type of column path[0], whose texts may be numbers and booleans with
/// `scalars`. Throws std::runtime_error saying what there is.
TextPlan plan_texts(const arrow::DataType& type, const ColumnPath& path, bool scalars);

/// Reads rows of one array after another.
class TextCollector {
 public:
  TextCollector(TextPlan plan, std::size_t max_row_bytes)
      : plan_(std::move(plan)), max_row_bytes_(max_row_bytes) {}

  /// The rows from `begin` on, as many as fit a piece of moderate size, at least one; returns the
  /// row after the last. The rows point into `data` and into this object.
  std::int64_t collect(const arrow::ArrayData& data, std::int64_t begin,
                       std::vector<TextRow>& rows);

 private:
  void visit(const arrow::ArrayData& data, std::int64_t index, std::size_t step);
  void visit_elements(const arrow::ArrayData& child, std::int64_t begin, std::int64_t end,
                      std::size_t step);
  void add(const void* bytes, std::int64_t size);

  TextPlan plan_;
  std::size_t max_row_bytes_;
  std::string joined_;
  TextRow row_;
  std::size_t begin_ = 0;     ///< Of the row's text in joined_.
  std::int64_t visited_ = 0;  ///< Elements looked at in this array.
};

}  // namespace drrik
