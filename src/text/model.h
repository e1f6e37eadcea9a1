#pragma once
// The model of a tokenizer: one piece of text to ids. A model is one file and one line in the table
// in model.cpp.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"
#include "text/vocabulary.h"

namespace drrik::text {

/// What a model keeps between pieces (caches, buffers); one per thread at work.
class ModelWorkspace {
 public:
  ModelWorkspace() = default;
  virtual ~ModelWorkspace() = default;
  ModelWorkspace(const ModelWorkspace&) = delete;
  ModelWorkspace& operator=(const ModelWorkspace&) = delete;

  std::string mapped;  // scratch of Model::encode_bytes
};

class Model {
 public:
  Model() = default;
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  virtual std::unique_ptr<ModelWorkspace> make_workspace() const {
    return std::make_unique<ModelWorkspace>();
  }
  /// Appends the ids of one piece, valid UTF-8 as the pre-tokenizer left it.
  virtual void encode(std::string_view piece, ModelWorkspace& workspace,
                      std::vector<std::int32_t>& out) const = 0;
  /// As encode() of the piece written in the byte alphabet, which a model may spare itself.
  virtual void encode_bytes(std::string_view piece, ModelWorkspace& workspace,
                            std::vector<std::int32_t>& out) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  /// The token for what the model cannot spell, "" when there is none.
  const std::string& unk_token() const { return unk_token_; }

 protected:
  Vocabulary vocabulary_;
  std::string unk_token_;
};

/// The type of a model, which old files leave to be guessed.
std::string model_type(const Node& data);

/// The model of `data` with the type and the flags of `options`, which is the same object unless
/// something else than the file says how it is run. Throws Error(data) for an unknown type, naming
/// the known ones.
std::unique_ptr<Model> make_model(const Node& options, const Node& data);

// The models.
std::unique_ptr<Model> make_bpe(const Node& options, const Node& data);
std::unique_ptr<Model> make_unigram(const Node& options, const Node& data);
std::unique_ptr<Model> make_word_level(const Node& options, const Node& data);
std::unique_ptr<Model> make_word_piece(const Node& options, const Node& data);

}  // namespace drrik::text
