#pragma once
// Tokenizers read from the files of HuggingFace models: text to token ids and back.
//
// Ids are those of the `tokenizers` package: added tokens, normalizer, pre-tokenizer, model,
// post-processor and decoder are applied in its order and with its quirks. Truncation and padding
// stored in the file are ignored (as `transformers` does unless asked).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace drrik {

/// Whether BOS stands before a text.
enum class BosRule {
  kAsTokenizer,  ///< where the tokenizer's template has it
  kNever,        ///< not, even where the template has it
  kAlways,       ///< once, also where the template has none (GPT-2) or is not applied
};

/// "tokenizer", "never", "always"; throws Error(usage) otherwise.
BosRule parse_bos_rule(const std::string& name);
std::string_view bos_rule_name(BosRule rule);

struct EncodeOptions {
  /// Apply the post-processor's template (`<s> A`, `[CLS] A [SEP]`). Special-token strings that
  /// stand in the text become their ids either way.
  bool add_special_tokens = true;
  /// At most so many ids, the template's counted and never cut (as the `tokenizers` package
  /// truncates); 0: no limit.
  std::int64_t max_length = 0;
  /// kAsTokenizer goes by Tokenizer::set_bos_rule().
  BosRule bos = BosRule::kAsTokenizer;
};

struct DecodeOptions {
  /// Leave out tokens for which is_special() holds.
  bool skip_special_tokens = true;
};

/// What a tokenizer file holds: one of them is enough for any number of threads.
class Tokenizer {
 public:
  struct Impl;

  /// Reads a `tokenizer.json` or Mistral's `tekken.json`; when the name ends in `.model`, a
  /// SentencePiece model or Llama 3's tiktoken file; when in `.tiktoken`, one of OpenAI's encodings
  /// or Qwen's (`qwen.tiktoken`), by its name, since the file does not tell how text is cut. Throws
  /// Error(io) when it cannot be read, Error(data) naming the path and the member when it is
  /// malformed.
  static Tokenizer from_file(const std::filesystem::path& path);
  /// Reads the tokenizer of a model folder as `AutoTokenizer` of transformers 5.23 does: the class
  /// that `tokenizer_config.json` and `config.json` name says what is made of `tokenizer.json`, or,
  /// where there is none, of `vocab.json` and `merges.txt`, `vocab.txt`, `tekken.json`, a
  /// SentencePiece model or a tiktoken file;
  /// `special_tokens_map.json` and `added_tokens.json` add their tokens. docs/tokenizers.md has the
  /// details. Throws as from_file().
  static Tokenizer from_folder(const std::filesystem::path& folder);
  /// Whether the folder has files that from_folder() reads.
  static bool is_in(const std::filesystem::path& folder);
  /// Parses the text of a `tokenizer.json` or `tekken.json`. Throws Error(data).
  static Tokenizer from_json(std::string_view json);
  /// Parses a SentencePiece model (Unigram or BPE). Throws Error(data).
  static Tokenizer from_sentencepiece(std::string_view bytes);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  /// What texts are encoded by whose options say kAsTokenizer. Throws Error(usage) for kAlways when
  /// there is no BOS. Not thread-safe.
  void set_bos_rule(BosRule rule);

  /// Ids of one text. Invalid UTF-8 is first replaced by U+FFFD (one per maximal broken sequence).
  /// Throws Error(data) when a split pattern of the file exceeds the regex engine's limits or a
  /// model without an unknown token meets one; Error(usage) for kAlways without a BOS. Thread-safe.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// As encode(), appending to `out`, which spares the allocation in loops.
  void encode_to(std::string_view text, const EncodeOptions& options,
                 std::vector<std::int32_t>& out) const;

  /// encode() of each of `texts`, in their order, by num_threads() threads; the result does not
  /// depend on how many. Throws the first error, by order in time.
  std::vector<std::vector<std::int32_t>> encode_batch(std::span<const std::string_view> texts,
                                                      const EncodeOptions& options = {}) const;

  /// The text of `ids`: valid UTF-8, broken sequences as U+FFFD. Ids outside the vocabulary are
  /// left out, as the reference does. Thread-safe.
  std::string decode(std::span<const std::int32_t> ids, const DecodeOptions& options = {}) const;

  /// Largest id + 1, added tokens included; 0 for an empty vocabulary. Ids below may be unused.
  std::int32_t vocab_size() const;
  /// The token as the file spells it (`Ġthe`, `▁the`, `<0x0A>`); "" for an id without a token.
  /// The view lives as long as the tokenizer.
  std::string_view token_text(std::int32_t id) const;
  /// The bytes the token stands for (` the`, `\n`), perhaps half of a UTF-8 character, leading
  /// space kept; "" for an id without a token.
  std::string token_bytes(std::int32_t id) const;
  /// token_bytes() as valid UTF-8 for display: broken sequences as U+FFFD.
  std::string token_display(std::int32_t id) const;
  /// The id of a token spelt as in the file (added tokens too).
  std::optional<std::int32_t> find_token(std::string_view token) const;
  /// True for added tokens marked special, which skip_special_tokens leaves out.
  bool is_special(std::int32_t id) const;

  /// From the files beside tokenizer.json when loaded with from_folder(); otherwise from the
  /// post-processor (bos: what it puts first; eos: what it puts last) and well-known names.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  std::optional<std::int32_t> pad_id() const;
  std::optional<std::int32_t> unk_id() const;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
  BosRule bos_rule_ = BosRule::kAsTokenizer;
};

/// Turns ids into text while they are generated. The pieces returned, joined, are the decode() of
/// all ids; a piece never ends inside a UTF-8 character that later ids may complete. (One
/// exception: of byte-fallback tokens in a row that turn out not to be UTF-8, decode() replaces
/// all, the stream only those after the last whole character.)
///
///   StreamDecoder stream(tokenizer);
///   for (id : generated) std::cout << stream.push(id);
///   std::cout << stream.finish();
class StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options = {});

  /// Ids that came before and whose text is not wanted (the prompt); only before the first push().
  void prime(std::span<const std::int32_t> ids);
  /// The text that is settled by this id and was not returned before; may be "".
  std::string push(std::int32_t id);
  /// What was held back, broken sequences as U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  std::vector<std::int32_t> window_;  // the last settled ids, as context, and those since
  std::size_t settled_ = 0;           // how many of them are context
  std::size_t returned_ = 0;          // bytes of the window's text that are out
};

}  // namespace drrik
