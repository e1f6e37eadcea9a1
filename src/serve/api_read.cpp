// The routes that look: at the model, at features of a text, at labels, runs and the dashboard.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/system.h"
#include "serve/runs.h"
#include "serve/site.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

constexpr int kSliceMs = 100;
constexpr std::int64_t kMaxListed = 100;
constexpr std::uint64_t kMaxDataBytes = std::uint64_t{512} << 20;

std::int64_t number_of(const std::string& digits) {
  std::int64_t out = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return out;
}

// Rounded: seven digits are what a float has.
Json number(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double shortest = 0.0;
  std::from_chars(text, end, shortest);
  return shortest;
}

struct FeatureSum {
  std::int64_t feature = 0;
  double sum = 0.0;
  float max = 0.0F;
  std::int64_t peak = 0;
};

Json listed(std::vector<FeatureSum> sums, std::int64_t tokens) {
  const auto stronger = [](const FeatureSum& a, const FeatureSum& b) {
    return a.max != b.max ? a.max > b.max : a.feature < b.feature;
  };
  const auto count = std::min<std::size_t>(sums.size(), kMaxListed);
  std::partial_sort(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(count), sums.end(),
                    stronger);
  Json out = Json::array();
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back({{"feature", sums[i].feature},
                   {"mean", number(static_cast<float>(sums[i].sum / static_cast<double>(tokens)))},
                   {"max", number(sums[i].max)},
                   {"peak", sums[i].peak}});
  }
  return out;
}

SparseRows features_of(const SaeSteering& steering, const std::vector<std::int32_t>& ids) {
  SparseRows features;
  TokenBatch batch;
  batch.append(ids);
  ForwardOptions forward;
  forward.hooks = {steering.reads()};
  forward.on_hook = [&](const Hook&, MatView<float> rows) {
    steering.sae().encode(rows, features);
  };
  steering.model().forward(batch, forward);
  return features;
}

std::string activations_text(const Site& site, const ActivationsRequest& asked,
                             const std::vector<std::int32_t>& ids) {
  const SaeSteering& steering = *site.steering;
  const SparseRows features = features_of(steering, ids);
  Json json = {{"tokens", Json::array()}, {"ids", ids}, {"per_token", Json::array()}};
  std::map<std::int64_t, FeatureSum> sums;
  std::map<std::int64_t, std::vector<Json>> values;
  for (const std::int64_t feature : asked.features) {
    values[feature].assign(ids.size(), Json(0.0));
  }
  for (std::size_t t = 0; t < ids.size(); ++t) {
    json["tokens"].push_back(steering.tokenizer().token_display(ids[t]));
    const auto begin = static_cast<std::size_t>(features.row_start[t]);
    const auto end = static_cast<std::size_t>(features.row_start[t + 1]);
    std::vector<std::size_t> order;
    for (std::size_t e = begin; e < end; ++e) {
      order.push_back(e);
      const std::int64_t feature = features.latent[e];
      FeatureSum& sum = sums[feature];
      sum.feature = feature;
      sum.sum += static_cast<double>(features.value[e]);
      if (features.value[e] > sum.max) {
        sum.max = features.value[e];
        sum.peak = static_cast<std::int64_t>(t);
      }
      if (const auto wanted = values.find(feature); wanted != values.end()) {
        wanted->second[t] = number(features.value[e]);
      }
    }
    const auto count = std::min(order.size(), static_cast<std::size_t>(asked.top_k));
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count),
                      order.end(), [&](std::size_t a, std::size_t b) {
                        return features.value[a] != features.value[b]
                                   ? features.value[a] > features.value[b]
                                   : a < b;
                      });
    Json top = Json::array();
    for (std::size_t i = 0; i < count; ++i) {
      top.push_back(Json::array({features.latent[order[i]], number(features.value[order[i]])}));
    }
    json["per_token"].push_back(std::move(top));
  }
  std::vector<FeatureSum> all;
  for (const auto& [feature, sum] : sums) all.push_back(sum);
  json["features"] = listed(std::move(all), static_cast<std::int64_t>(ids.size()));
  json["values"] = Json::object();
  for (auto& [feature, row] : values) json["values"][std::to_string(feature)] = std::move(row);
  return json_text(json);
}

void answer_file(Response& response, const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    answer_error(response, 404, "there is no such part of the dashboard");
    return;
  }
  response.set_header("Cache-Control", "no-cache");
  response.set_content(read_file(path, kMaxDataBytes), "text/javascript; charset=utf-8");
}

}  // namespace

void answer_info(Site& site, const Request& request, Response& response) {
  (void)request;
  const SaeSteering& steering = *site.steering;
  const ModelConfig& config = steering.model().config();
  answer_json(response, {{"drrik", version()},
                         {"model",
                          {{"name", site.options.model_name},
                           {"d_model", config.d_model},
                           {"n_layers", config.n_layers},
                           {"vocab_size", config.vocab_size}}},
                         {"sae",
                          {{"name", site.options.sae_name},
                           {"architecture", steering.sae().architecture()},
                           {"d_in", steering.sae().d_in()},
                           {"d_sae", steering.sae().d_sae()},
                           {"hook", hook_name(steering.hook().point)},
                           {"layer", steering.hook().layer}}},
                         {"dashboard", site.has_dashboard},
                         {"runs", !site.options.runs.empty()},
                         {"labels", site.labels.keeps()},
                         {"limits",
                          {{"max_prompt_tokens", site.max_prompt_tokens},
                           {"max_new_tokens", site.options.max_new_tokens},
                           {"max_body_bytes", site.options.max_body_bytes},
                           {"max_edits", kMaxRecipeEdits}}}});
}

void answer_models(Site& site, const Request& request, Response& response) {
  (void)request;
  answer_json(response, {{"object", "list"},
                         {"data", Json::array({{{"id", site.options.model_name},
                                                {"object", "model"},
                                                {"created", 0},
                                                {"owned_by", "drrik"}}})}});
}

void answer_activations(Site& site, const Request& request, Response& response) {
  auto asked = std::make_shared<ActivationsRequest>(parse_activations(request.body));
  const std::int64_t d_sae = site.steering->sae().d_sae();
  for (const std::int64_t feature : asked->features) {
    if (feature < 0 || feature >= d_sae) {
      throw_usage("body: feature ", feature, " does not exist: the autoencoder has ", d_sae,
                  ", 0 to ", d_sae - 1);
    }
  }
  const std::vector<std::int32_t> ids = site.steering->tokenizer().encode(asked->text);
  if (ids.empty()) throw_usage("body: 'text' has no tokens");
  check_prompt(site, ids);
  auto job = std::make_shared<CallJob>(
      [&site, asked, ids] { return activations_text(site, *asked, ids); });
  if (!site.scheduler.submit(job, client_of(request))) {
    answer_busy(response);
    return;
  }
  while (true) {
    const CallJob::Result result = job->wait(kSliceMs);
    if (result.error) {
      answer_error(response, *result.error);
      return;
    }
    if (result.value) {
      response.set_content(*result.value, "application/json");
      return;
    }
    const Connection* connection = Connection::current();
    if (connection == nullptr || connection->gone()) {
      job->cancel();
      return;
    }
  }
}

void answer_labels(Site& site, const Request& request, Response& response) {
  (void)request;
  answer_json(response,
              {{"format", "drrik-labels"}, {"version", 1}, {"labels", site.labels.json()}});
}

void answer_set_label(Site& site, const Request& request, Response& response) {
  const std::int64_t feature = number_of(request.matches[1]);
  const std::string label = parse_label(request.body);
  const std::int64_t d_sae = site.steering->sae().d_sae();
  if (feature >= d_sae) {
    answer_error(response, 404,
                 str("feature ", feature, " does not exist: the autoencoder has ", d_sae));
    return;
  }
  if (!site.labels.keeps()) {
    answer_error(response, 409,
                 "labels have no place to be kept; start the server with --dashboard or --labels");
    return;
  }
  site.labels.set(feature, label);
  answer_json(response, {{"feature", feature}, {"label", label}});
}

void answer_runs(Site& site, const Request& request, Response& response) {
  (void)request;
  answer_json(response, site.options.runs.empty() ? Json::array() : runs_json(site.options.runs));
}

void answer_run_metrics(Site& site, const Request& request, Response& response) {
  const std::string id = request.matches[1];
  std::uint64_t after = 0;
  if (request.has_param("after")) {
    const std::string text = request.get_param_value("after");
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), after);
    if (error != std::errc() || end != text.data() + text.size() || after >> 62U != 0) {
      throw_usage("'after' is no number that an answer gave as 'next'");
    }
  }
  if (!site.options.runs.empty()) {
    for (const RunFolder& run : find_runs(site.options.runs)) {
      if (run.id != id) continue;
      answer_json(response, run_rows(run, after));
      return;
    }
  }
  answer_error(response, 404, "there is no such run");
}

void answer_dashboard_index(Site& site, const Request& request, Response& response) {
  (void)request;
  if (!site.has_dashboard) {
    answer_error(response, 404, "this server has no dashboard; --dashboard names one");
    return;
  }
  answer_file(response, site.options.dashboard / "data" / "index.js");
}

void answer_dashboard_chunk(Site& site, const Request& request, Response& response) {
  if (!site.has_dashboard) {
    answer_error(response, 404, "this server has no dashboard; --dashboard names one");
    return;
  }
  // A number and nothing else comes from the request.
  const std::string name = std::to_string(number_of(request.matches[1])) + ".js";
  answer_file(response, site.options.dashboard / "data" / "features" / name);
}

void answer_openapi(Site& site, const Request& request, Response& response) {
  (void)site;
  (void)request;
  response.set_content(std::string(openapi_document()), "application/json");
}

}  // namespace drrik
