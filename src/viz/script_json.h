#pragma once
// JSON text written piece by piece, for records too many to build as objects.

#include <cstdint>
#include <string>
#include <string_view>

namespace drrik::detail {

/// A string with its quotes; `utf8` must be valid. "<" and U+2028, U+2029 are escaped, so that the
/// text may stand in a script.
void append_json_string(std::string& out, std::string_view utf8);
/// At most `digits` significant ones; null for NaN and infinities.
void append_json_number(std::string& out, double value, int digits = 6);
void append_json_integer(std::string& out, std::int64_t value);
/// The shortest text that reads as this float again; null for NaN and infinities.
void append_json_float(std::string& out, float value);

/// Finished JSON with the same three escaped: they can stand in strings only.
std::string script_safe(std::string_view json);

}  // namespace drrik::detail
