#pragma once
// JSON for the rooms' sources. nlohmann's type stays out of public headers; rooms above `io` that
// read JSON include this file and link nlohmann_json privately through drrik_io.

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "drrik/base/error.h"

namespace drrik {

/// Keeps the order of members as written.
using Json = nlohmann::ordered_json;

enum class JsonDuplicates { kKeepLast, kRefuse };

struct JsonParseOptions {
  /// Nesting allowed for arrays and objects together; deeper text is refused.
  int max_depth = 256;
  /// What a repeated member of one object means. The last one wins in most parsers.
  JsonDuplicates duplicates = JsonDuplicates::kKeepLast;
};

/// Parses UTF-8 JSON text (a byte-order mark is tolerated). `what` names it in errors.
/// Throws Error(data): "what: line 3, column 7: …". NaN and Infinity literals are refused.
Json parse_json(std::string_view text, std::string_view what, const JsonParseOptions& options = {});

/// What parse_json() throws for text that is no JSON, for those who take the parser's events
/// themselves: `position` and `error` are as nlohmann's SAX interface gives them.
[[noreturn]] void throw_json_syntax(std::string_view text, std::string_view what,
                                    std::size_t position, const nlohmann::detail::exception& error);

/// Reads and parses a file. Throws Error(io), also when it is larger than `max_bytes`; Error(data).
Json read_json_file(const std::filesystem::path& path, std::uint64_t max_bytes = 1ULL << 30);

/// `indent` < 0 is compact. Non-finite numbers become null; invalid UTF-8 becomes U+FFFD.
std::string json_text(const Json& json, int indent = -1);
/// Atomic, indented by two, ends with a newline. Throws Error(io).
void write_json_file(const std::filesystem::path& path, const Json& json);

/// "an object", "a string", …, for messages.
std::string_view json_type_name(const Json& json);
/// Throws Error(data) when `json` is not an object / array.
const Json& expect_object(const Json& json, std::string_view what);
const Json& expect_array(const Json& json, std::string_view what);

/// The member, or nullptr when absent or null. `json` must be an object (Error(data) otherwise).
const Json* find_member(const Json& json, std::string_view key, std::string_view what);
/// The member; throws Error(data) naming key and the nearest present key when absent or null.
const Json& get_member(const Json& json, std::string_view key, std::string_view what);

// Typed members. get_* throw Error(data) when the member is absent or null; find_* then answer
// nothing; the form with a fallback answers it. All throw when the type or range is wrong, e.g.
// "config.json: 'hidden_size' is a string ("768"), wanted an integer".
// An integer may be written 12.0 but not 12.5; a double may be written as an integer.
std::int64_t get_int(const Json& json, std::string_view key, std::string_view what);
double get_double(const Json& json, std::string_view key, std::string_view what);
bool get_bool(const Json& json, std::string_view key, std::string_view what);
std::string get_string(const Json& json, std::string_view key, std::string_view what);
std::vector<std::int64_t> get_ints(const Json& json, std::string_view key, std::string_view what);
std::vector<double> get_doubles(const Json& json, std::string_view key, std::string_view what);
std::vector<std::string> get_strings(const Json& json, std::string_view key, std::string_view what);

std::optional<std::int64_t> find_int(const Json& json, std::string_view key, std::string_view what);
std::optional<double> find_double(const Json& json, std::string_view key, std::string_view what);
std::optional<bool> find_bool(const Json& json, std::string_view key, std::string_view what);
std::optional<std::string> find_string(const Json& json, std::string_view key,
                                       std::string_view what);

std::int64_t get_int(const Json& json, std::string_view key, std::string_view what,
                     std::int64_t fallback);
double get_double(const Json& json, std::string_view key, std::string_view what, double fallback);
bool get_bool(const Json& json, std::string_view key, std::string_view what, bool fallback);
std::string get_string(const Json& json, std::string_view key, std::string_view what,
                       std::string_view fallback);

// One value (an array's element, say); `where` is its whole name in messages.
std::int64_t json_int(const Json& value, std::string_view where);
double json_double(const Json& value, std::string_view where);
bool json_bool(const Json& value, std::string_view where);
std::string json_string(const Json& value, std::string_view where);

/// Throws Error(data) when `json` has a member that is not in `known`, naming the nearest.
void refuse_unknown_members(const Json& json, const std::vector<std::string>& known,
                            std::string_view what);

}  // namespace drrik
