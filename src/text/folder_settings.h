#pragma once
// What the files of a folder say about its tokenizer, before anything is built: its class, that
// class's settings, the special and added tokens.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/json_file.h"
#include "text/tokenizer_class.h"
#include "text/tokenizer_impl.h"

namespace drrik::text {

class FolderSettings {
 public:
  /// Reads all of it. Errors name the file.
  explicit FolderSettings(const std::filesystem::path& folder);
  FolderSettings(const FolderSettings&) = delete;  // nodes point into their files
  FolderSettings& operator=(const FolderSettings&) = delete;

  std::filesystem::path folder;
  JsonFile json;           ///< tokenizer.json
  JsonFile config;         ///< tokenizer_config.json
  std::string said_class;  ///< Its name in the files, known or not.
  const TokenizerClass* tokenizer_class = nullptr;
  ClassSettings settings;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<AddedToken> named[kSpecialNames];
  std::vector<AddedToken> specific;  ///< "image_token" and the like
  std::vector<AddedToken> extra;
  bool extra_given = false;
  std::map<std::int32_t, AddedToken> by_id;

 private:
  void choose_class();
  void read_settings();
  void read_named(const JsonFile& file);
  void read_added();

  JsonFile map_;
  JsonFile added_;
};

}  // namespace drrik::text
