#pragma once
// Where the rows of a pass stand in their sequences, and what that does to their attention.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "drrik/ops/rope.h"
#include "model/model_impl.h"

namespace drrik::detail {

/// Consecutive rows that turn by one table.
struct RopeRun {
  std::int64_t begin = 0;
  std::int64_t rows = 0;
  std::shared_ptr<const RopeTable> table;
};

struct RowPlaces {
  std::vector<RopeRun> ropes;        // of all rows, with rotary positions
  std::vector<RopeRun> local_ropes;  // those of local_rope
  MatView<float> key_bias;           // [n_heads, longest sequence], rounded ALiBi
};

/// What multiplies q·k in a layer.
double attention_scale(const ModelConfig& config, std::int64_t layer);

/// For rows that follow `past` cached positions in each of their sequences. Fills
/// workspace.positions with each row's position (learned positions: with its row of the table);
/// key_bias lies in workspace.bias.
RowPlaces place_rows(const Model::Impl& model, std::span<const std::int32_t> ids,
                     std::span<const std::int64_t> boundaries, std::int64_t past,
                     Workspace& workspace);

}  // namespace drrik::detail
