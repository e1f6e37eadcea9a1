#pragma once
// The trade of sparsity against faithfulness over several coders, as a picture.

#include <string>
#include <vector>

#include "drrik/viz/visualizer.h"

namespace drrik {

struct FrontierPoint {
  std::string series;  ///< What is drawn as one line: the architecture, "topk 4096".
  double l0 = 0.0;
  double fvu = 0.0;
  double ce_recovered = 0.0;  ///< NaN unknown.
};

/// Writes frontier.png (or .svg) into options.output_dir: FVU over L0, and beside it the
/// cross-entropy recovered where any point has it. Throws Error(io).
Figure plot_frontier(const std::vector<FrontierPoint>& points, const VisualizerOptions& options);

}  // namespace drrik
