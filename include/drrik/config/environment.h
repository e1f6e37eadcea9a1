#pragma once
// EnvironmentSettings: credentials and tracker settings from the environment, a .env file and the
// Hub's token file.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "drrik/base/secret.h"
#include "drrik/base/system.h"

namespace drrik {

/// Variables by name, as the process got them. Lookups in drrik ignore the case of names.
using Environment = std::map<std::string, std::string>;

/// Parses the text of a .env file: NAME=value lines, an optional `export ` before the name, `#`
/// comments, 'literal' and "escaped" (\n \r \t \\ \" \$) values which may span lines. No variable
/// is expanded. Lines that are none of this are skipped with a warning that names `where` and the
/// line number only, never the text: it may hold a credential. Throws Error(data) when the text
/// holds a NUL byte or a quote is not closed.
Environment parse_dotenv(std::string_view text, std::string_view where = ".env");

/// Where each setting comes from: the environment wins over the .env file; names are matched
/// without case; other names are ignored; an empty value is as good as none, but an empty variable
/// in the environment hides the one of the same name in the file.
struct EnvironmentSettings {
  /// HUGGINGFACE_HUB_TOKEN, HF_TOKEN, HUGGING_FACE_HUB_TOKEN in the environment, then those in the
  /// .env file, then the token file: HF_TOKEN_PATH, $HF_HOME/token,
  /// $XDG_CACHE_HOME/huggingface/token or ~/.cache/huggingface/token.
  Secret hf_token;
  Secret wandb_api_key;                             ///< WANDB_API_KEY
  std::string wandb_project = "drrik-experiments";  ///< WANDB_PROJECT
  std::string wandb_entity;                         ///< WANDB_ENTITY
  std::string wandb_mode = "online";                ///< WANDB_MODE: online, offline or disabled

  bool has_hf_token() const { return !hf_token.empty(); }
  /// A key is set and the mode is not disabled.
  bool use_wandb() const { return !wandb_api_key.empty() && wandb_mode != "disabled"; }

  /// dotenv: path of the .env file; a missing one is fine. Throws Error(usage) for an unknown
  /// WANDB_MODE or a credential with control characters (which would break a request header),
  /// naming the variable and never its value when that is a credential; Error(data) for a
  /// malformed .env; Error(io) for one that cannot be read.
  static EnvironmentSettings load(const Environment& environment,
                                  const std::filesystem::path& dotenv = ".env");

  /// One line a setting; credentials as ***.
  std::string describe() const;
};

/// The settings of this process, read on the first call (see load); later calls return the same
/// instance. Thread-safe. When reading throws, the next call tries again.
const EnvironmentSettings& get_settings();

}  // namespace drrik
