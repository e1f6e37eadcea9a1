// Texts of rows.

#include <gtest/gtest.h>

#include "drrik/viz/row_label.h"

namespace drrik {
namespace {

// Words as tokens, split at blanks that stay with what follows; two tokens share a character.
std::shared_ptr<const Tokenizer> tokenizer() {
  return std::make_shared<const Tokenizer>(Tokenizer::from_json(R"({
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                      "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
              "vocab": {"<s>": 0, "the": 1, "Ġold": 2, "Ġsea": 3, "Ã": 4, "©": 5},
              "merges": []}
  })"));
}

std::shared_ptr<const ActivationMetadata> metadata() {
  auto out = std::make_shared<ActivationMetadata>();
  out->config.extraction.positions = Positions::kAll;
  out->samples.resize(2);
  out->samples[0] = {0, 0, 4, "the old sea", {0, 1, 2, 3}};
  out->samples[1] = {1, 4, 3, "the \u00E9", {1, 4, 5}};
  out->num_samples = 2;
  out->num_rows = 7;
  return out;
}

TEST(RowLabels, Numbers) { EXPECT_EQ(row_number_labeler()(12).before, "row 12"); }

TEST(RowLabels, Texts) {
  const RowLabeler labeler = text_labeler({"one", "two"});
  EXPECT_EQ(labeler(1).before, "two");
  EXPECT_EQ(labeler(2).before, "row 2");
  EXPECT_EQ(labeler(-1).before, "row -1");
}

TEST(RowLabels, TokensInTheirContext) {
  const RowLabeler labeler = activation_labeler(metadata(), tokenizer());
  const RowLabel sea = labeler(3);
  EXPECT_EQ(sea.before, "the old");  // The special token is left out.
  EXPECT_EQ(sea.token, " sea");
  EXPECT_EQ(sea.after, "");
  const RowLabel old = labeler(2);
  EXPECT_EQ(old.before, "the");
  EXPECT_EQ(old.token, " old");
  EXPECT_EQ(old.after, " sea");
  EXPECT_EQ(labeler(0).token, "<s>");  // Unless the row is its own.
  const RowLabel half = labeler(5);
  EXPECT_EQ(half.before, "the");
  EXPECT_EQ(half.token, "\xC3");
  EXPECT_EQ(half.after, "\xA9");
  EXPECT_EQ(labeler(7).before, "row 7");
  EXPECT_EQ(labeler(-1).before, "row -1");
}

TEST(RowLabels, ContextIsBounded) {
  const RowLabeler labeler = activation_labeler(metadata(), tokenizer(), 1);
  EXPECT_EQ(labeler(3).before, "\u2026 old");
  EXPECT_EQ(labeler(3).after, "");
  EXPECT_EQ(labeler(1).before, "");
  EXPECT_EQ(labeler(1).after, " old\u2026");
}

// The tokens of a text end where max_length cut them, or where the text does.
TEST(RowLabels, AnEllipsisStandsForWhatMaxLengthCut) {
  const auto after = [](std::int64_t max_length, const std::string& text) {
    auto cut = std::make_shared<ActivationMetadata>(*metadata());
    cut->config.dataset.max_length = max_length;
    cut->samples[0].text = text;
    const RowLabeler labeler = activation_labeler(cut, tokenizer());
    EXPECT_EQ(labeler(2).after, " sea" + labeler(3).after);
    return labeler(3).after;
  };
  EXPECT_EQ(after(4, "the old seaman"), "\u2026");
  EXPECT_EQ(after(4, "the old sea" + std::string(189, 'x')), "\u2026");
  // As many tokens as allowed, and they reach the end.
  EXPECT_EQ(after(4, "the old sea"), "");
  EXPECT_EQ(after(4, "the old sea \n"), "");
  EXPECT_EQ(after(5, "the old sea and more"), "");
}

TEST(RowLabels, AnEllipsisStandsForWhatTheRecordLeavesOut) {
  auto cut = std::make_shared<ActivationMetadata>(*metadata());
  std::string text;
  for (int i = 0; i < 199; ++i) text += "\u00E9";
  cut->samples[0].text = text;
  EXPECT_EQ(activation_labeler(cut, nullptr)(0).before, text);
  cut->samples[0].text = text + "x";
  EXPECT_EQ(activation_labeler(cut, nullptr)(0).before, text + "x\u2026");
}

TEST(RowLabels, WithoutATokenizerTheText) {
  const RowLabeler labeler = activation_labeler(metadata(), nullptr);
  EXPECT_EQ(labeler(3).before, "the old sea");
  EXPECT_EQ(labeler(3).token, "");
}

}  // namespace
}  // namespace drrik
