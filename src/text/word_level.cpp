// WordLevel: a piece is a token or unknown.

#include "drrik/base/error.h"
#include "text/model.h"

namespace drrik::text {
namespace {

class WordLevel : public Model {
 public:
  WordLevel(const Node& options, const Node& data) {
    unk_token_ = options.string_or("unk_token", "");
    vocabulary_ = Vocabulary(data.get("vocab"));
    unk_id_ = vocabulary_.find(unk_token_);
  }

  void encode(std::string_view piece, ModelWorkspace&,
              std::vector<std::int32_t>& out) const override {
    const std::int32_t id = vocabulary_.find(piece);
    if (id < 0 && unk_id_ < 0) {
      throw_data("model.unk_token: '", unk_token_, "' is not in the vocabulary, nor is '", piece,
                 "'");
    }
    out.push_back(id < 0 ? unk_id_ : id);
  }

 private:
  std::int32_t unk_id_ = -1;
};

}  // namespace

std::unique_ptr<Model> make_word_level(const Node& options, const Node& data) {
  return std::make_unique<WordLevel>(options, data);
}

}  // namespace drrik::text
