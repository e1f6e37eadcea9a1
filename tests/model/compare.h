#pragma once
// How the tests of this room compare what was computed with what should have been.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "drrik/io/safetensors.h"
#include "drrik/model/model.h"

namespace drrik::test {

/// ‖got - want‖ / ‖want‖ in double; infinite when sizes differ or anything is NaN or infinite, so
/// that no such result passes a bound.
inline double relative_error(std::span<const float> got, std::span<const float> want) {
  constexpr double kBad = std::numeric_limits<double>::infinity();
  if (got.size() != want.size() || want.empty()) return kBad;
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) return kBad;
    const double a = static_cast<double>(got[i]);
    const double b = static_cast<double>(want[i]);
    difference += (a - b) * (a - b);
    norm += b * b;
  }
  return norm > 0.0 ? std::sqrt(difference / norm) : (difference > 0.0 ? kBad : 0.0);
}

/// The rows of a view one after the other.
inline std::vector<float> flat(MatView<const float> m) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    const auto row = m.row(r);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

inline std::filesystem::path data_folder(const std::string& name) {
  return std::filesystem::path(DRRIK_TEST_DATA) / "model" / name;
}

/// A reference batch as tools/reference/model_reference.py stored it.
struct Reference {
  SafetensorsFile file;
  TokenBatch batch;
};

inline Reference load_reference(const std::string& name) {
  Reference out{SafetensorsFile::open(data_folder(name) / "reference.safetensors"), {}};
  const Tensor ids = out.file.get("ids");
  const Tensor boundaries = out.file.get("boundaries");
  const auto i = ids.data<std::int32_t>();
  const auto b = boundaries.data<std::int64_t>();
  out.batch.ids.assign(i.begin(), i.end());
  out.batch.boundaries.assign(b.begin(), b.end());
  return out;
}

/// The models that tools/reference/model_reference.py made, by name, in order.
inline std::vector<std::string> reference_models() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(data_folder(""))) {
    if (entry.is_directory()) out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// Every hook that the model has, in the order of the forward pass.
inline std::vector<Hook> all_hooks(const Model& model) {
  std::vector<Hook> out;
  for (std::int64_t layer = 0; layer < model.config().n_layers; ++layer) {
    for (const std::string& name : hook_names()) {
      const Hook hook{parse_hook(name), layer};
      if (before_blocks(hook.point) && layer > 0) continue;
      if (has_hook(model.config(), hook.point)) out.push_back(hook);
    }
  }
  return out;
}

/// What a reference calls the values at a hook.
inline std::string key_of(const Hook& hook) { return str(hook.layer, ".", hook_name(hook.point)); }

/// All logits of a reference's batch, within `tolerance` of theirs. Returns the reference's.
inline Tensor expect_logits(const Model& model, const Reference& reference, double tolerance) {
  ForwardOptions options;
  options.logits = ForwardOptions::Logits::kAll;
  const Tensor logits = model.forward(reference.batch, options);
  Tensor want = reference.file.get("logits");
  EXPECT_EQ(logits.shape(), want.shape());
  EXPECT_LE(relative_error(logits.data<float>(), want.data<float>()), tolerance);
  return want;
}

/// Every hook in one pass, in order, within `tolerance` of the reference.
inline void expect_hooks_in_order(const Model& model, const Reference& reference,
                                  double tolerance) {
  ForwardOptions options;
  options.hooks = all_hooks(model);
  std::vector<Hook> seen;
  options.on_hook = [&](const Hook& hook, MatView<float> got) {
    seen.push_back(hook);
    const Tensor want = reference.file.get(key_of(hook));
    EXPECT_EQ(got.cols(), model.hook_width(hook.point));
    EXPECT_LE(relative_error(flat(got), want.data<float>()), tolerance) << key_of(hook);
  };
  EXPECT_FALSE(model.forward(reference.batch, options).defined());
  EXPECT_EQ(seen, options.hooks);
}

/// Every hook in a pass of its own, which takes other paths (fused ones, early stops) than all
/// together.
inline void expect_hooks_alone(const Model& model, const Reference& reference, double tolerance) {
  for (const Hook& wanted : all_hooks(model)) {
    ForwardOptions options;
    options.hooks = {wanted};
    int calls = 0;
    options.on_hook = [&](const Hook& hook, MatView<float> got) {
      ++calls;
      EXPECT_EQ(hook, wanted);
      const Tensor want = reference.file.get(key_of(hook));
      EXPECT_LE(relative_error(flat(got), want.data<float>()), tolerance) << key_of(hook);
    };
    model.forward(reference.batch, options);
    EXPECT_EQ(calls, 1) << key_of(wanted);
  }
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
