// Labels from an activation folder; apart, because only this needs tokenizers.

#include <algorithm>
#include <utility>

#include "drrik/viz/row_label.h"

namespace drrik {
namespace {

const std::string kEllipsis = "\u2026";

// A record that long is the start of its text (SampleRecord::text).
constexpr std::int64_t kTextCharacters = 200;

bool is_whole(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) {
           return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
         }) < kTextCharacters;
}

// Whether the last few letters of `text` are those of `tokens`; not when nothing was recorded.
bool ends_alike(const std::string& tokens, const std::string& text) {
  constexpr std::size_t kEnough = 8;
  const std::size_t end = text.find_last_not_of(" \t\r\n") + 1;
  if (end == 0) return false;
  const std::size_t begin = end - std::min(end, kEnough);
  return tokens.substr(0, tokens.find_last_not_of(" \t\r\n") + 1)
      .ends_with(text.substr(begin, end - begin));
}

}  // namespace

RowLabeler activation_labeler(std::shared_ptr<const ActivationMetadata> metadata,
                              std::shared_ptr<const Tokenizer> tokenizer, std::int64_t context) {
  return [metadata = std::move(metadata), tokenizer = std::move(tokenizer),
          context](std::int64_t row) -> RowLabel {
    if (row < 0 || row >= metadata->num_rows || metadata->samples.empty()) {
      return row_number_labeler()(row);
    }
    const ActivationMetadata::Origin origin = metadata->origin(row);
    const SampleRecord& sample = metadata->samples[static_cast<std::size_t>(origin.sample)];
    const auto count = static_cast<std::int64_t>(sample.input_ids.size());
    if (!tokenizer || origin.position < 0 || origin.position >= count) {
      return {sample.text + (is_whole(sample.text) ? "" : kEllipsis), "", ""};
    }
    // Bytes are joined before anything is cleaned: a character may be spread over tokens.
    const auto join_tokens = [&](std::int64_t begin, std::int64_t end) {
      std::string text;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int32_t id = sample.input_ids[static_cast<std::size_t>(i)];
        if (tokenizer->is_special(id) && i != origin.position) continue;
        text += tokenizer->token_bytes(id);
      }
      return text;
    };
    const std::int64_t begin = std::max<std::int64_t>(0, origin.position - context);
    const std::int64_t end = std::min(count, origin.position + 1 + context);
    // Extraction keeps max_length tokens; when there are so many the text mostly went on.
    const bool more =
        end < count || (count == metadata->config.dataset.max_length &&
                        !(is_whole(sample.text) && ends_alike(join_tokens(0, count), sample.text)));
    return {(begin > 0 ? kEllipsis : "") + join_tokens(begin, origin.position),
            join_tokens(origin.position, origin.position + 1),
            join_tokens(origin.position + 1, end) + (more ? kEllipsis : "")};
  };
}

}  // namespace drrik
