#pragma once
// What a row of activations stands for, as text: a token in its context.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "drrik/activations/store.h"
#include "drrik/text/tokenizer.h"

namespace drrik {

/// The text around a row, the token it belongs to apart. Any of them may be empty; any bytes will
/// do (figures and reports clean them).
struct RowLabel {
  std::string before;
  std::string token;  ///< Empty when the row stands for the whole text.
  std::string after;
};

/// Row number -> label. Called from one thread, for the rows that are shown only.
using RowLabeler = std::function<RowLabel(std::int64_t row)>;

/// "row 12".
RowLabeler row_number_labeler();

/// The sample's text for one row of each sample: `texts[row]`; beyond the last, "row 12".
RowLabeler text_labeler(std::vector<std::string> texts);

/// Labels from an activation folder's metadata: the sample's tokens with the row's one apart, made
/// with the model's tokenizer. Without a tokenizer (null), or for a mean over positions, the
/// sample's text as it was recorded. `context` is the number of tokens kept on either side; an
/// ellipsis stands for those left out, here or by the extraction's max_length, and for the rest of
/// a text that was recorded in part.
RowLabeler activation_labeler(std::shared_ptr<const ActivationMetadata> metadata,
                              std::shared_ptr<const Tokenizer> tokenizer,
                              std::int64_t context = 64);

}  // namespace drrik
