#include "model/row_places.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace drrik::detail {
namespace {

/// Calls f(begin, rows, length) for every sequence that has rows; length counts its cached
/// positions too.
template <typename F>
void each_sequence(std::span<const std::int64_t> boundaries, std::int64_t past, const F& f) {
  for (std::size_t s = 0; s + 1 < boundaries.size(); ++s) {
    const std::int64_t rows = boundaries[s + 1] - boundaries[s];
    if (rows > 0) f(boundaries[s], rows, past + rows);
  }
}

std::vector<RopeRun> plan_rope(const Model::Impl& model, bool local,
                               std::span<const std::int64_t> boundaries, std::int64_t past) {
  const RopeOptions& rope = local ? *model.config.local_rope : model.config.rope;
  std::int64_t longest[2] = {0, 0};
  each_sequence(boundaries, past, [&](std::int64_t, std::int64_t, std::int64_t length) {
    std::int64_t& most = longest[rope.stretched(length) ? 1 : 0];
    most = std::max(most, length);
  });
  // Under dynamic scaling longer sequences have a table for each length.
  const bool own = rope.scaling == RopeScaling::kDynamic;
  std::shared_ptr<const RopeTable> tables[2];
  if (longest[0] > 0) tables[0] = model.rope(local, false, longest[0]);
  if (longest[1] > 0 && !own) tables[1] = model.rope(local, true, longest[1]);
  std::vector<RopeRun> runs;
  each_sequence(boundaries, past, [&](std::int64_t begin, std::int64_t rows, std::int64_t length) {
    const bool stretched = rope.stretched(length);
    std::shared_ptr<const RopeTable>& table = tables[stretched ? 1 : 0];
    if (stretched && own && !(table && table->positions() == length)) {
      table = std::make_shared<const RopeTable>(rope_inverse_frequencies(rope, length), length,
                                                static_cast<float>(rope.cos_sin_scale), past);
    }
    if (!runs.empty() && runs.back().table == table) {
      runs.back().rows = begin + rows - runs.back().begin;
    } else {
      runs.push_back({begin, rows, table});
    }
  });
  return runs;
}

/// Falcon forms its bias in bfloat16, every step of it.
MatView<float> round_alibi(const Model::Impl& model, std::int64_t longest, Scratch& memory) {
  const std::int64_t heads = model.config.n_heads;
  const auto out = memory.mat<float>(heads, longest);
  const auto rounded = [](float x) { return static_cast<float>(BF16(x)); };
  const auto scale = static_cast<float>(attention_scale(model.config, 0));
  for (std::int64_t h = 0; h < heads; ++h) {
    const float slope = rounded(model.slopes[static_cast<std::size_t>(h)]);
    for (std::int64_t j = 0; j < longest; ++j) {
      out(h, j) = scale * rounded(slope * rounded(static_cast<float>(j)));
    }
  }
  return out;
}

}  // namespace

double attention_scale(const ModelConfig& config, std::int64_t layer) {
  double scale = config.attention_scale;
  if (scale == 0.0) scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  if (config.scale_by_inverse_layer) scale /= static_cast<double>(layer + 1);
  return scale;
}

RowPlaces place_rows(const Model::Impl& model, std::span<const std::int32_t> ids,
                     std::span<const std::int64_t> boundaries, std::int64_t past,
                     Workspace& workspace) {
  const ModelConfig& config = model.config;
  std::vector<std::int32_t>& positions = workspace.positions;
  positions.resize(ids.size());
  const std::int64_t offset =
      config.positions == PositionKind::kLearned ? config.position_offset : 0;
  std::int64_t longest = 0;
  each_sequence(boundaries, past, [&](std::int64_t begin, std::int64_t rows, std::int64_t length) {
    longest = std::max(longest, length);
    std::int64_t position = past + offset;
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(begin + rows);
         ++i) {
      const bool counts = !config.uncounted_id || ids[i] != *config.uncounted_id;
      positions[i] = static_cast<std::int32_t>(counts ? position++ : offset - 1);
    }
  });
  RowPlaces out;
  if (config.positions == PositionKind::kRotary) {
    out.ropes = plan_rope(model, false, boundaries, past);
    if (config.local_rope) out.local_ropes = plan_rope(model, true, boundaries, past);
  }
  if (config.positions == PositionKind::kAlibi && config.rounded_alibi) {
    out.key_bias = round_alibi(model, longest, workspace.bias);
  }
  return out;
}

}  // namespace drrik::detail
