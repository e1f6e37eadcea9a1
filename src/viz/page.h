#pragma once
// The page that shows a dashboard: web/dist/index.html, embedded in the program.

#include <string_view>

namespace drrik {

/// One HTML text with its scripts and styles inside. "<!--drrik-data-->" in its head is where a
/// packed dashboard's data go. Lives as long as the program.
std::string_view dashboard_page();

}  // namespace drrik
