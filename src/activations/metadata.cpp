#include "activations/metadata.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <limits>
#include <system_error>

#include "activations/collect.h"
#include "drrik/base/file.h"

namespace drrik::detail {
namespace {

constexpr std::string_view kFormat = "drrik-activations";
constexpr std::int64_t kVersion = 1;
constexpr std::uint64_t kMaxMetadataBytes = std::uint64_t{4} << 30;
constexpr int kMaxDepth = 32;

std::int64_t get_count(const Json& json, std::string_view key, std::string_view what) {
  const std::int64_t value = get_int(json, key, what);
  if (value < 0) throw_data(what, ": '", key, "' is ", value, ", wanted a count");
  return value;
}

DType get_dtype(const Json& json, std::string_view key, std::string_view what) {
  const std::string name = get_string(json, key, what);
  const auto dtype = find_dtype(name);
  if (!dtype) throw_data(what, ": '", key, "' is '", name, "', which is no dtype");
  return *dtype;
}

template <typename F>
auto as_data_error(std::string_view what, F&& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    // parse_hook() and its like speak to a user's options; here a file is wrong.
    throw_data(what, ": ", error.what());
  }
}

ExtractorOptions config_from_json(const Json& json, std::string_view what) {
  ExtractorOptions out;
  if (const Json* model = find_member(json, "model", what)) {
    const std::string where = str(what, ": model");
    expect_object(*model, where);
    out.model.model_name = get_string(*model, "model_name", where, "");
    out.model.revision = get_string(*model, "revision", where, "main");
    if (find_member(*model, "torch_dtype", where) != nullptr) {
      out.model.torch_dtype = get_dtype(*model, "torch_dtype", where);
    }
    out.model.device_map = get_string(*model, "device_map", where, "auto");
    out.model.trust_remote_code = get_bool(*model, "trust_remote_code", where, false);
  }
  if (const Json* dataset = find_member(json, "dataset", what)) {
    const std::string where = str(what, ": dataset");
    expect_object(*dataset, where);
    auto& group = out.dataset;
    group.dataset_name = get_string(*dataset, "dataset_name", where, "");
    group.dataset_config = get_string(*dataset, "dataset_config", where, "");
    group.dataset_revision = get_string(*dataset, "dataset_revision", where, "main");
    group.split = get_string(*dataset, "split", where, "train");
    group.shuffle_seed = get_int(*dataset, "shuffle_seed", where, -1);
    group.skip = get_int(*dataset, "skip", where, 0);
    group.num_samples = get_int(*dataset, "num_samples", where, -1);
    group.text_column = get_string(*dataset, "text_column", where, "");
    group.max_length = get_int(*dataset, "max_length", where, group.max_length);
    group.add_special_tokens = get_bool(*dataset, "add_special_tokens", where, true);
    const std::string bos = get_string(*dataset, "bos", where, "tokenizer");
    group.bos = as_data_error(where, [&] { return parse_bos_rule(bos); });
    group.pack = get_bool(*dataset, "pack", where, false);
    const std::string sample_by = get_string(*dataset, "sample_by", where, "line");
    group.sample_by = as_data_error(where, [&] { return parse_sample_by(sample_by); });
  }
  if (const Json* extraction = find_member(json, "extraction", what)) {
    const std::string where = str(what, ": extraction");
    expect_object(*extraction, where);
    auto& group = out.extraction;
    if (find_member(*extraction, "mlp_layers", where) != nullptr) {
      group.mlp_layers = get_ints(*extraction, "mlp_layers", where);
    }
    const std::string hook = get_string(*extraction, "hook", where, "mlp_out");
    group.hook = as_data_error(where, [&] { return parse_hook(hook); });
    const std::string positions = get_string(*extraction, "positions", where, "last");
    group.positions = as_data_error(where, [&] { return parse_positions(positions); });
    group.batch_size = get_int(*extraction, "batch_size", where, 0);
    group.max_batch_tokens =
        get_int(*extraction, "max_batch_tokens", where, group.max_batch_tokens);
    if (find_member(*extraction, "store_dtype", where) != nullptr) {
      group.store_dtype = get_dtype(*extraction, "store_dtype", where);
    }
    group.shard_bytes = get_int(*extraction, "shard_bytes", where, group.shard_bytes);
    group.output_dir = get_string(*extraction, "output_dir", where, "");
  }
  return out;
}

// A name from a file must stay inside the folder.
std::string get_file_name(const Json& json, std::string_view key, std::string_view what) {
  std::string name = get_string(json, key, what);
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw_data(what, ": '", key, "' is '", name, "', wanted a plain file name");
  }
  return name;
}

StoreHead head_from_json(const Json& json, std::string_view what) {
  expect_object(json, what);
  const std::string format = get_string(json, "format", what);
  if (format != kFormat) {
    throw_data(what, ": 'format' is '", format, "', wanted '", kFormat,
               "'; this is the metadata of something else");
  }
  const std::int64_t version = get_int(json, "version", what);
  if (version != kVersion) {
    throw_data(what, ": version ", version, " of the format, this drrik reads version ", kVersion);
  }
  StoreHead head;
  auto& metadata = head.metadata;
  metadata.complete = get_bool(json, "complete", what);
  metadata.num_samples = get_count(json, "num_samples", what);
  metadata.num_rows = get_count(json, "num_rows", what);
  metadata.skipped = get_int(json, "skipped_samples", what, 0);
  metadata.activation_dim = get_count(json, "activation_dim", what);
  metadata.layer_paths = get_strings(json, "layer_paths", what);
  if (find_member(json, "transformer_lens_names", what) != nullptr) {
    metadata.lens_names = get_strings(json, "transformer_lens_names", what);
  }
  const auto layers = static_cast<std::int64_t>(metadata.layer_paths.size());
  if (layers > 0 && metadata.activation_dim > (std::int64_t{1} << 40) / layers) {
    throw_data(what, ": activation_dim ", metadata.activation_dim, " is beyond any model");
  }
  metadata.dtype = get_dtype(json, "dtype", what);
  if (metadata.dtype != DType::kF32 && metadata.dtype != DType::kF16 &&
      metadata.dtype != DType::kBF16) {
    throw_data(what, ": dtype ", dtype_name(metadata.dtype),
               ", wanted float32, float16 or bfloat16");
  }
  metadata.config = config_from_json(expect_object(get_member(json, "config", what), what), what);

  std::int64_t rows = 0;
  std::int64_t samples = 0;
  for (const Json& entry : expect_array(get_member(json, "files", what), what)) {
    const std::string where = str(what, ": files[", head.files.size(), "]");
    expect_object(entry, where);
    StoreFile file;
    file.file = get_file_name(entry, "file", where);
    if (find_member(entry, "samples_file", where) != nullptr) {
      file.samples_file = get_file_name(entry, "samples_file", where);
    }
    file.rows = get_count(entry, "rows", where);
    file.samples = get_count(entry, "samples", where);
    file.full = get_bool(entry, "full", where, true);
    file.end.next_index = get_int(entry, "next_index", where, 0);
    file.end.consumed = get_int(entry, "consumed", where, 0);
    file.end.skipped = get_int(entry, "skipped", where, 0);
    file.end.next_token = get_int(entry, "next_token", where, 0);
    if (__builtin_add_overflow(rows, file.rows, &rows) ||
        __builtin_add_overflow(samples, file.samples, &samples)) {
      throw_data(where, ": row counts overflow");
    }
    head.files.push_back(std::move(file));
  }
  if (rows != metadata.num_rows || samples != metadata.num_samples) {
    throw_data(what, ": num_rows ", metadata.num_rows, " and num_samples ", metadata.num_samples,
               ", but its files add up to ", rows, " and ", samples);
  }
  return head;
}

// Hands the samples out while the text is parsed, so that no tree of them all is ever built.
Json parse_metadata(std::string_view text, std::string_view what, const SampleSink& sink,
                    std::int64_t& seen) {
  bool in_samples = false;
  const auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw_data(what, ": nested deeper than ", kMaxDepth);
    if (event == Json::parse_event_t::key && depth == 1) in_samples = parsed == "samples";
    if (!in_samples) return true;
    if (event == Json::parse_event_t::array_start && depth == 1) return sink != nullptr;
    if (event == Json::parse_event_t::object_end && depth == 2) {
      sink(parse_sample(parsed, str(what, ": samples[", seen, "]")));
      ++seen;
      return false;
    }
    return true;
  };
  try {
    return Json::parse(text, callback);
  } catch (const nlohmann::json::exception&) {
    parse_json(text, what);  // says where, in the words used for every other file
    throw_data(what, ": malformed JSON");
  }
}

void read_sample_lines(const std::filesystem::path& path, std::int64_t wanted,
                       const SampleSink& sink) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw_io("cannot open '", path.string(), "', which metadata.json names");
  std::string line;
  for (std::int64_t number = 1; number <= wanted; ++number) {
    if (!std::getline(in, line)) {
      throw_data("'", path.string(), "' ends after ", number - 1, " samples, metadata.json says ",
                 wanted);
    }
    const std::string where = str("'", path.string(), "', line ", number);
    sink(parse_sample(parse_json(line, where), where));
  }
  if (std::getline(in, line)) {
    throw_data("'", path.string(), "' has more than the ", wanted, " samples of metadata.json");
  }
}

void append_number(std::string& out, std::int64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}

std::string numbered(const char* form, std::int64_t number) {
  char text[64];
  std::snprintf(text, sizeof text, form, static_cast<long long>(number));
  return text;
}

}  // namespace

bool path_exists(const std::filesystem::path& path) {
  std::error_code error;
  const bool found = std::filesystem::exists(path, error);
  if (error) throw_io("'", path.string(), "': ", error.message());
  return found;
}

std::uint64_t file_bytes(const std::filesystem::path& path) {
  std::error_code error;
  const std::uint64_t bytes = std::filesystem::file_size(path, error);
  if (error) throw_io("'", path.string(), "': ", error.message());
  return bytes;
}

bool is_own_metadata(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kMetadataFile;
  std::int64_t seen = 0;
  try {
    const Json json = parse_metadata(read_file(path, kMaxMetadataBytes), path.string(), {}, seen);
    const Json* format = json.is_object() ? find_member(json, "format", path.string()) : nullptr;
    return format != nullptr && *format == kFormat;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kIo) throw;
    return false;
  }
}

std::string sample_contradiction(const SampleRecord& sample, Positions positions) {
  if (sample.input_ids.empty()) return "'input_ids' is empty, wanted at least one token";
  const auto wanted = rows_of(positions, static_cast<std::int64_t>(sample.input_ids.size()));
  if (sample.rows == wanted) return "";
  return str(sample.rows, " rows, wanted ", wanted,
             positions == Positions::kAll ? ", one a token" : ", one a text");
}

StoreHead read_store(const std::filesystem::path& folder, const SampleSink& sink) {
  const std::filesystem::path path = folder / kMetadataFile;
  const std::string what = str("'", path.string(), "'");
  std::int64_t seen = 0;
  std::int64_t next_row = 0;
  std::int64_t number = 0;
  // The configuration may come after the samples: what each of the two kinds would object to.
  struct Objection {
    Positions positions;
    std::string text;
  };
  Objection objections[] = {{Positions::kAll, ""}, {Positions::kLast, ""}};
  bool nameless = false;
  const SampleSink checked = [&](SampleRecord sample) {
    if (sample.row != next_row) {
      throw_data(what, ": a sample begins at row ", sample.row, ", wanted ", next_row);
    }
    if (__builtin_add_overflow(next_row, sample.rows, &next_row)) {
      throw_data(what, ": samples[", number, "]: row counts overflow");
    }
    if (number == 0 && sample.input_ids.empty() && sample.text.empty()) {
      nameless = true;
    } else {
      for (Objection& objection : objections) {
        if (!objection.text.empty()) continue;
        const std::string text = sample_contradiction(sample, objection.positions);
        if (!text.empty()) objection.text = str("samples[", number, "]: ", text);
      }
      sink(std::move(sample));
    }
    ++number;
  };
  const SampleSink none;
  const Json json =
      parse_metadata(read_file(path, kMaxMetadataBytes), what, sink ? checked : none, seen);
  StoreHead head = head_from_json(json, what);
  if (!sink) return head;
  bool in_files = false;
  for (const StoreFile& file : head.files) {
    if (file.samples_file.empty()) continue;
    in_files = true;
    read_sample_lines(folder / file.samples_file, file.samples, checked);
    seen += file.samples;
  }
  if (seen != 0 || in_files) {
    if (seen != head.metadata.num_samples || next_row != head.metadata.num_rows) {
      throw_data(what, ": ", seen, " samples with ", next_row, " rows, wanted ",
                 head.metadata.num_samples, " with ", head.metadata.num_rows);
    }
  }
  // Rows saved without samples stand there as one sample without tokens: it is kept to itself.
  if (nameless && number > 1) throw_data(what, ": samples[0]: 'input_ids' is empty");
  const bool all = head.metadata.config.extraction.positions == Positions::kAll;
  const std::string& objection = objections[all ? 0 : 1].text;
  if (!objection.empty()) throw_data(what, ": ", objection);
  return head;
}

Json config_to_json(const ExtractorOptions& options) {
  Json layers = Json::array();
  for (const std::int64_t layer : options.extraction.mlp_layers) layers.push_back(layer);
  const auto& model = options.model;
  const auto& dataset = options.dataset;
  const auto& extraction = options.extraction;
  return Json{{"model",
               {{"model_name", model.model_name},
                {"revision", model.revision},
                {"torch_dtype", std::string(dtype_name(model.torch_dtype))},
                {"device_map", model.device_map},
                {"trust_remote_code", model.trust_remote_code}}},
              {"dataset",
               {{"dataset_name", dataset.dataset_name},
                {"dataset_config", dataset.dataset_config},
                {"dataset_revision", dataset.dataset_revision},
                {"split", dataset.split},
                {"shuffle_seed", dataset.shuffle_seed},
                {"skip", dataset.skip},
                {"num_samples", dataset.num_samples},
                {"text_column", dataset.text_column},
                {"max_length", dataset.max_length},
                {"add_special_tokens", dataset.add_special_tokens},
                {"bos", std::string(bos_rule_name(dataset.bos))},
                {"pack", dataset.pack},
                {"sample_by", dataset.sample_by == SampleBy::kLine        ? "line"
                              : dataset.sample_by == SampleBy::kParagraph ? "paragraph"
                                                                          : "document"}}},
              {"extraction",
               {{"mlp_layers", layers},
                {"hook", std::string(hook_name(extraction.hook))},
                {"positions", std::string(positions_name(extraction.positions))},
                {"batch_size", extraction.batch_size},
                {"max_batch_tokens", extraction.max_batch_tokens},
                {"store_dtype", std::string(dtype_name(extraction.store_dtype))},
                {"shard_bytes", extraction.shard_bytes},
                {"output_dir", extraction.output_dir}}}};
}

std::string head_text(const StoreHead& head) {
  const ActivationMetadata& metadata = head.metadata;
  Json files = Json::array();
  for (const StoreFile& file : head.files) {
    Json entry{{"file", file.file}};
    if (!file.samples_file.empty()) entry["samples_file"] = file.samples_file;
    entry["rows"] = file.rows;
    entry["samples"] = file.samples;
    entry["full"] = file.full;
    entry["next_index"] = file.end.next_index;
    entry["consumed"] = file.end.consumed;
    entry["skipped"] = file.end.skipped;
    if (file.end.next_token > 0) entry["next_token"] = file.end.next_token;
    files.push_back(std::move(entry));
  }
  Json json{{"format", std::string(kFormat)},
            {"version", kVersion},
            {"complete", metadata.complete},
            {"num_samples", metadata.num_samples},
            {"skipped_samples", metadata.skipped},
            {"num_rows", metadata.num_rows},
            {"activation_dim", metadata.activation_dim},
            {"n_layers", static_cast<std::int64_t>(metadata.layer_paths.size())},
            {"row_dim", metadata.row_dim()},
            {"layer_paths", metadata.layer_paths},
            {"transformer_lens_names", metadata.lens_names},
            {"hook", std::string(hook_name(metadata.config.extraction.hook))},
            {"positions", std::string(positions_name(metadata.config.extraction.positions))},
            {"dtype", std::string(dtype_name(metadata.dtype))},
            {"config", config_to_json(metadata.config)},
            {"files", std::move(files)}};
  std::string text = json_text(json, 2);
  text.erase(text.rfind('}'));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string sample_line(const SampleRecord& sample) {
  std::string out = "{\"index\":";
  append_number(out, sample.index);
  out += ",\"row\":";
  append_number(out, sample.row);
  out += ",\"rows\":";
  append_number(out, sample.rows);
  out += ",\"text\":";
  out += json_text(Json(sample.text));
  out += ",\"input_ids\":[";
  for (std::size_t i = 0; i < sample.input_ids.size(); ++i) {
    if (i > 0) out += ',';
    append_number(out, sample.input_ids[i]);
  }
  out += "]}";
  return out;
}

SampleRecord parse_sample(const Json& json, std::string_view what) {
  expect_object(json, what);
  SampleRecord sample;
  sample.index = get_count(json, "index", what);
  sample.row = get_count(json, "row", what);
  sample.rows = get_count(json, "rows", what);
  sample.text = get_string(json, "text", what);
  for (const std::int64_t id : get_ints(json, "input_ids", what)) {
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) {
      throw_data(what, ": ", id, " is no token id");
    }
    sample.input_ids.push_back(static_cast<std::int32_t>(id));
  }
  return sample;
}

std::string shard_name(std::int64_t number) { return numbered("activations-%05lld.npy", number); }
std::string samples_name(std::int64_t number) { return numbered("samples-%05lld.jsonl", number); }

bool is_store_file(std::string_view name) {
  const auto numbered_with = [&](std::string_view prefix, std::string_view suffix) {
    if (name.substr(0, prefix.size()) != prefix) return false;
    std::string_view rest = name.substr(prefix.size());
    std::size_t digits = 0;
    while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9') ++digits;
    if (digits < 5) return false;
    rest.remove_prefix(digits);
    return rest == suffix || rest.substr(0, suffix.size() + 5) == std::string(suffix) + ".tmp-";
  };
  const auto plain = [&](std::string_view whole) {
    return name == whole || name.substr(0, whole.size() + 5) == std::string(whole) + ".tmp-";
  };
  return plain(kMetadataFile) || plain(kSingleFile) || numbered_with("activations-", ".npy") ||
         numbered_with("samples-", ".jsonl");
}

std::vector<std::filesystem::path> store_files(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> out;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (is_store_file(entry->path().filename().string())) out.push_back(entry->path());
  }
  if (error) throw_io("cannot list '", folder.string(), "': ", error.message());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace drrik::detail
