#pragma once
// What `drrik eval` and `drrik run` say of evaluations: as JSON and as text.

#include <memory>
#include <string>

#include "cli.h"
#include "drrik/eval/ablation_probes.h"
#include "drrik/eval/absorption.h"
#include "drrik/eval/geometry.h"
#include "drrik/eval/metrics.h"
#include "drrik/eval/sparse_probing.h"
#include "drrik/eval/splice.h"
#include "drrik/eval/token_policy.h"

namespace drrik::cli {

/// Which rows of a store (or .npy file) count, with the tokenizer of its model where that is at
/// hand. Throws as token_policy().
TokenPolicy policy_of(const std::string& activations, SpecialTokens special);

Json evaluation_json(const EvalReport& report, const TokenPolicy& policy);
Json geometry_json(const DecoderGeometry& geometry);
Json splice_json(const SpliceReport& report);
Json probing_json(const SparseProbingReport& report);
Json absorption_json(const AbsorptionReport& report);
Json tpp_json(const TppReport& report);
Json scr_json(const ScrReport& report);

std::string evaluation_text(const EvalReport& report, const TokenPolicy& policy);
std::string geometry_text(const DecoderGeometry& geometry);
std::string splice_text(const SpliceReport& report);
std::string probing_text(const SparseProbingReport& report);
std::string absorption_text(const AbsorptionReport& report);
std::string tpp_text(const TppReport& report);
std::string scr_text(const ScrReport& report);

}  // namespace drrik::cli
