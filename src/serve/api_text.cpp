// The routes that write text: steered and plain side by side, and OpenAI's completions.

#include <atomic>
#include <ctime>
#include <utility>

#include "drrik/model/hook_names.h"
#include "serve/access.h"
#include "serve/site.h"

namespace drrik {
namespace {

// How long a wait for news goes without a look at the client.
constexpr int kSliceMs = 100;
// A stream without news says so, that nobody in between takes it for dead.
constexpr int kQuietSlices = 100;

/// Cancels its job when the answer is over, however it ended.
class Following {
 public:
  explicit Following(std::shared_ptr<TextJob> job) : job_(std::move(job)) {}
  ~Following() { job_->cancel(); }
  Following(const Following&) = delete;
  Following& operator=(const Following&) = delete;
  TextJob& job() { return *job_; }

 private:
  std::shared_ptr<TextJob> job_;
};

bool client_gone() {
  const Connection* connection = Connection::current();
  return connection == nullptr || connection->gone();
}

std::string event(const Json& json) { return "data: " + json_text(json) + "\n\n"; }

/// Events as they come: `news` turns what is new into them, `end` gives the last ones. The writing
/// stops at once when the client goes away.
void stream_events(Response& response, const std::shared_ptr<TextJob>& job,
                   std::function<std::string(const TextNews&)> news,
                   std::function<std::string()> end) {
  auto following = std::make_shared<Following>(job);
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");
  auto quiet = std::make_shared<int>(0);
  response.set_chunked_content_provider(
      "text/event-stream", [following, quiet, news = std::move(news), end = std::move(end)](
                               std::size_t, httplib::DataSink& sink) {
        const TextJob::News got = following->job().wait(kSliceMs);
        std::string out;
        for (const TextNews& one : got.texts) out += news(one);
        if (got.error) {
          out += event(error_json(status_of(got.error->kind), got.error->message));
        } else if (got.over) {
          out += end();
        }
        *quiet = out.empty() ? *quiet + 1 : 0;
        if (*quiet == kQuietSlices) {
          out = ": waiting\n\n";
          *quiet = 0;
        }
        if (out.empty()) return !client_gone();
        if (!sink.write(out.data(), out.size())) return false;
        if (got.over) sink.done();
        return true;
      });
}

SteeredStream open_stream(const Site& site, const std::string& prompt,
                          const SteeredGeneration& options) {
  SteeredStream stream = site.steering->stream(prompt, options);
  check_prompt(site, stream.text().prompt_ids);
  return stream;
}

// A recipe for another hook would steer somewhere it was not made for.
void check_hook_of(const Site& site, const SteeringRecipe& recipe) {
  const SaeSteering& steering = *site.steering;
  const Hook& here = steering.hook();
  Hook wanted = here;
  if (!recipe.hook.empty()) {
    const auto layer = recipe.layer >= 0 ? std::optional(recipe.layer) : std::optional(here.layer);
    wanted = parse_hook(recipe.hook, layer, steering.model().config());
  } else if (recipe.layer >= 0) {
    wanted.layer = recipe.layer;
  }
  if (wanted == here) return;
  throw_usage("recipe: it is for ", hook_name(wanted.point), " of layer ", wanted.layer,
              ", this server steers ", hook_name(here.point), " of layer ", here.layer);
}

bool submit(Site& site, const std::shared_ptr<TextJob>& job, const std::string& client,
            Response& response) {
  if (site.scheduler.submit(job, client)) return true;
  answer_busy(response);
  return false;
}

std::string scale_label(double scale) {
  if (scale == 0.0) return "scale_0.0";
  return "scale_" + strength_label(scale).substr(std::string_view("strength_").size());
}

std::uint64_t fresh_seed() {
  static std::atomic<std::uint64_t> next{std::stoull(random_hex().substr(0, 12), nullptr, 16)};
  return next++;
}

SteeredGeneration options_of(const CompletionRequest& asked) {
  SteeredGeneration options;
  options.max_new_tokens = 16;  // OpenAI's defaults
  options.temperature = 1.0;
  options.top_p = 1.0;
  options.seed = fresh_seed();
  if (asked.recipe) options = with_recipe(*asked.recipe, std::move(options));
  if (asked.max_tokens) options.max_new_tokens = *asked.max_tokens;
  if (asked.temperature) options.temperature = *asked.temperature;
  if (asked.top_p) options.top_p = *asked.top_p;
  if (asked.top_k) options.top_k = *asked.top_k;
  if (asked.repetition_penalty) options.repetition_penalty = *asked.repetition_penalty;
  if (asked.seed) options.seed = *asked.seed;
  options.stop = asked.stop;
  return options;
}

/// The members that every piece of a completion has.
struct Completion {
  std::string id = "cmpl-" + random_hex();
  std::int64_t created = static_cast<std::int64_t>(std::time(nullptr));
  std::string model;

  Json with(Json choices) const {
    return {{"id", id},
            {"object", "text_completion"},
            {"created", created},
            {"model", model},
            {"choices", std::move(choices)}};
  }
  static Json choice(std::size_t index, const std::string& text, const std::string& finish) {
    return {{"text", text},
            {"index", index},
            {"logprobs", nullptr},
            {"finish_reason", finish.empty() ? Json() : Json(finish)}};
  }
};

Json usage_json(std::int64_t prompt, std::int64_t written) {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", written},
          {"total_tokens", prompt + written}};
}

void stream_completion(Response& response, const std::shared_ptr<TextJob>& job,
                       const Completion& completion, bool include_usage) {
  auto written = std::make_shared<std::int64_t>(0);
  stream_events(
      response, job,
      [completion, written](const TextNews& news) {
        if (news.done) *written += news.tokens;
        return event(completion.with(
            Json::array({Completion::choice(news.text, news.piece, news.finish_reason)})));
      },
      [completion, written, include_usage, prompt = job->prompt_tokens()] {
        std::string out;
        if (include_usage) {
          Json last = completion.with(Json::array());
          last["usage"] = usage_json(prompt, *written);
          out = event(last);
        }
        return out + "data: [DONE]\n\n";
      });
}

void whole_completion(Response& response, const std::shared_ptr<TextJob>& job,
                      const Completion& completion, std::size_t texts) {
  Following following(job);
  std::vector<std::string> written(texts);
  std::vector<std::string> finish(texts);
  std::int64_t tokens = 0;
  while (true) {
    const TextJob::News got = job->wait(kSliceMs);
    for (const TextNews& news : got.texts) {
      written[news.text] += news.piece;
      if (!news.done) continue;
      finish[news.text] = news.finish_reason;
      tokens += news.tokens;
    }
    if (got.error) {
      answer_error(response, *got.error);
      return;
    }
    if (got.over) break;
    if (client_gone()) return;
  }
  Json choices = Json::array();
  for (std::size_t i = 0; i < texts; ++i) {
    choices.push_back(Completion::choice(i, written[i], finish[i]));
  }
  Json json = completion.with(std::move(choices));
  json["usage"] = usage_json(job->prompt_tokens(), tokens);
  answer_json(response, json);
}

}  // namespace

void answer_completions(Site& site, const Request& request, Response& response) {
  const CompletionRequest asked = parse_completion(request.body, site.limits);
  if (asked.model != site.options.model_name && asked.model != "drrik") {
    answer_error(response, 404,
                 str("the model '", asked.model.substr(0, 100),
                     "' does not exist; this server has '", site.options.model_name, "'"),
                 "model_not_found");
    return;
  }
  if (asked.recipe) check_hook_of(site, *asked.recipe);
  SteeredGeneration options = options_of(asked);
  std::vector<SteeredStream> streams;
  for (const std::string& prompt : asked.prompts) {
    streams.push_back(open_stream(site, prompt, options));
    ++options.seed;
  }
  const std::size_t texts = streams.size();
  auto job = std::make_shared<TextJob>(std::move(streams));
  if (!submit(site, job, client_of(request, asked.user), response)) return;
  Completion completion;
  completion.model = site.options.model_name;
  if (asked.stream) {
    stream_completion(response, job, completion, asked.include_usage);
  } else {
    whole_completion(response, job, completion, texts);
  }
}

void answer_steer(Site& site, const Request& request, Response& response) {
  const SteerRequest asked = parse_steer(request.body, site.limits);
  check_hook_of(site, asked.recipe);
  std::vector<std::string> labels;
  std::vector<SteeredStream> streams;
  if (asked.baseline) {
    SteeredGeneration plain = with_recipe(asked.recipe);
    plain.edits.clear();
    labels.emplace_back("baseline");
    streams.push_back(open_stream(site, asked.prompt, plain));
  }
  for (const double scale : asked.scales) {
    SteeredGeneration options = with_recipe(asked.recipe);
    for (SteeringEdit& edit : options.edits) {
      if (edit.mode == EditMode::kAdd) edit.strength *= scale;
    }
    labels.push_back(scale_label(scale));
    streams.push_back(open_stream(site, asked.prompt, options));
  }
  auto job = std::make_shared<TextJob>(std::move(streams));
  if (!submit(site, job, client_of(request), response)) return;
  stream_events(
      response, job,
      [labels](const TextNews& news) {
        std::string out;
        const std::string& label = labels[news.text];
        if (!news.piece.empty()) out += event({{"stream", label}, {"text", news.piece}});
        if (news.done) {
          out += event({{"stream", label},
                        {"done", true},
                        {"finish_reason", news.finish_reason},
                        {"tokens", news.tokens}});
        }
        return out;
      },
      [] { return std::string("data: [DONE]\n\n"); });
}

}  // namespace drrik
