// A SentencePiece model from arbitrary bytes, then a short text through it and back.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  drrik::set_log_level(drrik::LogLevel::kOff);
  try {
    const drrik::Tokenizer tokenizer = drrik::Tokenizer::from_sentencepiece(
        std::string_view(reinterpret_cast<const char*>(data), size));
    const std::vector<std::int32_t> ids = tokenizer.encode(
        "The 1st \xC3\xA9t\xC3\xA9 e\xCC\x81 <s> a\r\n\n  b'll \xE6\x9D\xB1 ab<mask>");
    for (const bool skip : {true, false}) tokenizer.decode(ids, {skip});
    for (const std::int32_t id : ids) tokenizer.token_display(id);
  } catch (const drrik::Error&) {
  }
  return 0;
}
