#pragma once
// Post-processors put special tokens around the ids of a text.

#include <cstdint>
#include <vector>

#include "text/json_node.h"

namespace drrik::text {

struct PostProcessor {
  std::vector<std::int32_t> prefix;
  std::vector<std::int32_t> suffix;
};

/// Throws Error(data) for an unknown type, naming the known ones.
PostProcessor make_post_processor(const Node& node);

}  // namespace drrik::text
