#pragma once
// Where the Hub is, who asks, and where its files are kept: HubOptions, read from the environment
// variables that the Python library huggingface_hub reads.

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "drrik/base/secret.h"

namespace drrik {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";  ///< Without a slash at the end.
  /// The cache that drrik and huggingface_hub share. Empty: files cannot be fetched.
  std::filesystem::path cache_dir;
  /// Sent to the endpoint's own scheme, host and port, and to no other. Empty: none is sent.
  Secret token;
  bool offline = false;   ///< No request at all: only what the cache has.
  bool symlinks = true;   ///< False: snapshots hold the files themselves instead of links to blobs.
  bool telemetry = true;  ///< False: the user agent says no more than "drrik/VERSION".
  bool progress = true;   ///< False: downloads show no bar.
  std::string user_agent_origin;  ///< Appended to the user agent as "origin/…" when not empty.
  double etag_timeout = 10;       ///< Seconds to connect, and for an answer about a file to begin.
  double download_timeout = 10;   ///< Seconds without a byte after which a transfer is given up.
  int workers = 8;                ///< Files fetched at once; 1 to 64.
  /// Tries after the first one that may fail in a row (without a byte gained) before an error.
  int retries = 5;
  double first_wait = 1;    ///< Seconds before the second try; doubles from try to try.
  double longest_wait = 8;  ///< Seconds; where the doubling ends.
  /// Seconds a server may ask us to wait (Retry-After, RateLimit); more is an error that says so.
  double longest_rate_limit_wait = 600;

  /// HF_ENDPOINT, HF_HUB_CACHE (HUGGINGFACE_HUB_CACHE), HF_HOME, XDG_CACHE_HOME, HOME,
  /// HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE, HF_HUB_DISABLE_SYMLINKS, HF_HUB_ETAG_TIMEOUT,
  /// HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DISABLE_PROGRESS_BARS,
  /// HF_HUB_DISABLE_TELEMETRY (DISABLE_TELEMETRY, DO_NOT_TRACK),
  /// HF_HUB_USER_AGENT_ORIGIN; and the token: HUGGINGFACE_HUB_TOKEN, HF_TOKEN,
  /// HUGGING_FACE_HUB_TOKEN, then the file HF_TOKEN_PATH ($HF_HOME/token), or none at all with
  /// HF_HUB_DISABLE_IMPLICIT_TOKEN. Throws Error(usage) for values that cannot serve, naming the
  /// variable and never a token.
  static HubOptions from_environment(const std::map<std::string, std::string>& environment);
  /// The same from the environment of this process.
  static HubOptions from_environment();
};

/// The token for the Hub: HUGGINGFACE_HUB_TOKEN, HF_TOKEN or HUGGING_FACE_HUB_TOKEN of
/// `environment`, then of `more` (a .env file's; an empty variable in the environment hides the one
/// of its name there), then the content of the file HF_TOKEN_PATH, $HF_HOME/token,
/// $XDG_CACHE_HOME/huggingface/token or ~/.cache/huggingface/token; empty when there is none. A
/// token file that cannot serve is warned of and left out. Throws as checked_secret().
Secret find_hub_token(const std::map<std::string, std::string>& environment,
                      const std::map<std::string, std::string>& more = {});

/// Whether the environment forbids to send a token that was not given explicitly.
bool implicit_token_disabled(const std::map<std::string, std::string>& environment);

/// What is used where no options are given: what `make` answers, which is called when they are
/// first needed; from_environment(), until set. Thread-safe.
HubOptions default_hub_options();
void set_default_hub_options(std::function<HubOptions()> make);

}  // namespace drrik
