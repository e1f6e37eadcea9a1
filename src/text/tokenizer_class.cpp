#include "text/tokenizer_class.h"

#include <algorithm>
#include <utility>

#include "drrik/base/error.h"
#include "text/sentencepiece.h"
#include "text/splitters.h"

namespace drrik::text {
namespace {

const char* boolean(bool value) { return value ? "true" : "false"; }

constexpr const char* kByteLevelDecoder =
    R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";

std::string byte_level(bool prefix, bool use_regex) {
  return str(R"({"type":"ByteLevel","add_prefix_space":)", boolean(prefix),
             R"(,"trim_offsets":true,"use_regex":)", boolean(use_regex), "}");
}

/// GPT-2's cut into bytes, after `normalizer`.
std::string bytes_pipeline(const ClassSettings& settings, const char* normalizer) {
  return str(R"({"normalizer":)", normalizer, R"(,"pre_tokenizer":)",
             byte_level(settings.add_prefix_space.value_or(false), true), R"(,"decoder":)",
             kByteLevelDecoder, R"(,"model":{"type":"BPE"}})");
}

std::string gpt2(const ClassSettings& settings) { return bytes_pipeline(settings, "null"); }

std::string gpt_neox(const ClassSettings& settings) {
  return bytes_pipeline(settings, R"({"type":"NFC"})");
}

std::string qwen2(const ClassSettings& settings) {
  return str(R"({"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[)",
             R"({"type":"Split","pattern":{"Regex":)",
             quote_json(pattern_text(KnownPattern::kQwen2)),
             R"(},"behavior":"Isolated","invert":false},)",
             byte_level(settings.add_prefix_space.value_or(false), false), R"(]},"decoder":)",
             kByteLevelDecoder, R"(,"model":{"type":"BPE"}})");
}

constexpr const char* kMarkToSpace =
    R"({"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"})";

std::string llama(const ClassSettings& settings) {
  const bool prefix = settings.add_prefix_space.value_or(true);
  const char* scheme = !prefix ? "never" : (settings.legacy ? "always" : "first");
  return str(R"({"normalizer":null,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581",)",
             R"("prepend_scheme":")", scheme, R"(","split":false},)",
             R"("decoder":{"type":"Sequence","decoders":[)", kMarkToSpace,
             prefix ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : "",
             R"(]},"model":{"type":"BPE","fuse_unk":true,"byte_fallback":true}})");
}

std::string gemma(const ClassSettings& settings) {
  return str(R"({"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"\u2581"},)",
             R"("pre_tokenizer":{"type":"Split","pattern":{"String":" "},)",
             R"("behavior":"MergedWithPrevious","invert":false},)",
             R"("decoder":{"type":"Sequence","decoders":[)", kMarkToSpace,
             R"(]},"model":{"type":"BPE","fuse_unk":true,"byte_fallback":true,"unk_token":)",
             quote_json(settings.unk_token), "}}");
}

std::string bert(const ClassSettings& settings) {
  const char* accents = !settings.strip_accents ? "null" : boolean(*settings.strip_accents);
  return str(
      R"({"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":)",
      boolean(settings.tokenize_chinese_chars), R"(,"strip_accents":)", accents, R"(,"lowercase":)",
      boolean(settings.do_lower_case), R"(},"pre_tokenizer":{"type":"BertPreTokenizer"},)",
      R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true},)",
      R"("model":{"type":"WordPiece","continuing_subword_prefix":"##",)",
      R"("max_input_chars_per_word":100,"unk_token":)", quote_json(settings.unk_token), "}}");
}

std::string t5(const ClassSettings&) {
  // The charsmap, where there is one, is put in by the caller: it comes with the vocabulary.
  return R"({"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[)"
         R"({"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"\u2581",)"
         R"("prepend_scheme":"always","split":true}]},"decoder":{"type":"Metaspace",)"
         R"("replacement":"\u2581","prepend_scheme":"always","split":true},)"
         R"("model":{"type":"Unigram","unk_id":2,"exact_scores":true}})";
}

constexpr const char* kEnd = "<|endoftext|>";

using Mark = TokenizerClass::Mark;

constexpr TokenizerClass kClasses[] = {
    {"GPT2Tokenizer",
     "BPE",
     "vocab.json",
     "merges.txt",
     {kEnd, kEnd, kEnd, nullptr, nullptr, nullptr, nullptr},
     gpt2,
     ClassTemplate::kKept,
     Mark::kByteLevel},
    {"CodeGenTokenizer",
     "BPE",
     "vocab.json",
     "merges.txt",
     {kEnd, kEnd, kEnd, nullptr, nullptr, nullptr, nullptr},
     gpt2,
     ClassTemplate::kKept,
     Mark::kByteLevel},
    {"GPTNeoXTokenizer",
     "BPE",
     "vocab.json",
     "merges.txt",
     {kEnd, kEnd, kEnd, nullptr, "<|padding|>", nullptr, nullptr},
     gpt_neox,
     ClassTemplate::kFlags,
     Mark::kByteLevel},
    {"Qwen2Tokenizer",
     "BPE",
     "vocab.json",
     "merges.txt",
     {nullptr, kEnd, kEnd, nullptr, kEnd, nullptr, nullptr},
     qwen2,
     ClassTemplate::kKept,
     Mark::kByteLevel},
    {"LlamaTokenizer",
     "BPE",
     "tokenizer.model",
     nullptr,
     {"<s>", "</s>", "<unk>", nullptr, nullptr, nullptr, nullptr},
     llama,
     ClassTemplate::kKept,
     Mark::kSpaceMark},
    {"GemmaTokenizer",
     "BPE",
     nullptr,
     nullptr,
     {"<bos>", "<eos>", "<unk>", nullptr, "<pad>", nullptr, "<mask>"},
     gemma,
     ClassTemplate::kKept,
     Mark::kSpaceMark},
    {"BertTokenizer",
     "WordPiece",
     "vocab.txt",
     nullptr,
     {nullptr, nullptr, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"},
     bert,
     ClassTemplate::kClsSep,
     Mark::kNone},
    {"RobertaTokenizer",
     "BPE",
     "vocab.json",
     "merges.txt",
     {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
     gpt2,
     ClassTemplate::kClsSep,
     Mark::kByteLevel},
    {"T5Tokenizer",
     "Unigram",
     "spiece.model",
     nullptr,
     {nullptr, "</s>", "<unk>", nullptr, "<pad>", nullptr, nullptr},
     t5,
     ClassTemplate::kTextEos,
     Mark::kSpaceMark},
};

constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"BartTokenizer", "RobertaTokenizer"},       {"DistilBertTokenizer", "BertTokenizer"},
    {"ElectraTokenizer", "BertTokenizer"},       {"LEDTokenizer", "RobertaTokenizer"},
    {"LongformerTokenizer", "RobertaTokenizer"}, {"MobileBertTokenizer", "BertTokenizer"},
    {"Phi3Tokenizer", "LlamaTokenizer"},         {"SqueezeBertTokenizer", "BertTokenizer"},
};

/// The class that AutoTokenizer registers for a model type; "" where it takes tokenizer.json as it
/// is whatever the folder says. Types that are not here go by what the folder says.
constexpr std::pair<std::string_view, std::string_view> kRegistered[] = {
    {"bart", "RobertaTokenizer"},
    {"bert", "BertTokenizer"},
    {"codegen", "GPT2Tokenizer"},
    {"distilbert", "BertTokenizer"},
    {"electra", "BertTokenizer"},
    {"gemma", "GemmaTokenizer"},
    {"gemma2", "GemmaTokenizer"},
    {"gemma3", "GemmaTokenizer"},
    {"gemma3_text", "GemmaTokenizer"},
    {"gpt2", "GPT2Tokenizer"},
    {"gpt_bigcode", ""},
    {"gpt_neo", "GPT2Tokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"},
    {"gptj", "GPT2Tokenizer"},
    {"granite", ""},
    {"mistral", ""},
    {"mixtral", ""},
    {"modernbert", ""},
    {"mpt", "GPTNeoXTokenizer"},
    {"mt5", "T5Tokenizer"},
    {"olmo", "GPTNeoXTokenizer"},
    {"olmo2", ""},
    {"olmo3", ""},
    {"opt", "GPT2Tokenizer"},
    {"phi", "GPT2Tokenizer"},
    {"phi3", ""},
    {"qwen2", "Qwen2Tokenizer"},
    {"qwen2_moe", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},
    {"qwen3_moe", "Qwen2Tokenizer"},
    {"roberta", "RobertaTokenizer"},
    {"stablelm", ""},
    {"starcoder2", "GPT2Tokenizer"},
    {"t5", "T5Tokenizer"},
};

/// Types for which AutoTokenizer knows better than the files on the Hub.
constexpr std::string_view kOverruled[] = {"qwen2"};

std::string_view without_fast(std::string_view name) {
  if (name.ends_with("Fast")) name.remove_suffix(4);
  return name;
}

bool is_backend(std::string_view name) {
  return name.empty() || name == "TokenizersBackend" || name == "PreTrainedTokenizer" ||
         name == "PythonBackend" || name == "BloomTokenizer";
}

}  // namespace

const TokenizerClass* find_tokenizer_class(std::string_view name) {
  name = without_fast(name);
  for (const auto& [alias, wanted] : kAliases) {
    if (name == alias) name = wanted;
  }
  const auto* found = std::find_if(std::begin(kClasses), std::end(kClasses),
                                   [&](const TokenizerClass& c) { return name == c.name; });
  return found == std::end(kClasses) ? nullptr : found;
}

bool fits(const TokenizerClass& tokenizer_class, std::string_view json) {
  const auto names = [&](std::string_view part) { return json.find(part) != json.npos; };
  switch (tokenizer_class.mark) {
    case Mark::kByteLevel:
      return names("\"ByteLevel\"");
    case Mark::kSpaceMark:
      return names("\xE2\x96\x81") || names("\\u2581");
    case Mark::kNone:
      break;
  }
  return true;
}

const TokenizerClass* find_tokenizer_class(const ClassHints& hints) {
  const std::string_view said = without_fast(hints.tokenizer);
  const auto* registered =
      std::find_if(std::begin(kRegistered), std::end(kRegistered),
                   [&](const auto& entry) { return entry.first == hints.model_type; });
  const bool overruled = std::ranges::count(kOverruled, hints.model_type) > 0;
  // LlamaTokenizer cuts at spaces; files of Llama 3 and its like name it, and mean bytes.
  if (said == "LlamaTokenizer" && hints.byte_level && !overruled) return nullptr;
  if (registered != std::end(kRegistered)) {
    if (registered->second.empty()) {
      // Only what the folder calls by the registered name keeps it; there is no such class here.
      return nullptr;
    }
    if (said.empty() || said == registered->second || overruled) {
      return find_tokenizer_class(registered->second);
    }
  }
  return is_backend(said) ? nullptr : find_tokenizer_class(said);
}

}  // namespace drrik::text
