#include "drrik/serve/server.h"

// docs/api/openapi.json as it is: the document that is read is the one that is served.
asm(".pushsection .rodata.drrik_openapi, \"a\"\n"
    ".hidden drrik_openapi_begin\n"
    ".hidden drrik_openapi_end\n"
    ".global drrik_openapi_begin\n"
    ".global drrik_openapi_end\n"
    "drrik_openapi_begin:\n"
    ".incbin \"" DRRIK_OPENAPI
    "\"\n"
    "drrik_openapi_end:\n"
    ".byte 0\n"
    ".popsection\n");

extern "C" {
[[gnu::visibility("hidden")]] extern const char drrik_openapi_begin[];
[[gnu::visibility("hidden")]] extern const char drrik_openapi_end[];
}

namespace drrik {

std::string_view openapi_document() {
  return {drrik_openapi_begin, static_cast<std::size_t>(drrik_openapi_end - drrik_openapi_begin)};
}

}  // namespace drrik
