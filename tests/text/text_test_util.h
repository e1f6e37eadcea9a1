#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace drrik::text_test {

using Json = nlohmann::json;

inline std::string data_path(const std::string& name) {
  return std::string(DRRIK_TEST_DATA) + "/text/" + name;
}

/// 64-bit FNV-1a over ids as little-endian 32-bit words, as tokenizer_golden.py computes it.
inline std::uint64_t digest(std::span<const std::int32_t> ids,
                            std::uint64_t value = 0xCBF29CE484222325u) {
  for (const std::int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ (static_cast<std::uint32_t>(id) >> shift & 255u)) * 0x100000001B3u;
    }
  }
  return value;
}

/// The smallest tokenizer.json: three tokens and a merge.
inline Json tiny() {
  return Json::parse(R"({"version": "1.0", "added_tokens": [], "normalizer": null,
    "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

}  // namespace drrik::text_test
