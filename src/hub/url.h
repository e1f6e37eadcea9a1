#pragma once
// URLs: building, taking apart, comparing origins, and showing them without what may be secret.

#include <string>
#include <string_view>

namespace drrik::hub {

/// Percent-encodes all but letters, digits, "_.-~" and the characters of `keep`.
std::string percent_encode(std::string_view text, std::string_view keep = "");

/// "https://host:443": scheme and host in lower case, port always written. "" for what is no http
/// or https URL.
std::string origin_of(std::string_view url);

/// The URL that `location` (absolute, "//host/…", "/…" or relative) means on a page of `base`; ""
/// when it means none.
std::string resolve_location(std::string_view base, std::string_view location);

/// Without user, password, query and fragment, any of which may be a credential.
std::string shown_url(std::string_view url);

/// Whether `path` is a repository's file: relative, no empty, "." or ".." part, nothing a file name
/// cannot be.
bool is_safe_path(std::string_view path);
/// Throws Error(data) naming the path and `where` it came from.
void check_path(std::string_view path, std::string_view where);

}  // namespace drrik::hub
