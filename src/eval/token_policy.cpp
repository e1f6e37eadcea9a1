#include "drrik/eval/token_policy.h"

#include <algorithm>

#include "activations/metadata.h"
#include "drrik/activations/store.h"
#include "drrik/base/error.h"

namespace drrik {
namespace {

// Which of a text's tokens a row of it is.
std::size_t position_of(Positions positions, std::size_t row, std::size_t tokens) {
  if (positions == Positions::kAll) return row;
  return positions == Positions::kFirst ? 0 : tokens - 1;
}

}  // namespace

TokenPolicy token_policy(const std::filesystem::path& path, const Tokenizer* tokenizer,
                         SpecialTokens special) {
  TokenPolicy policy;
  const bool leave_out = special == SpecialTokens::kLeaveOut;
  const auto cannot = [&](const char* why) {
    if (leave_out) {
      throw_usage("'", path.string(), "': special tokens cannot be left out: ", why);
    }
    policy.statement = str("every row of the activations counts; which are special tokens' is not ",
                           "known: ", why);
  };
  if (!is_activation_store(path)) {
    cannot("a file without metadata.json does not say what its rows are");
    return policy;
  }
  Positions positions =
      load_activation_metadata(path, WithSamples::kNo).config.extraction.positions;
  const bool means = positions == Positions::kMean;
  const bool told = tokenizer != nullptr && !means;
  std::int64_t special_rows = 0;
  std::int64_t rows = 0;
  const detail::StoreHead head = detail::read_store(path, [&](const SampleRecord& sample) {
    policy.cluster_starts.push_back(sample.row);
    rows = std::max(rows, sample.row + sample.rows);
    if (!told) return;
    policy.keep.resize(static_cast<std::size_t>(rows), 1);
    for (std::size_t r = 0; r < static_cast<std::size_t>(sample.rows); ++r) {
      const std::size_t position = position_of(positions, r, sample.input_ids.size());
      if (position >= sample.input_ids.size() ||
          !tokenizer->is_special(sample.input_ids[position])) {
        continue;
      }
      policy.keep[static_cast<std::size_t>(sample.row) + r] = 0;
      ++special_rows;
    }
  });
  if (rows != head.metadata.num_rows) {
    policy.cluster_starts.clear();
    policy.keep.clear();
    cannot("the store was written without its samples");
    return policy;
  }
  if (means) {
    cannot("its rows are means over a text's tokens");
    return policy;
  }
  if (!told) {
    policy.keep.clear();
    cannot("the tokenizer of its model is not at hand");
    return policy;
  }
  policy.special_rows = special_rows;
  if (!leave_out) {
    policy.keep.clear();
    policy.statement = str("every row of the activations counts, the ", special_rows,
                           " of special tokens (BOS and the like) too");
    return policy;
  }
  if (special_rows == rows) {
    throw_data("'", path.string(), "': all ", rows, " rows are special tokens'");
  }
  policy.statement =
      str("the ", special_rows, " rows of special tokens (BOS and the like) are left out");
  if (special_rows == 0) policy.keep.clear();
  return policy;
}

}  // namespace drrik
