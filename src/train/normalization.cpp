#include "drrik/train/normalization.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

constexpr std::string_view kNames[] = {"none", "expected_average_only_in", "unit_mean_square"};
constexpr std::int64_t kBatchRows = 1024;
constexpr std::int64_t kGrain = 64;

std::string exactly(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

/// Σ‖x‖ and Σ‖x‖² over a site's rows.
struct Sums {
  double norms = 0.0;
  double squares = 0.0;
};

void add_rows(MatView<const float> x, std::vector<double>& squares, Sums& sums) {
  squares.resize(static_cast<std::size_t>(x.rows()));
  parallel_for(x.rows(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      double sum = 0.0;
      for (const float v : x.row(r)) sum += static_cast<double>(v) * static_cast<double>(v);
      squares[static_cast<std::size_t>(r)] = sum;
    }
  });
  for (const double square : squares) {
    sums.norms += std::sqrt(square);
    sums.squares += square;
  }
}

double scale_of(InputNormalization kind, const Sums& sums, std::int64_t rows, std::int64_t width) {
  const auto n = static_cast<double>(rows);
  return kind == InputNormalization::kExpectedAverageOnlyIn
             ? std::sqrt(static_cast<double>(width)) / (sums.norms / n)
             : 1.0 / std::sqrt(sums.squares / n);
}

}  // namespace

std::string_view input_normalization_name(InputNormalization normalization) {
  return kNames[static_cast<std::size_t>(normalization)];
}

InputNormalization parse_input_normalization(std::string_view name) {
  std::vector<std::string> known;
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<InputNormalization>(i);
    known.emplace_back(kNames[i]);
  }
  throw_usage("input normalisation '", name, "', wanted ", join(known), did_you_mean(name, known));
}

InputScales::InputScales(InputNormalization kind, std::vector<double> scales, std::int64_t rows)
    : kind_(kind), scales_(std::move(scales)), rows_(rows) {
  for (const double scale : scales_) {
    if (!(scale > 0.0 && std::isfinite(scale)) ||
        (kind == InputNormalization::kNone && scale != 1.0)) {
      throw_usage("scale ", scale, " of input normalisation '", input_normalization_name(kind),
                  "', wanted ", kind == InputNormalization::kNone ? "1" : "a positive number");
    }
  }
}

InputScales InputScales::estimate(RowStream& stream, InputNormalization kind, std::int64_t rows,
                                  AfterEstimate after) {
  const std::vector<RowSite>& sites = stream.sites();
  if (kind == InputNormalization::kNone) {
    return {kind, std::vector<double>(sites.size(), 1.0), 0};
  }
  if (rows < 1) throw_usage("input normalisation from ", rows, " rows, wanted at least 1");
  RowStreamState before;
  if (after == AfterEstimate::kGoBack) before = stream.state();

  std::vector<std::vector<float>> values;
  for (const RowSite& site : sites) {
    values.emplace_back(static_cast<std::size_t>(std::min(rows, kBatchRows) * site.width));
  }
  std::vector<Sums> sums(sites.size());
  std::vector<double> squares;
  std::vector<MatView<float>> batch(sites.size());
  std::int64_t done = 0;
  while (done < rows) {
    const std::int64_t wanted = std::min(kBatchRows, rows - done);
    for (std::size_t s = 0; s < sites.size(); ++s) {
      batch[s] = {values[s].data(), wanted, sites[s].width};
    }
    const std::int64_t got = stream.next(batch);
    for (std::size_t s = 0; s < sites.size(); ++s) {
      add_rows(batch[s].rows_range(0, got), squares, sums[s]);
    }
    done += got;
    if (got < wanted) break;
  }
  if (done == 0) throw_data("input normalisation: the stream has no row left to estimate it from");

  std::vector<double> scales;
  for (std::size_t s = 0; s < sites.size(); ++s) {
    const double scale = scale_of(kind, sums[s], done, sites[s].width);
    if (!(scale > 0.0 && std::isfinite(scale))) {
      throw_numeric("input normalisation: the ", done, " rows at ", sites[s].hook_name,
                    " of layer ", sites[s].layer, " have a mean norm of ",
                    sums[s].norms / static_cast<double>(done), ", which gives no scale");
    }
    scales.push_back(scale);
  }
  if (after == AfterEstimate::kGoBack) stream.restore(before);
  return {kind, std::move(scales), done};
}

void InputScales::apply(std::size_t site, MatView<float> x) const {
  const double by = scale(site);
  if (by != 1.0) drrik::scale(static_cast<float>(by), x);
}

std::vector<std::pair<std::string, std::string>> InputScales::facts() const {
  if (kind_ == InputNormalization::kNone) return {{"input normalisation", "none"}};
  std::vector<std::string> scales;
  for (const double scale : scales_) scales.push_back(exactly(scale));
  return {{"input normalisation", str(input_normalization_name(kind_), ", estimated from ", rows_,
                                      " rows, folded into what is saved")},
          {"input scales", join(scales)}};
}

}  // namespace drrik
