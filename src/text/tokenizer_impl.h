#pragma once
// What a Tokenizer holds. Immutable after loading, apart from the pool of workspaces.

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "drrik/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"

namespace drrik {

struct Tokenizer::Impl {
  /// Buffers and caches of one encode() under way.
  struct Workspace {
    std::unique_ptr<text::ModelWorkspace> model;
    text::PreText pre;
    std::string repaired;
    std::string normalized;
    std::vector<text::AddedTokens::Stretch> raw_cuts;
    std::vector<text::AddedTokens::Stretch> normal_cuts;
  };

  /// From a tokenizer.json; `pipeline`, when given, has the normalizer, pre-tokenizer, decoder and
  /// the model's flags instead, and leaves the added tokens to the caller.
  Impl(const text::Node& root, const text::Node* pipeline);
  /// Fills what is derived from the members; after the last change to them.
  void finish();

  /// A workspace from the pool, given back at the end unless an exception left it in disorder.
  class Borrowed {
   public:
    explicit Borrowed(const Impl& impl) : impl_(impl), work_(impl.borrow()) {}
    ~Borrowed() {
      if (work_ && std::uncaught_exceptions() == exceptions_) impl_.give_back(std::move(work_));
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    Workspace& operator*() { return *work_; }

   private:
    const Impl& impl_;
    std::unique_ptr<Workspace> work_;
    int exceptions_ = std::uncaught_exceptions();
  };

  /// Appends the ids of a text with what `options` puts around it.
  void encode(std::string_view text, const EncodeOptions& options, Workspace& work,
              std::vector<std::int32_t>& out) const;

  std::unique_ptr<text::Normalizer> normalizer;  // may be null
  text::PreTokenizer pre_tokenizer;
  std::unique_ptr<text::Model> model;
  text::AddedTokens added;
  std::string model_type;
  bool clean_up = false;  // decode() takes back spaces before punctuation
  bool has_post_processor = false;
  text::PostProcessor post;
  text::Decoder decoder;

  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> pad;
  std::optional<std::int32_t> unk;

  /// By id: what decoding sees, and whether skip_special_tokens skips it.
  struct Decoded {
    std::string_view text;
    bool present = false;
    bool special = false;
  };
  std::vector<Decoded> decoded;

  std::optional<std::int32_t> find_token(std::string_view token) const;

 private:
  void encode_text(std::string_view text, Workspace& work, std::vector<std::int32_t>& out) const;
  void encode_stretch(std::string_view text, bool at_start, Workspace& work,
                      std::vector<std::int32_t>& out) const;
  void encode_piece(std::string_view text, bool at_start, Workspace& work,
                    std::vector<std::int32_t>& out) const;
  std::unique_ptr<Workspace> borrow() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

  mutable std::mutex pool_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> pool_;
};

}  // namespace drrik
