#pragma once
// tests/data/eval/*.safetensors, made by tools/reference/eval_reference.py.

#include <filesystem>
#include <string>
#include <vector>

#include "drrik/io/safetensors.h"
#include "eval/fake_sae.h"

namespace drrik::testing {

class Fixture {
 public:
  explicit Fixture(const std::string& name)
      : file_(SafetensorsFile::open(std::filesystem::path(DRRIK_TEST_DATA) / "eval" /
                                    (name + ".safetensors"))) {}

  Tensor floats(const std::string& name) const { return file_.get(name).to(DType::kF32); }
  std::vector<double> doubles(const std::string& name) const {
    const Tensor tensor = file_.get(name);
    if (tensor.dtype() == DType::kF64) {
      const auto values = tensor.data<double>();
      return {values.begin(), values.end()};
    }
    const Tensor narrow = tensor.to(DType::kF32);  // small integers: exact
    const auto values = narrow.data<float>();
    return {values.begin(), values.end()};
  }
  double number(const std::string& name) const { return doubles(name).at(0); }
  std::vector<std::int64_t> integers(const std::string& name) const {
    std::vector<std::int64_t> out;
    for (const double value : doubles(name)) out.push_back(static_cast<std::int64_t>(value));
    return out;
  }
  std::vector<std::uint8_t> labels(const std::string& name) const {
    std::vector<std::uint8_t> out;
    for (const double value : doubles(name)) out.push_back(value != 0.0 ? 1 : 0);
    return out;
  }
  /// Of the fixture's W [d, h].
  FakeSae sae(float scale = 1.0F) const {
    const Tensor w = floats("w");
    const auto values = w.data<float>();
    return {w.dim(0), w.dim(1), {values.begin(), values.end()}, scale};
  }

 private:
  SafetensorsFile file_;
};

}  // namespace drrik::testing
