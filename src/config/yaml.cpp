// YAML files. Every key is looked up in the table of options, so that nothing is walked that is
// not an option: aliases (which yaml-cpp keeps as shared nodes) and cycles cost nothing.

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <exception>
#include <set>
#include <sstream>

#include "config/fields.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"

namespace drrik {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 20U;
constexpr int kMaxIndent = 64;  // Options nest three deep; a block this deep is no configuration.

std::string at(std::string_view where, const YAML::Mark& mark) {
  if (mark.is_null()) return str(where, ": ");
  return str(where, ":", mark.line + 1, ": ");
}

std::string kind(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Scalar:
      return detail::quoted(node.Scalar());
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a group of options";
    case YAML::NodeType::Undefined:
      break;
  }
  return "nothing";
}

void merge_field(Config& config, const detail::Field& field, const YAML::Node& key,
                 const YAML::Node& value, std::string_view where) {
  // A missing value is where its key is; yaml-cpp marks it at what follows.
  const std::string here = at(where, value.IsNull() ? key.Mark() : value.Mark());
  switch (value.Type()) {
    case YAML::NodeType::Null:
      detail::assign_null(field, config, here);
      return;
    case YAML::NodeType::Scalar:
      detail::assign(field, config, value.Scalar(), here);
      return;
    case YAML::NodeType::Sequence: {
      std::vector<std::string> items;
      for (const YAML::Node& item : value) {
        if (!item.IsScalar()) {
          throw_usage(at(where, item.Mark()), field.path, ": got ", kind(item),
                      " in the list, wanted ", detail::type_name(field.ref(config)));
        }
        items.push_back(item.Scalar());
      }
      detail::assign_items(field, config, items, here);
      return;
    }
    default:
      throw_usage(here, field.path, ": got ", kind(value), ", wanted ",
                  detail::type_name(field.ref(config)));
  }
}

// `seen` has every option set by this file so far, under whatever name.
void merge_group(Config& config, const std::string& prefix, const YAML::Node& group,
                 std::string_view where, std::set<std::string>& seen) {
  for (const auto& entry : group) {
    const YAML::Node& key = entry.first;
    const YAML::Node& value = entry.second;
    const std::string here = at(where, key.Mark());
    if (!key.IsScalar()) throw_usage(here, "got ", kind(key), " as a key, wanted an option's name");
    if (key.Scalar() == "<<") throw_usage(here, "merge keys ('<<') are not supported");
    const std::string inner = detail::find_group(prefix, key.Scalar());
    if (!inner.empty()) {
      if (value.IsNull()) continue;
      if (!value.IsMap()) {
        throw_usage(at(where, value.Mark()), inner.substr(0, inner.size() - 1), ": got ",
                    kind(value), ", wanted a group of options");
      }
      if (!seen.insert(inner).second) {
        throw_usage(here, inner.substr(0, inner.size() - 1), " is given twice");
      }
      merge_group(config, inner, value, where, seen);
      continue;
    }
    const detail::Field& field = detail::resolve(prefix, key.Scalar(), here);
    if (!seen.insert(field.path).second) throw_usage(here, field.path, " is given twice");
    merge_field(config, field, key, value, where);
  }
}

// yaml-cpp parses recursively; what nests absurdly is refused before it gets there.
void check_nesting(std::string_view text, std::string_view where) {
  int flow = 0;
  int line = 1;
  int dashes = 0;
  bool start = true;
  std::size_t indent = 0;
  for (const char c : text) {
    if (c == '\n') {
      ++line;
      start = true;
      indent = 0;
      dashes = 0;
      continue;
    }
    if (c == '[' || c == '{') ++flow;
    if (c == ']' || c == '}') flow = std::max(0, flow - 1);
    if (start && (c == ' ' || c == '-' || c == '?')) {
      if (c == ' ') ++indent;
      if (c != ' ') ++dashes;
    } else {
      start = false;
    }
    if (flow > kMaxIndent || dashes > kMaxIndent || (start && indent > 1024)) {
      throw_usage(where, ":", line, ": nested deeper than any option");
    }
  }
}

// Remembers where the last document began; takes note of nothing else.
class DocumentMark final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { mark_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
  const YAML::Mark& mark() const { return mark_; }

 private:
  YAML::Mark mark_;
};

// Whether there is a document. yaml-cpp's LoadAll finds empty documents without end where a comma
// stands on its own (0.7.0), so the documents are counted here first, to two.
bool has_document(const std::string& text, std::string_view where) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentMark document;
  if (!parser.HandleNextDocument(document)) return false;
  if (parser.HandleNextDocument(document)) {
    throw_usage(at(where, document.mark()), "got a second YAML document, wanted one");
  }
  return true;
}

}  // namespace

void merge_yaml(Config& config, std::string_view text, std::string_view where) {
  if (text.size() > kMaxBytes) {
    throw_usage(where, ": ", text.size(), " bytes, wanted at most ", kMaxBytes,
                "; is this a configuration file?");
  }
  if (text.find('\0') != std::string_view::npos) throw_data(where, ": holds NUL bytes; not YAML");
  check_nesting(text, where);
  const std::string copy(text);
  YAML::Node root;
  try {
    if (!has_document(copy, where)) return;
    root = YAML::Load(copy);
  } catch (const YAML::Exception& error) {
    throw_data(at(where, error.mark), "not valid YAML: ", error.msg);
  }
  if (root.IsNull()) return;
  if (!root.IsMap()) {
    throw_usage(at(where, root.Mark()), "got ", kind(root), ", wanted a group of options");
  }
  Config merged = config;
  std::set<std::string> seen;
  try {
    merge_group(merged, "", root, where, seen);
  } catch (const YAML::Exception& error) {
    throw_data(at(where, error.mark), "not usable YAML: ", error.msg);
  }
  config = std::move(merged);
}

void load_yaml(Config& config, const std::filesystem::path& path) {
  merge_yaml(config, read_file(path, kMaxBytes), path.string());
}

}  // namespace drrik
