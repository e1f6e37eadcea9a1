#pragma once
// Normalizers rewrite the text before it is cut.

#include <memory>
#include <string>
#include <vector>

#include "text/json_node.h"

namespace drrik::text {

class Normalizer {
 public:
  Normalizer() = default;
  virtual ~Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;

  /// Rewrites valid UTF-8 as valid UTF-8. `at_start` says whether the first character stands at the
  /// start of the original text; cleared when that character is taken away.
  virtual void apply(std::string& text, bool& at_start) const = 0;
};

/// Throws Error(data) for an unknown type, naming the known ones. `depth` bounds nesting.
std::unique_ptr<Normalizer> make_normalizer(const Node& node, int depth = 0);

/// Deepest nesting of Sequence members that is read.
constexpr int kMaxSequenceDepth = 32;

}  // namespace drrik::text
