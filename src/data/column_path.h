#pragma once
// Names of texts inside nested columns: `a.b.c`, `messages[].content`, `turns[0].text`,
// `turns[-1].text` (counted from the end).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drrik {

struct ColumnStep {
  enum class Kind {
    kMember,  ///< `.name`, of a struct or JSON object; the first step always is one.
    kAll,     ///< `[]`, every element of a list.
    kAt       ///< `[i]`, one element; negative: from the end.
  };
  Kind kind = Kind::kMember;
  std::string name;        ///< kMember only.
  std::int64_t index = 0;  ///< kAt only.
};

using ColumnPath = std::vector<ColumnStep>;

/// Nothing when the text is no path (an empty name, an unclosed bracket, more than 32 steps).
std::optional<ColumnPath> parse_column_path(std::string_view text);

/// Between the texts of one row when a path leads to several.
inline constexpr char kTextSeparator = '\n';

}  // namespace drrik
