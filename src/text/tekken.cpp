// Mistral's tekken.json: {"config": {"pattern", "default_vocab_size", "default_num_special_tokens",
// "version"}, "vocab": [{"rank", "token_bytes"}], "special_tokens": [{"rank", "token_str"}]}. The
// special tokens have the first ids; the file's vocabulary is longer than what is used of it.
//
// Source: mistral_common 1.13, tokens/tokenizers/tekken.py.

#include <algorithm>
#include <array>

#include "drrik/base/error.h"
#include "text/byte_ranks.h"
#include "text/precompiled.h"

namespace drrik::text {
namespace {

// Models have a thousand; more would be a file that wants memory.
constexpr std::int64_t kMaxSpecial = 100'000;
constexpr std::size_t kMaxSpecialBytes = 4096;

// What files that name no special tokens mean (up to version 7).
constexpr std::array kDefaultSpecial = {"<unk>",
                                        "<s>",
                                        "</s>",
                                        "[INST]",
                                        "[/INST]",
                                        "[AVAILABLE_TOOLS]",
                                        "[/AVAILABLE_TOOLS]",
                                        "[TOOL_RESULTS]",
                                        "[/TOOL_RESULTS]",
                                        "[TOOL_CALLS]",
                                        "[IMG]",
                                        "<pad>",
                                        "[IMG_BREAK]",
                                        "[IMG_END]",
                                        "[PREFIX]",
                                        "[MIDDLE]",
                                        "[SUFFIX]",
                                        "[SYSTEM_PROMPT]",
                                        "[/SYSTEM_PROMPT]",
                                        "[TOOL_CONTENT]"};

std::vector<std::string> read_special(const Node& root) {
  const auto list = root.find("special_tokens");
  if (!list) return {kDefaultSpecial.begin(), kDefaultSpecial.end()};
  const std::vector<Node> items = list->items();
  std::vector<std::string> out(items.size());
  std::vector<bool> given(items.size());
  for (const Node& item : items) {
    const auto rank = static_cast<std::size_t>(item.get("rank").id());
    if (rank >= items.size() || given[rank]) {
      item.fail(str("rank ", rank, ": the ", items.size(),
                    " special tokens have the ranks from 0 on, each once"));
    }
    given[rank] = true;
    out[rank] = std::string(item.get("token_str").string());
    if (out[rank].empty() || out[rank].size() > kMaxSpecialBytes) {
      item.fail(str("a special token of ", out[rank].size(), " bytes"));
    }
  }
  return out;
}

}  // namespace

bool is_tekken(const Node& root) {
  if (!root.is_object()) return false;
  const auto config = root.find("config");
  const auto vocab = root.find("vocab");
  return config && config->is_object() && config->find("pattern") && vocab && vocab->is_array();
}

std::string tekken_json(const Node& root) {
  const Node config = root.get("config");
  const Node pattern = config.get("pattern");
  ByteEncoding encoding;
  encoding.pattern = pattern.string();
  std::vector<std::string> special = read_special(root);
  const auto named = static_cast<std::int64_t>(special.size());
  const auto wanted = config.find("default_num_special_tokens");
  const std::int64_t count = wanted ? wanted->integer() : named;
  if (count < named || count > kMaxSpecial) {
    throw_data("config.default_num_special_tokens: got ", count, ", wanted ", named, " to ",
               kMaxSpecial);
  }
  for (std::int64_t i = named; i < count; ++i) special.push_back(str("<SPECIAL_", i, ">"));
  for (std::size_t i = 0; i < special.size(); ++i) {
    encoding.special.emplace_back(std::move(special[i]), static_cast<std::int32_t>(i));
  }
  const auto is_bos = [](const auto& token) { return token.first == "<s>"; };
  if (std::any_of(encoding.special.begin(), encoding.special.end(), is_bos)) encoding.bos = "<s>";

  const std::vector<Node> vocab = root.get("vocab").items();
  std::size_t used = vocab.size();
  if (const auto size = config.find("default_vocab_size")) {
    const std::int64_t whole = size->integer();
    const std::int64_t most = count + static_cast<std::int64_t>(vocab.size());
    if (whole < count || whole > most) {
      size->fail(str("got ", whole, ", but there are ", count, " special tokens and ", vocab.size(),
                     " others"));
    }
    used = static_cast<std::size_t>(whole - count);
  }
  std::vector<ByteToken> tokens(used);
  for (std::size_t i = 0; i < used; ++i) {
    if (const auto rank = vocab[i].find("rank");
        rank && rank->integer() != static_cast<std::int64_t>(i)) {
      vocab[i].fail(str("rank ", rank->integer(), ", but it is token ", i));
    }
    tokens[i].bytes = decode_base64(vocab[i].get("token_bytes").string());
    tokens[i].id = static_cast<std::int32_t>(count + static_cast<std::int64_t>(i));
  }
  keep_last(tokens);
  return byte_ranks_json(tokens, encoding);
}

}  // namespace drrik::text
