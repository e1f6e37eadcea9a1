#pragma once
// Names that people gave to features, in a small file. Format: docs/formats/dashboard.md.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace drrik {

/// Feature -> label, valid UTF-8.
using FeatureLabels = std::map<std::int64_t, std::string>;

/// Parses a labels.json, {"format": "drrik-labels", "version": 1, "labels": {"12": "dogs"}}, or
/// Neuronpedia's explanations: a JSON array or JSON Lines of objects with "index" (a number, or the
/// digits as text) and "description". Of several explanations of a feature the last one counts; an
/// empty label removes one. `what` names the text in errors. Throws Error(data) naming what is
/// wrong, also for a label longer than 4096 bytes or an index outside [0, 2^31).
FeatureLabels parse_labels(std::string_view text, std::string_view what);

/// Reads a file of either kind, gzip-compressed or not. Throws Error(io), Error(data).
FeatureLabels load_labels(const std::filesystem::path& path);

/// The text of a labels.json.
std::string labels_text(const FeatureLabels& labels);

/// Writes it atomically. Throws Error(io).
void save_labels(const FeatureLabels& labels, const std::filesystem::path& path);

}  // namespace drrik
