#pragma once
// What an autoencoder does on given activations, measured in one streaming pass.
//
// Which rows count is where published numbers disagree most: every one, or those that
// EvalOptions::keep leaves in (drrik/eval/token_policy.h makes it, and the words that say so). Sums
// are double precision over fixed blocks, so results do not depend on the number of threads.
// Formulas and sources: docs/evaluation.md.

#include <cstdint>
#include <span>
#include <string>

#include "drrik/activations/row_source.h"
#include "drrik/sae/reconstruction.h"
#include "drrik/sae/sae.h"

namespace drrik {

struct EvalOptions {
  /// What is to be reconstructed: the activations at a transcoder's output hook, row by row those
  /// of the tokens that give its inputs. Null: the inputs themselves.
  const RowSource* target = nullptr;
  /// [rows], non-zero where a row counts; empty: all do.
  std::span<const std::uint8_t> keep = {};
  /// First row of each cluster of dependent rows (the texts), ascending from 0, for the confidence
  /// intervals. Empty: blocks of neighbouring rows, at most 256 and at least 1/32 of all.
  std::span<const std::int64_t> cluster_starts = {};
};

struct EvalReport : ReconstructionMetrics {
  std::int64_t d_in = 0;
  std::int64_t excluded_rows = 0;  ///< Left out by EvalOptions::keep; `rows` has the others.
  std::string clustering;          ///< What the intervals take for independent, in words.
};

/// The block of explained_variance_legacy is 4096 rows of the source, those left out not counted.
///
/// Throws Error(data) when widths or numbers of rows differ, there are no rows or one holds NaN or
/// Inf (naming row and column), Error(numeric) naming the first row whose reconstruction is not
/// finite, Error(interrupted). O(rows · d_in · d_sae) time; memory for one block.
EvalReport evaluate(const Sae& sae, const RowSource& rows, const EvalOptions& options = {});

}  // namespace drrik
