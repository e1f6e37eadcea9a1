#pragma once
// The tokenizer files of a model folder, put together as `AutoTokenizer` does.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer_impl.h"

namespace drrik::text {

// simdjson's own limit is 4 GiB; tokenizer files have some megabytes.
constexpr std::uint64_t kMaxTokenizerFileBytes = std::uint64_t{1} << 30;

/// Parses JSON; `parser` owns the result. Throws Error(data).
simdjson::dom::element parse_json(simdjson::dom::parser& parser, std::string_view json);

/// Not yet finish()ed. Errors name the file.
std::unique_ptr<Tokenizer::Impl> load_folder(const std::filesystem::path& folder);

}  // namespace drrik::text
