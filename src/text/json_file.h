#pragma once
// The JSON files of a folder, and errors that name the file.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "text/folder.h"
#include "text/json_node.h"

namespace drrik::text {

/// Runs f, naming the file in its errors.
template <typename F>
auto with_context(const std::filesystem::path& path, F f) {
  try {
    return f();
  } catch (Error& error) {
    error.add_context(path.string());
    throw;
  }
}

/// A JSON file of the folder, or nothing.
class JsonFile {
 public:
  explicit JsonFile(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return;
    with_context(path, [&] {
      text_ = read_file(path, kMaxTokenizerFileBytes);
      root_.emplace(parse_json(parser_, text_), "");
      if (!root_->is_object()) throw_data("an object is wanted");
    });
  }
  bool present() const { return root_.has_value(); }
  const std::filesystem::path& path() const { return path_; }
  const std::string& text() const { return text_; }
  const Node& root() const { return *root_; }
  /// Whether the member is there, be it null.
  bool has(std::string_view key) const {
    simdjson::dom::element value;
    return present() && root_->object().at_key(key).get(value) == simdjson::SUCCESS;
  }
  std::optional<Node> find(std::string_view key) const {
    return present() ? root_->find(key) : std::nullopt;
  }
  /// f(*this), with the file's name in errors.
  template <typename F>
  void read(F f) const {
    if (present()) with_context(path_, [&] { f(); });
  }

 private:
  std::filesystem::path path_;
  std::string text_;
  simdjson::dom::parser parser_;
  std::optional<Node> root_;
};

}  // namespace drrik::text
