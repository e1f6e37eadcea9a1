// drrik tokenize: texts to ids, one JSON array a text, and back.

#include <filesystem>
#include <iostream>
#include <memory>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"
#include "drrik/text/tokenizer.h"
#include "options.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::optional<std::string> text;
  std::string file;
  bool no_special_tokens = false;
  bool keep_special_tokens = false;
  bool decode = false;
};

/// That of a model, or a tokenizer file by itself.
Tokenizer open_any(const Config& config) {
  const std::string& model = config.extractor.model.model_name;
  std::error_code error;
  if (!std::filesystem::is_regular_file(model, error)) {
    return open_tokenizer(config, ModelPart::kTokenizer);
  }
  Tokenizer tokenizer = Tokenizer::from_file(model);
  tokenizer.set_bos_rule(parse_bos_rule(config.extractor.dataset.bos));
  return tokenizer;
}

void print_ids(const std::vector<std::int32_t>& ids) {
  std::string line = "[";
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) line += ", ";
    line += std::to_string(ids[i]);
  }
  line += "]\n";
  std::cout << line;
}

// Ids as a JSON array or as numbers between spaces or commas.
std::vector<std::int32_t> read_ids(const std::string& line, const std::string& flag) {
  std::string text = line;
  for (char& c : text) {
    if (c == '[' || c == ']') c = ' ';
  }
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : parse_integers(text, flag)) {
    if (id < 0 || id > INT32_MAX) throw_usage(flag, ": ", id, " is not a token id");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void decode(const Globals& globals, const Flags& flags, const Tokenizer& tokenizer) {
  const auto print = [&](const std::string& line, const std::string& flag) {
    const std::vector<std::int32_t> ids = read_ids(line, flag);
    for (const std::int32_t id : ids) {
      if (id >= tokenizer.vocab_size()) {
        throw_data(flag, ": token ", id, ", the vocabulary has 0 to ", tokenizer.vocab_size() - 1);
      }
    }
    const std::string text =
        tokenizer.decode(ids, {.skip_special_tokens = !flags.keep_special_tokens});
    std::cout << (globals.json ? Json(text).dump() : text) << "\n";
  };
  if (flags.text) return print(*flags.text, "--text");
  const std::string text = read_file(flags.file);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) print(text.substr(begin, end - begin), "--file");
    begin = end + 1;
  }
}

void run(const Globals& globals, const Flags& flags) {
  // A text or a file wins over a dataset that only the configuration names.
  const bool direct = flags.text || !flags.file.empty();
  const bool dataset = globals.given("extractor.dataset.dataset_name") ||
                       (!direct && !globals.config.extractor.dataset.dataset_name.empty());
  const int inputs = (flags.text ? 1 : 0) + (flags.file.empty() ? 0 : 1) + (dataset ? 1 : 0);
  if (inputs != 1) {
    throw_usage("tokenize: got ", inputs, " of --text, --file, --dataset; wanted one");
  }
  const Tokenizer tokenizer = open_any(globals.config);
  if (flags.decode) {
    if (dataset) throw_usage("--decode takes --text or --file, not --dataset");
    return decode(globals, flags, tokenizer);
  }
  const EncodeOptions options{.add_special_tokens = !flags.no_special_tokens};
  if (flags.text) return print_ids(tokenizer.encode(*flags.text, options));
  if (!flags.file.empty()) return print_ids(tokenizer.encode(read_file(flags.file), options));
  const auto source = open_dataset(dataset_options(globals.config));
  // Rows are taken some at a time, to be shared among the threads.
  constexpr std::size_t kTogether = 1024;
  constexpr std::size_t kTogetherBytes = std::size_t{4} << 20;
  bool more = true;
  while (more) {
    check_interrupt("tokenizing");
    std::vector<std::string> texts;
    std::size_t bytes = 0;
    while (texts.size() < kTogether && bytes < kTogetherBytes) {
      auto sample = source->next();
      more = sample.has_value();
      if (!more) break;
      bytes += sample->text.size();
      texts.push_back(std::move(sample->text));
    }
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    for (const auto& ids : tokenizer.encode_batch(views, options)) print_ids(ids);
  }
}

}  // namespace

Command tokenize_command() {
  return {"tokenize", "Turn texts into token ids, or ids into text",
          "  drrik tokenize --model assets/demo/model --text \"The old man and the sea\"\n"
          "  drrik tokenize --model tokenizer.json --file book.txt > ids.json\n"
          "  drrik tokenize --model tokenizer.json --decode --text \"[12, 7, 99]\"\n",
          [](CLI::App& app, Globals& globals) -> std::function<void()> {
            auto flags = std::make_shared<Flags>();
            add_setting(app, globals, "--model", "extractor.model.model_name")
                ->description("Model folder, Hub id, tokenizer.json or tokenizer.model");
            add_setting(app, globals, "--revision", "extractor.model.revision");
            app.add_option("--text", flags->text, "One text (or ids, with --decode)");
            app.add_option("--file", flags->file, "A file: one text (or an array of ids a line)");
            add_dataset_settings(app, globals);
            app.add_flag("--no-special-tokens", flags->no_special_tokens,
                         "Leave out what the tokenizer adds (<s> and the like)");
            add_bos_settings(app, globals);
            app.add_flag("--decode", flags->decode, "Turn ids into text");
            app.add_flag("--keep-special-tokens", flags->keep_special_tokens,
                         "Show special tokens when decoding");
            return [&globals, flags] { run(globals, *flags); };
          }};
}

}  // namespace drrik::cli
