#pragma once
// A scratch folder, and a tokenizer that lets a test say any ids as text: one character a token.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "drrik/base/file.h"
#include "drrik/base/log.h"
#include "drrik/base/rng.h"
#include "drrik/model/random_model.h"
#include "drrik/tensor/tensor.h"
#include "drrik/text/tokenizer.h"
#include "io/json.h"

namespace drrik::test {

class Scratch {
 public:
  Scratch() {
    std::string form = (std::filesystem::temp_directory_path() / "drrik-test-XXXXXX").string();
    if (mkdtemp(form.data()) == nullptr) throw_io("cannot create a scratch folder");
    path_ = form;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Collects what is logged while it lives.
class LogCapture {
 public:
  LogCapture() {
    set_log_sink([this](LogLevel, std::string_view text) { text_ += std::string(text) + "\n"; });
  }
  ~LogCapture() { set_log_sink(nullptr); }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  bool has(std::string_view part) const { return text_.find(part) != std::string::npos; }

 private:
  std::string text_;
};

/// The token with id i is the character U+4E00 + i (three bytes).
inline std::string character(std::int32_t id) {
  const auto c = static_cast<std::uint32_t>(0x4E00 + id);
  return {static_cast<char>(0xE0U | (c >> 12)), static_cast<char>(0x80U | ((c >> 6) & 0x3FU)),
          static_cast<char>(0x80U | (c & 0x3FU))};
}

inline std::string text_of(std::span<const std::int32_t> ids) {
  std::string text;
  for (const std::int32_t id : ids) text += character(id);
  return text;
}

/// tokenizer.json of `vocab` such tokens. With `bos`, token 1 is special and opens every text.
inline std::string tokenizer_json(std::int64_t vocab, bool bos = false) {
  Json words = Json::object();
  for (std::int32_t id = 0; id < vocab; ++id) words[character(id)] = id;
  Json json{
      {"version", "1.0"},
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor", nullptr},
      {"decoder", {{"type", "Fuse"}}},
      {"model",
       {{"type", "BPE"}, {"unk_token", nullptr}, {"vocab", words}, {"merges", Json::array()}}}};
  if (bos) {
    const std::string token = character(1);
    json["added_tokens"].push_back({{"id", 1},
                                    {"content", token},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", true}});
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", token}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", Json::array()},
        {"special_tokens", {{token, {{"id", token}, {"ids", {1}}, {"tokens", {token}}}}}}};
  }
  return json.dump();
}

inline ModelConfig tiny_config() {
  ModelConfig config = bench_llama_config();
  config.vocab_size = 40;
  config.d_model = 16;
  config.n_layers = 3;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 8;
  config.rope.dim = 8;
  config.d_mlp = 24;
  config.max_positions = 64;
  return config;
}

/// `count` texts of 1 to `longest` random tokens. The same seed, the same texts.
inline std::vector<std::vector<std::int32_t>> random_ids(std::int64_t count, std::int64_t longest,
                                                         std::int64_t vocab, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::vector<std::int32_t>> out(static_cast<std::size_t>(count));
  for (auto& ids : out) {
    ids.resize(static_cast<std::size_t>(1 + rng.below(static_cast<std::uint64_t>(longest))));
    for (auto& id : ids) {
      id = static_cast<std::int32_t>(2 + rng.below(static_cast<std::uint64_t>(vocab - 2)));
    }
  }
  return out;
}

inline std::vector<std::string> texts_of(const std::vector<std::vector<std::int32_t>>& ids) {
  std::vector<std::string> out;
  for (const auto& one : ids) out.push_back(text_of(one));
  return out;
}

/// Every file of a folder with its bytes, for comparing folders.
inline std::map<std::string, std::string> folder_bytes(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    out[entry.path().filename().string()] = read_file(entry.path());
  }
  return out;
}

/// The kind and text of the Error that `f` throws; fails the test when it throws none.
template <typename F>
std::pair<ErrorKind, std::string> error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  ADD_FAILURE() << "no error";
  return {ErrorKind::kNumeric, ""};
}

}  // namespace drrik::test

#define EXPECT_ERROR(expression, wanted_kind, part)                                \
  do {                                                                             \
    const auto got_error = drrik::test::error_of([&] { (void)(expression); });     \
    EXPECT_EQ(got_error.first, drrik::ErrorKind::wanted_kind) << got_error.second; \
    EXPECT_NE(got_error.second.find(part), std::string::npos) << got_error.second; \
  } while (false)
