// drrik tokenize: texts to ids, one JSON array a text, and back.

#include <filesystem>
#include <iostream>
#include <memory>

#include "cli.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/data/source.h"
#include "drrik/text/tokenizer.h"

namespace drrik::cli {
namespace {

struct Flags {
  std::string model;
  std::optional<std::string> text;
  std::string file;
  DatasetOptions dataset;
  std::string sample_by = "line";
  bool no_special_tokens = false;
  bool keep_special_tokens = false;
  bool decode = false;
};

Tokenizer open_tokenizer(const std::string& model) {
  if (std::filesystem::is_directory(model)) return Tokenizer::from_folder(model);
  if (std::filesystem::exists(model)) return Tokenizer::from_file(model);
  return Tokenizer::from_folder(resolve_model(model));
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
    const std::string text =
        tokenizer.decode(read_ids(line, flag), {.skip_special_tokens = !flags.keep_special_tokens});
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
  const int inputs =
      (flags.text ? 1 : 0) + (flags.file.empty() ? 0 : 1) + (flags.dataset.path.empty() ? 0 : 1);
  if (inputs != 1)
    throw_usage("tokenize: got ", inputs, " of --text, --file, --dataset; wanted one");
  const Tokenizer tokenizer = open_tokenizer(flags.model);
  if (flags.decode) {
    if (!flags.dataset.path.empty()) throw_usage("--decode takes --text or --file, not --dataset");
    return decode(globals, flags, tokenizer);
  }
  const EncodeOptions options{.add_special_tokens = !flags.no_special_tokens};
  if (flags.text) return print_ids(tokenizer.encode(*flags.text, options));
  if (!flags.file.empty()) return print_ids(tokenizer.encode(read_file(flags.file), options));
  DatasetOptions dataset = flags.dataset;
  dataset.sample_by = parse_sample_by(flags.sample_by);
  const auto source = open_dataset(dataset);
  std::vector<std::int32_t> ids;
  while (auto sample = source->next()) {
    check_interrupt("tokenizing");
    ids.clear();
    tokenizer.encode_to(sample->text, options, ids);
    print_ids(ids);
  }
}

}  // namespace

Command tokenize_command() {
  return {
      "tokenize", "Turn texts into token ids, or ids into text",
      "  drrik tokenize --model assets/demo/model --text \"The old man and the sea\"\n"
      "  drrik tokenize --model tokenizer.json --file book.txt > ids.json\n"
      "  drrik tokenize --model tokenizer.json --decode --text \"[12, 7, 99]\"\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        app.add_option("--model", flags->model, "Model folder or tokenizer.json")->required();
        app.add_option("--text", flags->text, "One text (or ids, with --decode)");
        app.add_option("--file", flags->file, "A file: one text (or an array of ids a line)");
        app.add_option("--dataset", flags->dataset.path, "A dataset: one array a row");
        app.add_option("--text-column", flags->dataset.text_column, "Column that holds the text");
        app.add_option("--num-samples", flags->dataset.num_samples, "At most so many rows");
        app.add_option("--sample-by", flags->sample_by, "line, paragraph or document (text files)");
        app.add_flag("--no-special-tokens", flags->no_special_tokens,
                     "Leave out what the tokenizer adds (<s> and the like)");
        app.add_flag("--decode", flags->decode, "Turn ids into text");
        app.add_flag("--keep-special-tokens", flags->keep_special_tokens,
                     "Show special tokens when decoding");
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
