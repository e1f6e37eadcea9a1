#include "serve/labels.h"

#include <utility>

namespace drrik {

LabelStore::LabelStore(std::filesystem::path file) : file_(std::move(file)) {
  std::error_code ignored;
  if (!file_.empty() && std::filesystem::exists(file_, ignored)) labels_ = load_labels(file_);
}

Json LabelStore::json() const {
  const std::lock_guard lock(mutex_);
  Json json = Json::object();
  for (const auto& [feature, label] : labels_) json[std::to_string(feature)] = label;
  return json;
}

void LabelStore::set(std::int64_t feature, const std::string& label) {
  const std::lock_guard lock(mutex_);
  FeatureLabels next = labels_;
  if (label.empty()) {
    next.erase(feature);
  } else {
    next[feature] = label;
  }
  if (!file_.empty()) save_labels(next, file_);
  labels_ = std::move(next);
}

}  // namespace drrik
