// tokenizer.json from arbitrary bytes, then a short text through it and back. The text is the part
// of the input after its last zero byte, so that the fuzzer can shape it too.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  drrik::set_log_level(drrik::LogLevel::kOff);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = input.rfind('\0');
  const std::string_view json = input.substr(0, zero);
  std::string_view text = "The 1st \xC3\xA9t\xC3\xA9 <s> a\n\n  b'll \xE6\x9D\xB1 ab";
  if (zero != std::string_view::npos) text = input.substr(zero + 1).substr(0, 64);
  try {
    const drrik::Tokenizer tokenizer = drrik::Tokenizer::from_json(json);
    const std::vector<std::int32_t> ids = tokenizer.encode(text);
    for (const bool skip : {true, false}) tokenizer.decode(ids, {skip});
    drrik::StreamDecoder stream(tokenizer);
    for (const std::int32_t id : ids) {
      stream.push(id);
      tokenizer.token_display(id);
    }
    stream.finish();
  } catch (const drrik::Error&) {
  }
  return 0;
}
