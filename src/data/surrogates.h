#pragma once
// Halves of characters in JSON escapes.

#include <string>
#include <string_view>

namespace drrik {

/// JSON text with escapes of lone surrogates (\ud83d without its partner) replaced by \ufffd. The
/// length does not change.
std::string mend_surrogates(std::string_view json);

}  // namespace drrik
