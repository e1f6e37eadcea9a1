#pragma once
// Token ids of documents cut or packed into contexts. Ids come from the caller's tokenizer.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace drrik {

struct PackingOptions {
  /// Tokens in each context; > 0.
  std::int64_t context_size = 0;
  /// Put before / after every document when set (bos and eos ids, usually).
  std::optional<std::int32_t> prefix;
  std::optional<std::int32_t> separator;
  /// What becomes of the tokens left when the input ends.
  enum class Tail { kDrop, kKeep };
  Tail tail = Tail::kDrop;
};

/// A piece of one document inside a context.
struct PackedSegment {
  std::int64_t begin = 0;           ///< Position in the context.
  std::int64_t length = 0;          ///< Tokens, prefix and separator counted.
  std::int64_t document = 0;        ///< The index given to add().
  std::int64_t document_begin = 0;  ///< Position of the piece in the document (prefix counted).
};

/// ids.size() == context_size, less only for a kept tail. Segments cover ids without gaps, so that
/// attention may be kept inside a document by running each segment as a sequence of its own.
struct PackedContext {
  std::vector<std::int32_t> ids;
  std::vector<PackedSegment> segments;
};

/// Concatenates documents and cuts contexts. A document may span contexts. Holds at most one
/// context and the document being cut. Not thread-safe.
class Packer {
 public:
  /// Throws Error(usage) when context_size <= 0.
  explicit Packer(PackingOptions options);
  /// Appends a document. An empty one adds nothing, not even prefix and separator.
  void add(std::span<const std::int32_t> ids, std::int64_t document);
  /// No more documents follow: a kept tail becomes available.
  void finish();
  /// The next full context (or the tail after finish()), or nothing until more is added.
  std::optional<PackedContext> next();
  /// Tokens in the tail that was dropped; 0 before finish().
  std::int64_t dropped_tokens() const { return dropped_; }

 private:
  struct Document {
    std::vector<std::int32_t> ids;
    std::int64_t index = 0;
    std::int64_t used = 0;
  };
  PackingOptions options_;
  std::vector<Document> pending_;
  std::size_t first_ = 0;
  std::int64_t available_ = 0;
  bool finished_ = false;
  std::int64_t dropped_ = 0;
};

}  // namespace drrik
