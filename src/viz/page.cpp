#include "viz/page.h"

// The assembler takes the file in as it is: no generated source of megabytes, no limit on the
// length of a literal. DRRIK_PAGE is its path; CMake rebuilds this file when it changes.
asm(".pushsection .rodata.drrik_page, \"a\"\n"
    ".balign 16\n"
    ".hidden drrik_page_begin\n"
    ".hidden drrik_page_end\n"
    ".global drrik_page_begin\n"
    ".global drrik_page_end\n"
    "drrik_page_begin:\n"
    ".incbin \"" DRRIK_PAGE
    "\"\n"
    "drrik_page_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const char drrik_page_begin[];
[[gnu::visibility("hidden")]] extern const char drrik_page_end[];
}

namespace drrik {

std::string_view dashboard_page() {
  return {drrik_page_begin, static_cast<std::size_t>(drrik_page_end - drrik_page_begin)};
}

}  // namespace drrik
