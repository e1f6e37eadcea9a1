#pragma once
// The table of options: the one place that names them.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "drrik/config/config.h"

namespace drrik::detail {

using FieldRef =
    std::variant<bool*, std::int64_t*, double*, std::string*, std::optional<std::int64_t>*,
                 std::optional<double>*, std::vector<std::int64_t>*, std::vector<double>*,
                 std::vector<std::string>*>;

/// Bounds of a number, or of each number of a list.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;
};

struct Field {
  const char* path;
  const char* help;
  FieldRef (*ref)(Config&);
  Range range = {};
  std::vector<const char*> choices = {};  ///< For texts; matched without case.
  /// Besides `choices` dotted names pass, whose meaning other rooms know.
  bool or_dotted = false;
};

const std::vector<Field>& fields();

/// Lower case, '-' to '_'.
std::string canonical_name(std::string_view name);

/// The field that `name` means inside the group `prefix` ("" or "autoencoder."), see set().
/// Throws Error(usage) starting with `where`.
const Field& resolve(std::string_view prefix, std::string_view name, const std::string& where);

/// The full prefix ("extractor.model.") of the group that `name` means inside `prefix`, or "" when
/// it names none. An ambiguous name is none.
std::string find_group(std::string_view prefix, std::string_view name);

/// Names that may stand inside a group, for hints.
std::vector<std::string> names_in(std::string_view prefix);

std::string type_name(const FieldRef& ref);
bool is_list(const FieldRef& ref);

/// Parses and checks `value`, then stores it. Throws Error(usage) starting with `where`.
void assign(const Field& field, Config& config, std::string_view value, const std::string& where);
/// The same for a list given as its items.
void assign_items(const Field& field, Config& config, const std::vector<std::string>& items,
                  const std::string& where);
/// Clears an optional or a list. Throws Error(usage) for the others.
void assign_null(const Field& field, Config& config, const std::string& where);

/// As YAML writes it, on one line.
std::string format(const FieldRef& ref);
/// `text` as a YAML scalar: plain when that is safe, else in double quotes.
std::string yaml_scalar(std::string_view text);

/// At most 60 bytes of foreign text, without control characters, in quotes.
std::string quoted(std::string_view text);

}  // namespace drrik::detail
