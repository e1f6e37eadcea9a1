// A dashboard as a folder or as one file. Format: docs/formats/dashboard.md.

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/base/utf8.h"
#include "drrik/sae/sparse_coder.h"
#include "io/json.h"
#include "text/precompiled.h"
#include "viz/dashboard_data.h"
#include "viz/gzip.h"
#include "viz/page.h"
#include "viz/script_json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kChunk = 64;
constexpr int kValueDigits = 5;
constexpr std::string_view kIndexStart = "drrik.index(";
constexpr std::string_view kDataMark = "<!--drrik-data-->";

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::string base64_floats(const std::vector<float>& values) {
  std::string bytes(values.size() * 4, '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, &values[i], 4);
    for (unsigned b = 0; b < 4; ++b) bytes[4 * i + b] = static_cast<char>(word >> (8 * b) & 255U);
  }
  return text::encode_base64(bytes);
}

/// The vocabulary as JSON strings.
class TokenTexts {
 public:
  explicit TokenTexts(const Tokenizer& tokenizer) : texts_(at(tokenizer.vocab_size())) {
    for (std::size_t id = 0; id < texts_.size(); ++id) {
      detail::append_json_string(texts_[id],
                                 detail::shown_token(tokenizer, static_cast<std::int32_t>(id)));
    }
  }
  void append(std::string& out, std::int32_t id) const {
    if (id >= 0 && at(id) < texts_.size()) {
      out += texts_[at(id)];
    } else {
      // A model's table may be longer than its tokenizer's.
      detail::append_json_string(out, str("[", id, "]"));
    }
  }

 private:
  std::vector<std::string> texts_;
};

template <typename Range, typename F>
void append_list(std::string& out, const Range& range, F&& one) {
  out += '[';
  bool first = true;
  for (const auto& item : range) {
    if (!first) out += ',';
    first = false;
    one(item);
  }
  out += ']';
}

class Records {
 public:
  explicit Records(const Dashboard::Data& data) : data_(data), tokens_(*data.tokenizer) {}

  Json index() const;
  std::int64_t chunks() const { return (data_.d_sae() + kChunk - 1) / kChunk; }
  /// The features of one chunk as a JSON array.
  std::string chunk(std::int64_t number) const;

 private:
  void append_window(std::string& out, const FeatureWindow& window) const;
  void append_group(std::string& out, std::string_view name, double low, double high,
                    const std::vector<FeatureWindow>& examples) const;
  void append_tokens(std::string& out, std::span<const detail::Ranked> ranked) const;
  void append_record(std::string& out, std::int64_t feature) const;

  const Dashboard::Data& data_;
  TokenTexts tokens_;
};

void Records::append_window(std::string& out, const FeatureWindow& window) const {
  out += "{\"tokens\":";
  append_list(out, window.tokens, [&](std::int32_t id) { tokens_.append(out, id); });
  out += ",\"values\":";
  append_list(out, window.values, [&](float value) {
    detail::append_json_number(out, static_cast<double>(value), kValueDigits);
  });
  out += ",\"peak\":";
  detail::append_json_integer(out, window.peak);
  out += ",\"sequence\":";
  detail::append_json_integer(out, window.sequence);
  out += ",\"position\":";
  detail::append_json_integer(out, window.position);
  out += '}';
}

void Records::append_group(std::string& out, std::string_view name, double low, double high,
                           const std::vector<FeatureWindow>& examples) const {
  out += "{\"name\":";
  detail::append_json_string(out, name);
  out += ",\"low\":";
  detail::append_json_number(out, low);
  out += ",\"high\":";
  detail::append_json_number(out, high);
  out += ",\"examples\":";
  append_list(out, examples, [&](const FeatureWindow& window) { append_window(out, window); });
  out += '}';
}

void Records::append_tokens(std::string& out, std::span<const detail::Ranked> ranked) const {
  append_list(out, ranked, [&](const detail::Ranked& one) {
    out += '[';
    tokens_.append(out, one.index);
    out += ',';
    detail::append_json_integer(out, one.index);
    out += ',';
    detail::append_json_number(out, static_cast<double>(one.value));
    out += ']';
  });
}

void Records::append_record(std::string& out, std::int64_t f) const {
  const FeatureExamples& features = data_.features;
  const auto number = [&](const char* name, double value) {
    out += name;
    detail::append_json_number(out, value);
  };
  out += "{\"feature\":";
  detail::append_json_integer(out, f);
  number(",\"density\":", features.density(f));
  out += ",\"active\":";
  detail::append_json_integer(out, features.active(f));
  number(",\"max\":", static_cast<double>(features.max(f)));
  number(",\"mean_active\":", features.mean_active(f));
  number(",\"decoder_norm\":", static_cast<double>(data_.norms[at(f)]));
  number(",\"encoder_bias\":", static_cast<double>(data_.biases[at(f)]));
  const ActivationHistogram histogram = features.histogram(f, data_.options.histogram_bins);
  // A width is a power of two times a whole number: 17 digits keep it exactly.
  out += ",\"histogram\":{\"width\":";
  detail::append_json_number(out, histogram.width, 17);
  out += ",\"counts\":";
  append_list(out, histogram.counts,
              [&](std::int64_t count) { detail::append_json_integer(out, count); });
  out += "},\"groups\":[";
  const auto top = features.top(f);
  if (!top.empty()) {
    append_group(out, "top", static_cast<double>(top.back().value),
                 static_cast<double>(top.front().value), top);
  }
  const auto max = static_cast<double>(features.max(f));
  for (const FeatureBand& band : features.bands(f)) {
    if (band.examples.empty()) continue;
    if (out.back() != '[') out += ',';
    append_group(
        out,
        str(std::lround(100.0 * band.low / max), "–", std::lround(100.0 * band.high / max), " %"),
        band.low, band.high, band.examples);
  }
  out += "],\"promoted\":";
  append_tokens(out, data_.lens ? data_.lens->promoted.of(f) : std::span<const detail::Ranked>());
  out += ",\"suppressed\":";
  append_tokens(out, data_.lens ? data_.lens->suppressed.of(f) : std::span<const detail::Ranked>());
  const auto append_pair = [&](std::int64_t index, double value) {
    out += '[';
    detail::append_json_integer(out, index);
    out += ',';
    detail::append_json_number(out, value);
  };
  out += ",\"nearest\":";
  const auto nearest = data_.nearest.of(f);
  append_list(out, nearest.first(std::min(nearest.size(), at(data_.options.nearest))),
              [&](const detail::Ranked& one) {
                append_pair(one.index, std::min(static_cast<double>(one.value), 1.0));
                out += ']';
              });
  out += ",\"coactive\":";
  append_list(out, data_.coactive[at(f)], [&](const Coactivation& one) {
    append_pair(one.feature, one.jaccard);
    out += ',';
    detail::append_json_integer(out, one.together);
    out += ']';
  });
  out += ",\"neurons\":";
  append_list(out, data_.neurons.lists.of(f), [&](const detail::Ranked& one) {
    append_pair(one.index, static_cast<double>(one.value));
    out += ']';
  });
  out += '}';
}

std::string Records::chunk(std::int64_t number) const {
  const std::int64_t begin = number * kChunk;
  const std::int64_t end = std::min(begin + kChunk, data_.d_sae());
  std::vector<std::string> records(at(end - begin));
  parallel_for(end - begin, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) append_record(records[at(i)], begin + i);
  });
  std::string out = "[";
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (i > 0) out += ",\n";
    out += records[i];
  }
  out += "]";
  return out;
}

std::vector<float> column(std::int64_t h, const std::function<double(std::int64_t)>& value) {
  std::vector<float> out(at(h));
  for (std::int64_t f = 0; f < h; ++f) out[at(f)] = static_cast<float>(value(f));
  return out;
}

Json sae_json(const Dashboard::Data& data) {
  Json sae{{"name", data.options.sae_name},      {"architecture", data.sae->architecture()},
           {"d_in", data.sae->d_in()},           {"d_sae", data.sae->d_sae()},
           {"hook", hook_name(data.hook.point)}, {"layer", data.hook.layer}};
  if (data.output != data.hook) {
    sae["output_hook"] = hook_name(data.output.point);
    sae["output_layer"] = data.output.layer;
    sae["d_out"] = data.sae->d_out();
  }
  if (const auto* coder = dynamic_cast<const SparseCoder*>(data.sae.get())) {
    const std::string& kind = coder->config().architecture;
    if (kind == "topk" || kind == "batchtopk" || kind == "matryoshka") {
      sae["l0_target"] = coder->config().k;
    }
  }
  if (!data.foreign_hook.empty()) sae["hook_name"] = data.foreign_hook;
  if (!data.record.dataset.empty()) sae["trained_on"] = data.record.dataset;
  return sae;
}

Json Records::index() const {
  const Dashboard::Data& d = data_;
  const std::int64_t h = d.d_sae();
  Json json{{"format", "drrik-dashboard"},
            {"version", 1},
            {"title", d.title},
            {"created", d.created},
            {"drrik", version()}};
  json["model"] = {{"name", d.options.model_name},
                   {"d_model", d.model.d_model},
                   {"n_layers", d.model.n_layers},
                   {"vocab_size", d.model.vocab_size}};
  json["sae"] = sae_json(d);
  json["dataset"] = {{"name", d.options.dataset.dataset_name},
                     {"tokens", d.features.rows()},
                     {"sequences", d.features.sequences()},
                     {"context_size", d.model.context_size},
                     {"context_before", d.options.examples.before},
                     {"context_after", d.options.examples.after},
                     {"special_tokens", d.options.drop_special_tokens ? "excluded" : "included"}};
  json["summary"] = Json::object();
  for (const auto& [name, value] : d.summary) json["summary"][name] = value;
  json["notes"] = Json::object();
  for (const auto& [name, text] : d.notes) json["notes"][name] = text;

  Json edges = Json::array();
  const std::vector<std::int64_t> counts = d.metrics.density_histogram();
  for (std::size_t i = 0; i <= counts.size(); ++i) {
    edges.push_back(-8.0 + 0.25 * static_cast<double>(i));
  }
  json["density_histogram"] = {{"edges", edges}, {"counts", counts}};
  json["training"] = {{"series", Json::array()}};
  for (const TrainingSeries& series : d.training) {
    json["training"]["series"].push_back({{"name", series.name}, {"x", series.x}, {"y", series.y}});
  }
  json["map"] = {{"method", "pca"}, {"explained", d.map.explained}};
  json["coactivation"] = "jaccard";
  json["chunk_size"] = kChunk;

  const FeatureExamples& features = d.features;
  json["columns"] = {
      {"density", base64_floats(column(h, [&](std::int64_t f) { return features.density(f); }))},
      {"max", base64_floats(
                  column(h, [&](std::int64_t f) { return static_cast<double>(features.max(f)); }))},
      {"mean", base64_floats(column(h, [&](std::int64_t f) { return features.mean(f); }))},
      {"decoder_norm", base64_floats(d.norms)},
      {"encoder_bias", base64_floats(d.biases)},
      {"map_x", base64_floats(d.map.x)},
      {"map_y", base64_floats(d.map.y)},
      {"similarity", base64_floats(column(h, [&](std::int64_t f) {
         const auto list = d.nearest.of(f);
         return list.empty() ? 0.0 : std::min(static_cast<double>(list.front().value), 1.0);
       }))}};

  constexpr std::size_t kShown = 3;
  json["fires_on"] = Json::array();
  json["promotes"] = Json::array();
  for (std::int64_t f = 0; f < h; ++f) {
    Json fires = Json::array();
    for (const std::int32_t id : d.fires_on(f, kShown)) {
      fires.push_back(detail::shown_token(*d.tokenizer, id));
    }
    json["fires_on"].push_back(std::move(fires));
    Json promotes = Json::array();
    if (d.lens) {
      const auto promoted = d.lens->promoted.of(f);
      for (const auto& one : promoted.first(std::min(kShown, promoted.size()))) {
        promotes.push_back(detail::shown_token(*d.tokenizer, one.index));
      }
    }
    json["promotes"].push_back(std::move(promotes));
  }
  json["labels"] = Json::object();
  for (const auto& [feature, label] : d.labels) {
    if (feature < h) json["labels"][std::to_string(feature)] = label;
  }
  return json;
}

/// Two texts around the place where packed data go.
std::pair<std::string_view, std::string_view> split_page() {
  const std::string_view page = dashboard_page();
  const std::size_t mark = page.find(kDataMark);
  if (mark == std::string_view::npos) {
    throw_data("the embedded page has no place for data (", kDataMark, ")");
  }
  return {page.substr(0, mark), page.substr(mark + kDataMark.size())};
}

void refuse_foreign(const fs::path& data) {
  if (!fs::exists(data)) return;
  if (fs::is_directory(data)) {
    if (fs::is_empty(data)) return;
    const fs::path index = data / "index.js";
    if (fs::is_regular_file(index)) {
      const auto mapped = MappedFile::open(index);
      const auto bytes = mapped->bytes();
      if (bytes.size() > kIndexStart.size() &&
          std::memcmp(bytes.data(), kIndexStart.data(), kIndexStart.size()) == 0) {
        return;
      }
    }
  }
  throw_usage("'", data.string(), "' is there and is no dashboard's: choose another --output");
}

/// A folder that goes away unless it is renamed.
class TemporaryData {
 public:
  explicit TemporaryData(fs::path path) : path_(std::move(path)) {
    fs::remove_all(path_);
    create_folders(path_);
  }
  ~TemporaryData() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryData(const TemporaryData&) = delete;
  TemporaryData& operator=(const TemporaryData&) = delete;
  const fs::path& path() const { return path_; }

  void become(const fs::path& target) {
    std::error_code error;
    fs::path old;
    if (fs::exists(target)) {
      old = path_;
      old += ".old";
      fs::remove_all(old);
      fs::rename(target, old, error);
      if (error) throw_io("cannot replace '", target.string(), "': ", error.message());
    }
    fs::rename(path_, target, error);
    if (error) {
      std::error_code ignored;
      if (!old.empty()) fs::rename(old, target, ignored);
      throw_io("cannot rename to '", target.string(), "': ", error.message());
    }
    std::error_code ignored;
    if (!old.empty()) fs::remove_all(old, ignored);
  }

 private:
  fs::path path_;
};

}  // namespace

void check_dashboard_folder(const fs::path& folder) { refuse_foreign(folder / "data"); }

fs::path Dashboard::write_folder(const fs::path& folder) const {
  create_folders(folder);
  const fs::path target = folder / "data";
  refuse_foreign(target);
  const auto [before, after] = split_page();
  const Records records(*data_);
  TemporaryData work(folder / str(".data-", getpid()));
  for (std::int64_t n = 0; n < records.chunks(); ++n) {
    check_interrupt("writing the dashboard");
    AtomicFile file(work.path() / "features" / str(n, ".js"));
    file.write(str("drrik.chunk(", n, ",\n"));
    file.write(records.chunk(n));
    file.write(");\n");
    file.commit();
  }
  write_file_atomic(work.path() / "index.js",
                    str(kIndexStart, detail::script_safe(json_text(records.index())), ");\n"));
  work.become(target);
  const fs::path page = folder / "index.html";
  write_file_atomic(page, str(before, after));
  if (!data_->labels.empty()) save_labels(data_->labels, folder / "labels.json");
  return page;
}

void Dashboard::write_file(const fs::path& path) const {
  const auto [before, after] = split_page();
  const Records records(*data_);
  AtomicFile file(path);
  const auto put = [&](std::string_view id, std::string_view json) {
    file.write(str("<script type=\"text/plain\" id=\"", id, "\">"));
    file.write(text::encode_base64(detail::gzip(json)));
    file.write("</script>\n");
  };
  file.write(before);
  put("drrik-index", json_text(records.index()));
  for (std::int64_t n = 0; n < records.chunks(); ++n) {
    check_interrupt("writing the dashboard");
    put(str("drrik-chunk-", n), records.chunk(n));
  }
  file.write(after);
  file.commit();
}

}  // namespace drrik
