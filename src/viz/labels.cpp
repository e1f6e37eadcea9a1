#include "drrik/viz/labels.h"

#include <charconv>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/utf8.h"
#include "io/json.h"
#include "viz/gzip.h"

namespace drrik {
namespace {

constexpr std::int64_t kLargestFeature = (std::int64_t{1} << 31) - 1;
constexpr std::size_t kLongestLabel = 4096;
constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 30;
constexpr std::string_view kFormat = "drrik-labels";

std::int64_t feature_number(std::string_view text, std::string_view where) {
  std::int64_t feature = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), feature);
  if (error != std::errc{} || end != text.data() + text.size() || feature < 0 ||
      feature > kLargestFeature) {
    throw_data(where, ": '", mend_utf8(text.substr(0, 40)), "' is no feature; wanted 0 to ",
               kLargestFeature);
  }
  return feature;
}

void set_label(FeatureLabels& labels, std::int64_t feature, std::string_view label,
               std::string_view where) {
  if (label.size() > kLongestLabel) {
    throw_data(where, ": the label of feature ", feature, " has ", label.size(),
               " bytes, wanted at most ", kLongestLabel);
  }
  const std::string_view bare = trim(label);
  if (bare.empty()) {
    labels.erase(feature);
  } else {
    labels[feature] = mend_utf8(bare);
  }
}

void add_explanation(FeatureLabels& labels, const Json& row, std::string_view where) {
  expect_object(row, where);
  const Json& index = get_member(row, "index", where);
  const std::int64_t feature =
      index.is_string()
          ? feature_number(index.get_ref<const std::string&>(), where)
          : feature_number(std::to_string(json_int(index, str(where, ": 'index'"))), where);
  set_label(labels, feature, get_string(row, "description", where, ""), where);
}

FeatureLabels from_own(const Json& json, std::string_view what) {
  const std::string format = get_string(json, "format", what);
  if (format != kFormat) {
    throw_data(what, ": 'format' is '", mend_utf8(format), "', wanted '", kFormat, "'");
  }
  const std::int64_t version = get_int(json, "version", what);
  if (version != 1) {
    throw_data(what, ": version ", version, ", this drrik reads version 1");
  }
  FeatureLabels labels;
  const Json& members = expect_object(get_member(json, "labels", what), str(what, ": 'labels'"));
  for (const auto& [key, value] : members.items()) {
    const std::string where = str(what, ": label '", mend_utf8(key.substr(0, 40)), "'");
    set_label(labels, feature_number(key, what), json_string(value, where), what);
  }
  return labels;
}

}  // namespace

FeatureLabels parse_labels(std::string_view text, std::string_view what) {
  const std::string_view bare = trim(text);
  FeatureLabels labels;
  // One object is a labels.json, or a single explanation; an object a line are explanations.
  const std::size_t line_end = bare.find('\n');
  const bool lines = !bare.empty() && bare.front() == '{' && line_end != std::string_view::npos &&
                     line_end > 0 && trim(bare.substr(0, line_end)).back() == '}';
  if (lines) {
    std::int64_t number = 0;
    for (std::size_t begin = 0; begin < bare.size();) {
      const std::size_t end = std::min(bare.find('\n', begin), bare.size());
      const std::string_view line = trim(bare.substr(begin, end - begin));
      begin = end + 1;
      ++number;
      if (line.empty()) continue;
      const std::string where = str(what, ": line ", number);
      add_explanation(labels, parse_json(line, where), where);
    }
    return labels;
  }
  const Json json = parse_json(bare, what);
  if (json.is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i) {
      add_explanation(labels, json[i], str(what, ": [", i, "]"));
    }
    return labels;
  }
  expect_object(json, what);
  if (!json.contains("format") && json.contains("index")) {
    add_explanation(labels, json, what);
    return labels;
  }
  return from_own(json, what);
}

FeatureLabels load_labels(const std::filesystem::path& path) {
  std::string bytes = read_file(path, kLargestFile);
  if (detail::is_gzip(bytes)) {
    try {
      bytes = detail::gunzip(bytes, kLargestFile);
    } catch (Error& error) {
      throw error.add_context(path.string());
    }
  }
  return parse_labels(bytes, path.string());
}

std::string labels_text(const FeatureLabels& labels) {
  Json json = {{"format", kFormat}, {"version", 1}, {"labels", Json::object()}};
  for (const auto& [feature, label] : labels) json["labels"][std::to_string(feature)] = label;
  return json_text(json, 2) + "\n";
}

void save_labels(const FeatureLabels& labels, const std::filesystem::path& path) {
  write_file_atomic(path, labels_text(labels));
}

}  // namespace drrik
