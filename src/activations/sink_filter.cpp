#include "activations/sink_filter.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "drrik/base/error.h"

namespace drrik::detail {
namespace {

// Positive floats grow with their bits. What is left: the exponent and six bits of the fraction.
constexpr unsigned kDropped = 17;

std::int64_t bin_of(float squared) {
  return std::bit_cast<std::uint32_t>(std::max(squared, 0.0F)) >> kDropped;
}

float middle_of(std::int64_t bin) {
  if (bin == 0) return 0.0F;  // zeros, above all
  return std::bit_cast<float>((static_cast<std::uint32_t>(bin) << kDropped) |
                              (1U << (kDropped - 1)));
}

float median_of(std::span<const std::int64_t> counts) {
  std::int64_t all = 0;
  for (const std::int64_t count : counts) all += count;
  std::int64_t below = 0;
  for (std::size_t bin = 0; bin < counts.size(); ++bin) {
    below += counts[bin];
    if (below >= all - all / 2) return middle_of(static_cast<std::int64_t>(bin));
  }
  return 0.0F;
}

}  // namespace

SinkFilter::SinkFilter(double multiple, std::int64_t sites)
    : multiple_(multiple), sites_(sites), counts_(Tensor::zeros<std::int64_t>({sites, kBins})) {}

std::vector<std::int64_t> SinkFilter::keep(std::span<const float> squared_norms) {
  const auto sites = static_cast<std::size_t>(sites_);
  const std::size_t rows = squared_norms.size() / sites;
  const auto counts = counts_.mutable_data<std::int64_t>();
  std::vector<double> limits(sites);
  for (std::size_t s = 0; s < sites; ++s) {
    const auto bins = counts.subspan(s * kBins, kBins);
    for (std::size_t r = 0; r < rows; ++r) {
      ++bins[static_cast<std::size_t>(bin_of(squared_norms[r * sites + s]))];
    }
    const auto median = static_cast<double>(median_of(bins));
    limits[s] =
        median > 0.0 ? multiple_ * multiple_ * median : std::numeric_limits<double>::infinity();
  }
  std::vector<std::int64_t> kept;
  kept.reserve(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    bool within = true;
    for (std::size_t s = 0; s < sites; ++s) {
      within = within && static_cast<double>(squared_norms[r * sites + s]) <= limits[s];
    }
    if (within) kept.push_back(static_cast<std::int64_t>(r));
  }
  return kept;
}

void SinkFilter::clear() {
  const auto counts = counts_.mutable_data<std::int64_t>();
  std::fill(counts.begin(), counts.end(), std::int64_t{0});
}

void SinkFilter::set_counts(const Tensor& counts) {
  if (counts.dtype() != DType::kI64 || counts.shape() != counts_.shape()) {
    throw_data("counts of norms are ", dtype_name(counts.dtype()), " ",
               shape_string(counts.shape()), ", wanted int64 ", shape_string(counts_.shape()));
  }
  // The sum of all must stay a number.
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / (2 * kBins);
  Tensor copy = counts.clone();  // a file's may not be aligned
  for (const std::int64_t count : copy.data<std::int64_t>()) {
    if (count < 0 || count > most) throw_data("counts of norms: ", count, " is no count");
  }
  counts_ = std::move(copy);
}

}  // namespace drrik::detail
