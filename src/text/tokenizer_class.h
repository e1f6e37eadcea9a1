#pragma once
// What the classes of `transformers` make of a vocabulary: the pipeline around the model, which
// they build anew even when a tokenizer.json lies there, and their special tokens.
//
// Source: transformers 5.23, AutoTokenizer and models/*/tokenization_*.py.

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace drrik::text {

/// The named special tokens, in the order in which they are added.
enum SpecialName : std::size_t { kBos, kEos, kUnk, kSep, kPad, kCls, kMask, kSpecialNames };
constexpr std::array<const char*, kSpecialNames> kSpecialKeys = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

/// Members of tokenizer_config.json that a class's pipeline depends on.
struct ClassSettings {
  std::optional<bool> add_prefix_space;
  std::optional<bool> strip_accents;
  bool do_lower_case = true;
  bool tokenize_chinese_chars = true;
  bool legacy = false;
  int extra_ids = 100;
  std::string unk_token;  // "" for none
};

/// What becomes of the post-processor once the class has built itself.
enum class ClassTemplate {
  kKept,     ///< the file's; where there is none, BOS and EOS as the configuration's flags say
  kFlags,    ///< BOS and EOS as the flags say
  kClsSep,   ///< `[CLS] A [SEP]`
  kTextEos,  ///< `A </s>`
};

struct TokenizerClass {
  const char* name;
  const char* model;                               ///< type of the model
  const char* vocab_file;                          ///< nullptr: only tokenizer.json
  const char* merges_file;                         ///< nullptr: none
  std::array<const char*, kSpecialNames> special;  ///< defaults; nullptr: none
  /// JSON of the members normalizer, pre_tokenizer, decoder and model (without its vocabulary).
  std::string (*pipeline)(const ClassSettings&);
  ClassTemplate post;
  /// What a tokenizer.json must name to be of the class's kind.
  enum class Mark { kNone, kByteLevel, kSpaceMark } mark;
};

/// Whether the class can take this tokenizer.json apart. (transformers only asks that of
/// LlamaTokenizer; elsewhere it makes nonsense of a file of another kind.)
bool fits(const TokenizerClass& tokenizer_class, std::string_view json);

/// The class of a folder, nullptr for TokenizersBackend, which takes tokenizer.json as it is.
struct ClassHints {
  std::string model_type;   ///< of config.json; "" unknown
  std::string tokenizer;    ///< tokenizer_class of tokenizer_config.json, else of config.json
  bool byte_level = false;  ///< tokenizer.json names ByteLevel
};
const TokenizerClass* find_tokenizer_class(const ClassHints& hints);

/// By its name or an alias, `Fast` at the end or not; nullptr for others.
const TokenizerClass* find_tokenizer_class(std::string_view name);

}  // namespace drrik::text
