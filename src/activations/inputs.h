#pragma once
// What an extraction and a live stream both begin with: model, tokenizer, texts and their limits.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "activations/batch_reader.h"
#include "drrik/activations/options.h"
#include "drrik/data/source.h"
#include "drrik/model/model.h"
#include "drrik/text/tokenizer.h"

namespace drrik::detail {

/// The model's layers [0, top_layer], without its head. Throws Error(usage) for a layer that it
/// does not have, and as Model::load().
std::shared_ptr<const Model> load_model_to(const ExtractorOptions::ModelGroup& model,
                                           std::int64_t top_layer);
std::shared_ptr<const Tokenizer> load_tokenizer_of(const ExtractorOptions::ModelGroup& model);

/// These texts or, where there are none, the dataset. Throws as open_dataset(), and Error(data)
/// when no text is among the texts.
std::unique_ptr<TextSource> open_texts(const ExtractorOptions::DatasetGroup& dataset,
                                       const std::optional<std::vector<std::string>>& texts);

/// Of the dataset's options, max_length also cut to the model's positions (which is logged).
/// batch_size and max_batch_tokens are as by default.
BatchLimits batch_limits(const ExtractorOptions::DatasetGroup& dataset, const ModelConfig& config);

/// At the end of the texts: warns of those without tokens that were met since `start`. Throws
/// Error(data) when none had any.
void tell_skipped(const ActivationWriter::Progress& start, const ActivationWriter::Progress& end);

}  // namespace drrik::detail
