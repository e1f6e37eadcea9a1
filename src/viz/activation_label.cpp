// Labels from an activation folder; apart, because only this needs tokenizers.

#include <algorithm>
#include <utility>

#include "drrik/viz/row_label.h"

namespace drrik {

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
      return {sample.text, "", ""};
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
    return {(begin > 0 ? "\u2026" : "") + join_tokens(begin, origin.position),
            join_tokens(origin.position, origin.position + 1),
            join_tokens(origin.position + 1, end) + (end < count ? "\u2026" : "")};
  };
}

}  // namespace drrik
