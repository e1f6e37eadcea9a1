// .env files and the settings made of them. No message may show a credential.

#include <cstdlib>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/config/environment.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = [] {
    drrik::set_log_level(drrik::LogLevel::kCritical);
    return true;
  }();
  static_cast<void>(quiet);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    drrik::Environment variables = drrik::parse_dotenv(text, "fuzz");
    for (auto& [name, value] : variables) {
      if (name.empty() || value.find('\0') != std::string::npos) std::abort();
    }
    // Nothing outside of the text: no token file, no .env of the working folder.
    variables["HF_TOKEN_PATH"] = "/nonexistent";
    drrik::EnvironmentSettings::load(variables, "/nonexistent");
  } catch (const drrik::Error& error) {
    const bool known =
        error.kind() == drrik::ErrorKind::kData || error.kind() == drrik::ErrorKind::kUsage;
    if (!known) std::abort();
  }
  return 0;
}
