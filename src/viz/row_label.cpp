#include "drrik/viz/row_label.h"

#include <utility>

namespace drrik {
namespace {

RowLabel number_label(std::int64_t row) { return {"row " + std::to_string(row), "", ""}; }

}  // namespace

RowLabeler row_number_labeler() { return number_label; }

RowLabeler text_labeler(std::vector<std::string> texts) {
  return [texts = std::move(texts)](std::int64_t row) {
    if (row < 0 || row >= static_cast<std::int64_t>(texts.size())) return number_label(row);
    return RowLabel{texts[static_cast<std::size_t>(row)], "", ""};
  };
}

}  // namespace drrik
