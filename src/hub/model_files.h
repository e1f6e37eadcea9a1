#pragma once
// Which files of a repository a model needs.

#include <functional>
#include <string>
#include <vector>

namespace drrik::hub {

struct ModelFiles {
  std::vector<std::string> small;    ///< Configuration and tokenizer files to fetch.
  std::vector<std::string> absent;   ///< Files of this kind that the repository does not have.
  std::vector<std::string> weights;  ///< One file of weights, or none where there is an index.
  bool has_tokenizer = false;
  std::string index;  ///< The index that names the weights; empty: none.
};

/// `has` tells whether the repository has a file.
ModelFiles choose_model_files(const std::function<bool(const std::string&)>& has);

}  // namespace drrik::hub
