#include "evaluation.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "drrik/activations/store.h"
#include "pipeline.h"

namespace drrik::cli {
namespace {

[[gnu::format(printf, 1, 2)]] std::string print(const char* format, ...) {
  char text[640];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

long long whole(std::int64_t value) { return value; }

Json bounds(const Interval& interval) {
  return Json::array({number_or_null(interval.low), number_or_null(interval.high)});
}

// A value and its interval, as one object.
Json measured(const Interval& interval) {
  return {{"value", number_or_null(interval.value)}, {"interval", bounds(interval)}};
}

Json all_measured(const std::vector<Interval>& intervals) {
  Json list = Json::array();
  for (const Interval& interval : intervals) list.push_back(measured(interval));
  return list;
}

// "0.8123 [0.7934, 0.8302]".
std::string with_bounds(const Interval& interval, const char* number = "%.4f") {
  const auto one = [&](double value) {
    char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    std::snprintf(text, sizeof text, number, value);
#pragma GCC diagnostic pop
    return std::string(text);
  };
  if (std::isnan(interval.low)) return one(interval.value);
  return one(interval.value) + " [" + one(interval.low) + ", " + one(interval.high) + "]";
}

std::string remark_lines(const std::vector<std::string>& remarks) {
  std::string text;
  for (const std::string& remark : remarks) text += "  note: " + remark + "\n";
  return text;
}

}  // namespace

TokenPolicy policy_of(const std::string& activations, SpecialTokens special) {
  std::shared_ptr<const Tokenizer> tokenizer;
  if (is_activation_store(activations)) {
    tokenizer = tokenizer_of(load_activation_metadata(activations, WithSamples::kNo));
  }
  return token_policy(activations, tokenizer.get(), special);
}

Json evaluation_json(const EvalReport& report, const TokenPolicy& policy) {
  return {{"rows", report.rows},
          {"d_in", report.d_in},
          {"d_out", report.d_out},
          {"d_sae", report.d_sae},
          {"l0", report.l0},
          {"l1", report.l1},
          {"mse", report.mse},
          {"squared_error", report.squared_error},
          {"fvu", number_or_null(report.fvu)},
          {"explained_variance", number_or_null(report.explained_variance)},
          {"explained_variance_legacy", number_or_null(report.explained_variance_legacy)},
          {"cosine", report.cosine},
          {"l2_ratio", number_or_null(report.l2_ratio)},
          {"relative_reconstruction_bias", number_or_null(report.relative_reconstruction_bias)},
          {"dead_latents", report.dead_latents},
          {"dense_latents_1_percent", report.dense_1_percent},
          {"dense_latents_10_percent", report.dense_10_percent},
          {"density_histogram", report.density_histogram()},
          {"intervals",
           {{"confidence", 0.95},
            {"over", report.clustering},
            {"clusters", report.clusters},
            {"mse", bounds(report.mse_interval)},
            {"fvu", bounds(report.fvu_interval)},
            {"explained_variance", bounds(linear(report.fvu_interval, -1.0, 1.0))},
            {"cosine", bounds(report.cosine_interval)},
            {"l0", bounds(report.l0_interval)}}},
          {"excluded_rows", report.excluded_rows},
          {"special_rows", policy.special_rows < 0 ? Json(nullptr) : Json(policy.special_rows)},
          {"token_policy", policy.statement}};
}

Json geometry_json(const DecoderGeometry& geometry) {
  return {{"norm_mean", number_or_null(geometry.norm_mean)},
          {"norm_min", number_or_null(geometry.norm_min)},
          {"norm_max", number_or_null(geometry.norm_max)},
          {"zero_directions", geometry.zero_directions},
          {"latents_compared", geometry.latents_compared},
          {"max_cosine_mean", number_or_null(geometry.max_cosine_mean)},
          {"max_cosine_over_0_9", number_or_null(geometry.max_cosine_over_90_percent)},
          {"encoder_cosine_mean", number_or_null(geometry.encoder_cosine_mean)},
          {"encoder_cosine_min", number_or_null(geometry.encoder_cosine_min)}};
}

Json splice_json(const SpliceReport& report) {
  return {{"sequences", report.sequences},
          {"predictions", report.predictions},
          {"ce_clean", report.ce_clean},
          {"ce_spliced", report.ce_spliced},
          {"ce_zero_ablation", report.ce_zero},
          {"ce_mean_ablation", report.ce_mean},
          {"ce_recovered", number_or_null(report.ce_recovered)},
          {"ce_recovered_mean_ablation", number_or_null(report.ce_recovered_mean)},
          {"kl_spliced", report.kl_spliced},
          {"kl_zero_ablation", report.kl_zero},
          {"kl_mean_ablation", report.kl_mean},
          {"kl_score", number_or_null(report.kl_score)},
          {"kl_score_mean_ablation", number_or_null(report.kl_score_mean)},
          {"intervals",
           {{"confidence", 0.95},
            {"over", "texts"},
            {"clusters", report.sequences},
            {"ce_clean", bounds(report.ce_clean_interval)},
            {"ce_spliced", bounds(report.ce_spliced_interval)},
            {"ce_recovered", bounds(report.ce_recovered_interval)},
            {"ce_recovered_mean_ablation", bounds(report.ce_recovered_mean_interval)},
            {"kl_spliced", bounds(report.kl_spliced_interval)},
            {"kl_score", bounds(report.kl_score_interval)},
            {"kl_score_mean_ablation", bounds(report.kl_score_mean_interval)}}},
          {"positions_left_alone", report.left_alone},
          {"token_policy", report.token_policy}};
}

Json probing_json(const SparseProbingReport& report) {
  Json by_k = Json::array();
  for (const SparseProbingReport::Accuracies& row : report.accuracies) {
    by_k.push_back({{"k", row.k == 0 ? Json("all") : Json(row.k)},
                    {"latents", measured(row.latents)},
                    {"activations", measured(row.activations)},
                    {"latents_by_class", all_measured(row.latents_by_class)},
                    {"activations_by_class", all_measured(row.activations_by_class)},
                    {"chosen_latents", row.chosen}});
  }
  return {{"classes", report.classes},
          {"classes_left_out", report.classes_left_out},
          {"train_texts", report.train_texts},
          {"test_texts", report.test_texts},
          {"accuracy", by_k},
          {"remarks", report.remarks}};
}

Json absorption_json(const AbsorptionReport& report) {
  Json letters = Json::array();
  for (const AbsorptionReport::Letter& letter : report.letters) {
    letters.push_back({{"letter", std::string(1, letter.letter)},
                       {"probe_f1", letter.probe_f1},
                       {"latents", letter.latents},
                       {"f1_by_k", letter.f1_by_k},
                       {"true_positives", letter.true_positives},
                       {"full", letter.full},
                       {"full_rate", letter.full_rate},
                       {"mean_fraction", letter.mean_fraction}});
  }
  return {{"full_absorption_rate", measured(report.full_rate)},
          {"mean_absorption_fraction", measured(report.mean_fraction)},
          {"mean_split_latents", report.mean_split_latents},
          {"words", report.words},
          {"test_words", report.test_words},
          {"words_left_out", report.words_left_out},
          {"examples", report.examples},
          {"letters", letters},
          {"unscored_letters", report.unscored},
          {"remarks", report.remarks}};
}

Json tpp_json(const TppReport& report) {
  Json rows = Json::array();
  for (const TppReport::Row& row : report.rows) {
    rows.push_back({{"n", row.n},
                    {"score", measured(row.score)},
                    {"intended", measured(row.intended)},
                    {"unintended", measured(row.unintended)},
                    {"fewest_latents", row.fewest_latents}});
  }
  return {{"classes", report.classes},
          {"classes_left_out", report.classes_left_out},
          {"train_texts", report.train_texts},
          {"test_texts", report.test_texts},
          {"clean_accuracy", all_measured(report.clean_accuracy)},
          {"tpp", rows},
          {"remarks", report.remarks}};
}

Json scr_json(const ScrReport& report) {
  const auto attribute = [](const Attribute& of) {
    return Json{{"column", of.name}, {"positive", of.positive}, {"negative", of.negative}};
  };
  Json rows = Json::array();
  for (const ScrReport::Row& row : report.rows) {
    rows.push_back({{"n", row.n},
                    {"score", measured(row.score)},
                    {"keep_target", measured(row.keep_target)},
                    {"keep_spurious", measured(row.keep_spurious)},
                    {"latents", row.latents}});
  }
  return {{"target", attribute(report.target)},
          {"spurious", attribute(report.spurious)},
          {"train_texts_per_pair", report.train_per_quadrant},
          {"test_texts_per_pair", report.test_per_quadrant},
          {"target_accuracy", measured(report.target_accuracy)},
          {"spurious_accuracy", measured(report.spurious_accuracy)},
          {"biased_accuracy_on_target", measured(report.biased_on_target)},
          {"biased_accuracy_on_spurious", measured(report.biased_on_spurious)},
          {"score_keeps", report.scores_target ? "target" : "spurious"},
          {"scr", rows},
          {"remarks", report.remarks}};
}

std::string evaluation_text(const EvalReport& report, const TokenPolicy& policy) {
  std::string text;
  text += print("rows                 %lld\n", whole(report.rows));
  text += print("L0                   %s of %lld latents\n",
                with_bounds(report.l0_interval, "%.2f").c_str(), whole(report.d_sae));
  text += print("FVU                  %s (explained variance %.5f, legacy %.5f)\n",
                with_bounds(report.fvu_interval, "%.5f").c_str(), report.explained_variance,
                report.explained_variance_legacy);
  text += print("MSE                  %s\n", with_bounds(report.mse_interval, "%.6g").c_str());
  text += print("cosine               %.5f, norm ratio %.4f, bias %.4f\n", report.cosine,
                report.l2_ratio, report.relative_reconstruction_bias);
  text += print("dead latents         %lld; on over 1 %% of rows %lld, over 10 %% %lld\n",
                whole(report.dead_latents), whole(report.dense_1_percent),
                whole(report.dense_10_percent));
  text += "intervals            95 %, over " + std::to_string(report.clusters) + " " +
          report.clustering + "\n";
  text += "tokens               " + policy.statement + "\n";
  return text;
}

std::string geometry_text(const DecoderGeometry& geometry) {
  std::string text = print(
      "decoder              norms %.4f (%.4f to %.4f); nearest other direction at |cos| %.4f "
      "on average, over 0.9 for %.2f %% of %lld latents\n",
      geometry.norm_mean, geometry.norm_min, geometry.norm_max, geometry.max_cosine_mean,
      100.0 * geometry.max_cosine_over_90_percent, whole(geometry.latents_compared));
  if (!std::isnan(geometry.encoder_cosine_mean)) {
    text += print("encoder              cosine with the decoder %.4f on average, %.4f at least\n",
                  geometry.encoder_cosine_mean, geometry.encoder_cosine_min);
  }
  return text;
}

std::string splice_text(const SpliceReport& report) {
  std::string text = print(
      "cross-entropy        %.4f clean, %.4f spliced, %.4f zero, %.4f mean (nats, %lld "
      "predictions)\n",
      report.ce_clean, report.ce_spliced, report.ce_zero, report.ce_mean,
      whole(report.predictions));
  text += print("CE recovered         %s against zero, %s against mean ablation\n",
                with_bounds(report.ce_recovered_interval).c_str(),
                with_bounds(report.ce_recovered_mean_interval).c_str());
  text += print("KL                   %.4f spliced, %.4f zero, %.4f mean (nats)\n",
                report.kl_spliced, report.kl_zero, report.kl_mean);
  text += print("KL score             %s against zero, %s against mean ablation\n",
                with_bounds(report.kl_score_interval).c_str(),
                with_bounds(report.kl_score_mean_interval).c_str());
  text += "tokens spliced       " + report.token_policy + "\n";
  return text;
}

std::string probing_text(const SparseProbingReport& report) {
  std::string text =
      print("sparse probing       %zu classes, %lld texts to learn, %lld to test\n",
            report.classes.size(), whole(report.train_texts), whole(report.test_texts));
  for (const SparseProbingReport::Accuracies& row : report.accuracies) {
    text += print("  k = %-4s           %s by latents, %s by raw activations\n",
                  row.k == 0 ? "all" : std::to_string(row.k).c_str(),
                  with_bounds(row.latents).c_str(), with_bounds(row.activations).c_str());
  }
  return text + remark_lines(report.remarks);
}

std::string absorption_text(const AbsorptionReport& report) {
  std::string text = print(
      "absorption           full %s, fraction %s, %.2f latents a letter; %zu letters, %lld words\n",
      with_bounds(report.full_rate).c_str(), with_bounds(report.mean_fraction).c_str(),
      report.mean_split_latents, report.letters.size(), whole(report.words));
  return text + remark_lines(report.remarks);
}

std::string tpp_text(const TppReport& report) {
  std::string text =
      print("TPP                  %zu classes, %lld texts to learn, %lld to test\n",
            report.classes.size(), whole(report.train_texts), whole(report.test_texts));
  for (const TppReport::Row& row : report.rows) {
    text += print("  n = %-4lld           %s (own class loses %.4f, others %.4f)\n", whole(row.n),
                  with_bounds(row.score).c_str(), row.intended.value, row.unintended.value);
  }
  return text + remark_lines(report.remarks);
}

std::string scr_text(const ScrReport& report) {
  const Attribute& kept = report.scores_target ? report.target : report.spurious;
  const Attribute& removed = report.scores_target ? report.spurious : report.target;
  std::string text = "SCR                  " + removed.name + " removed, " + kept.name + " kept";
  text += print("; the biased probe is right on %.4f, an unbiased one on %.4f\n",
                (report.scores_target ? report.biased_on_target : report.biased_on_spurious).value,
                (report.scores_target ? report.target_accuracy : report.spurious_accuracy).value);
  for (const ScrReport::Row& row : report.rows) {
    text += print("  n = %-4lld           %s\n", whole(row.n), with_bounds(row.score).c_str());
  }
  return text + remark_lines(report.remarks);
}

}  // namespace drrik::cli
