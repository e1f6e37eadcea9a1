#pragma once
// The scale that training rows are multiplied with, so that penalties and learning rates mean the
// same for every model and layer.
//
// A coder trained on s·x is made one for x by SparseCoder::fold_input_scale(), which every file
// that leaves training goes through.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drrik/activations/row_stream.h"
#include "drrik/tensor/mat_view.h"

namespace drrik {

/// Notation: x a row of d elements, E the mean over rows.
enum class InputNormalization : std::uint8_t {
  kNone,  ///< s = 1.
  /// s = √d / E‖x‖, so that E‖x‖ = √d. SAELens's name; Anthropic's April 2024 update.
  kExpectedAverageOnlyIn,
  /// s = 1 / √E‖x‖², so that E‖x‖² = 1. dictionary_learning's normalize_activations; Gemma Scope.
  kUnitMeanSquare
};
/// "none", "expected_average_only_in", "unit_mean_square".
std::string_view input_normalization_name(InputNormalization normalization);
/// Throws Error(usage) naming the known ones.
InputNormalization parse_input_normalization(std::string_view name);

/// Where a stream is after its rows were looked at.
enum class AfterEstimate : std::uint8_t {
  kGoBack,  ///< Where it was, by state() and restore(): a live one runs the model again.
  kGoOn     ///< After those rows, which are not trained on then.
};

/// A scale for every site of a stream: chosen once, then a constant of the run.
class InputScales {
 public:
  /// No normalisation, whatever the sites.
  InputScales() = default;
  /// As recorded: by kind, and scales() of then. Throws Error(usage) when a scale is no positive
  /// number, or kNone has one that is not 1.
  InputScales(InputNormalization kind, std::vector<double> scales, std::int64_t rows);

  /// From the next `rows` rows of the stream, or as many as it has left; kNone reads none. Norms
  /// are summed in double in the order of the rows, whatever the number of threads. Throws
  /// Error(usage) for rows < 1, Error(data) when there is none, Error(numeric) when all are zero at
  /// a site; as RowStream::next().
  static InputScales estimate(RowStream& stream, InputNormalization kind, std::int64_t rows,
                              AfterEstimate after = AfterEstimate::kGoBack);

  InputNormalization kind() const { return kind_; }
  /// By site; empty for kNone without sites.
  std::span<const double> scales() const { return scales_; }
  double scale(std::size_t site) const { return scales_.empty() ? 1.0 : scales_.at(site); }
  std::int64_t rows() const { return rows_; }  ///< That it was estimated from.

  /// x *= scale(site), rounded to float32 once.
  void apply(std::size_t site, MatView<float> x) const;
  /// For a run's record.
  std::vector<std::pair<std::string, std::string>> facts() const;

 private:
  InputNormalization kind_ = InputNormalization::kNone;
  std::vector<double> scales_;
  std::int64_t rows_ = 0;
};

}  // namespace drrik
