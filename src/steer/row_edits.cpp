#include "steer/row_edits.h"

#include <algorithm>

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "steer/feature_units.h"

namespace drrik {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

void accumulate(double by, const std::vector<float>& direction, std::vector<double>& sum) {
  if (sum.empty()) sum.assign(direction.size(), 0.0);
  for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += by * static_cast<double>(direction[c]);
}

bool changes(const std::vector<double>& vector) {
  return std::any_of(vector.begin(), vector.end(), [](double v) { return v != 0.0; });
}

void add(const std::vector<double>& vector, std::span<float> row) {
  for (std::size_t c = 0; c < row.size(); ++c) {
    row[c] = static_cast<float>(static_cast<double>(row[c]) + vector[c]);
  }
}

double feature_of(const SparseRows& features, std::int64_t row, std::int64_t feature) {
  const auto begin = features.latent.begin() + features.row_start[at(row)];
  const auto end = features.latent.begin() + features.row_start[at(row) + 1];
  const auto found = std::lower_bound(begin, end, static_cast<std::int32_t>(feature));
  if (found == end || *found != feature) return 0.0;
  return static_cast<double>(
      features.value[static_cast<std::size_t>(found - features.latent.begin())]);
}

}  // namespace

RowEdits::RowEdits(const Sae& sae, const CoderHooks& hooks, const std::vector<SteeringEdit>& edits,
                   std::int64_t prompt_size)
    : sae_(&sae), hooks_(hooks), prompt_size_(prompt_size) {
  using Kind = EditPositions::Kind;
  for (const SteeringEdit& edit : edits) {
    const bool columns = edit.mode == EditMode::kAdd && edit.unit == StrengthUnit::kDecoder;
    if (!columns && (edit.mode != EditMode::kAdd || has_row_scale(sae))) {
      reading_.push_back({edit, feature_unit(sae, edit.feature)});
      continue;
    }
    std::vector<float> direction =
        columns ? sae.decoder_direction(edit.feature) : feature_unit(sae, edit.feature);
    const double by = edit.absolute_strength();
    const Kind kind = edit.positions.kind;
    if (kind == Kind::kList) {
      plain_.push_back({edit, std::move(direction)});
      continue;
    }
    if (kind != Kind::kGenerated) accumulate(by, direction, prompt_);
    if (kind != Kind::kPrompt) accumulate(by, direction, generated_);
  }
  if (!changes(prompt_)) prompt_.clear();
  if (!changes(generated_)) generated_.clear();
}

std::vector<Hook> RowEdits::hooks() const {
  if (prompt_.empty() && generated_.empty() && plain_.empty() && reading_.empty()) return {};
  if (reading_.empty() || hooks_.reads == hooks_.writes) return {hooks_.writes};
  return {hooks_.reads, hooks_.writes};
}

void RowEdits::operator()(const Hook& hook, std::int64_t first, MatView<float> rows) {
  if (!reading_.empty() && hook == hooks_.reads) read(first, rows);
  if (hook == hooks_.writes) write(first, rows);
}

// Encodes the rows from the first to the last that an edit needs.
void RowEdits::read(std::int64_t first, MatView<const float> rows) {
  std::int64_t begin = rows.rows();
  std::int64_t end = 0;
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const bool wanted = std::any_of(reading_.begin(), reading_.end(), [&](const Edit& edit) {
      return edit.what.positions.contains(first + r, prompt_size_);
    });
    if (!wanted) continue;
    begin = std::min(begin, r);
    end = r + 1;
  }
  read_ = true;
  first_row_ = begin;
  features_ = {{0}, {}, {}};
  scales_.clear();
  if (begin >= end) return;
  const MatView<const float> block = rows.rows_range(begin, end - begin);
  if (has_nonfinite(block)) throw_numeric("the activations to be steered hold NaN or Inf");
  sae_->encode(block, features_);
  if (!has_row_scale(*sae_)) return;
  for (std::int64_t r = 0; r < block.rows(); ++r) {
    scales_.push_back(row_scale(*sae_, block.row(r)));
  }
}

// Of a feature, in the units of the model's activations.
double RowEdits::change(const Edit& edit, std::int64_t row) const {
  const double scale = scales_.empty() ? 1.0 : scales_[at(row)];
  const double strength = edit.what.absolute_strength();
  if (edit.what.mode == EditMode::kAdd) return scale * strength;
  const double f = feature_of(features_, row, edit.what.feature);
  switch (edit.what.mode) {
    case EditMode::kClamp:
      return scale * (strength - f);
    case EditMode::kScale:
      return scale * (edit.what.strength - 1.0) * f;
    default:
      return -scale * f;
  }
}

void RowEdits::write(std::int64_t first, MatView<float> rows) {
  if (!reading_.empty() && !read_) {
    throw_usage("the autoencoder reads ", hook_name(hooks_.reads.point), " of layer ",
                hooks_.reads.layer, ", which the model computes after ",
                hook_name(hooks_.writes.point), " of layer ", hooks_.writes.layer,
                ", where it is to steer");
  }
  read_ = false;
  std::vector<double> sum;
  for (std::int64_t r = 0; r < rows.rows(); ++r) {
    const std::int64_t position = first + r;
    const std::vector<double>& all = position < prompt_size_ ? prompt_ : generated_;
    sum.clear();
    const auto take = [&](double by, const Edit& edit) {
      if (by == 0.0) return;
      if (sum.empty()) sum = all;
      accumulate(by, edit.direction, sum);
    };
    for (const Edit& edit : plain_) {
      if (!edit.what.positions.contains(position, prompt_size_)) continue;
      take(edit.what.absolute_strength(), edit);
    }
    for (const Edit& edit : reading_) {
      if (!edit.what.positions.contains(position, prompt_size_)) continue;
      take(change(edit, r - first_row_), edit);
    }
    const std::vector<double>& change = sum.empty() ? all : sum;
    if (!change.empty()) add(change, rows.row(r));
  }
}

}  // namespace drrik
