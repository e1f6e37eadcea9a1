#pragma once
// Ends a stream of text before the first of some strings.

#include <string>
#include <string_view>
#include <vector>

namespace drrik {

/// What comes out, joined, is what went in up to the first place where one of the strings stands;
/// nothing comes out that may yet be part of one.
class StopText {
 public:
  /// Throws Error(usage) for an empty string.
  explicit StopText(std::vector<std::string> strings);

  /// The text that is settled by this piece.
  std::string push(std::string_view piece);
  /// What was held back; nothing when a string was met.
  std::string finish();
  /// The string that was met first (the longest of those that begin there); "": none.
  const std::string& met() const { return met_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::string met_;
};

}  // namespace drrik
