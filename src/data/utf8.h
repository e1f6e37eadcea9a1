#pragma once
// UTF-8 of unknown origin.

#include <string>
#include <string_view>

namespace drrik {

bool valid_utf8(std::string_view text);
/// One U+FFFD for every maximal broken sequence, as Python's errors="replace" does.
std::string mend_utf8(std::string_view text);
/// JSON text with escapes of lone surrogates (\ud83d without its partner) replaced by \ufffd. The
/// length does not change.
std::string mend_surrogates(std::string_view json);

}  // namespace drrik
