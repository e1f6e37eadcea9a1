#include "serve/requests.h"

#include "activations/fixture.h"

namespace drrik {
namespace {

const RequestLimits kLimits{100};
const std::string kRecipe =
    R"({"format": "drrik-steering-recipe", "version": 1, "edits": [{"feature": 3, "strength": 2}]})";

TEST(CompletionRequest, TakesWhatOpenAisClientSends) {
  CompletionRequest got = parse_completion(
      R"({"model": "m", "prompt": "The sea", "max_tokens": 7, "temperature": 0, "top_p": 0.5,
          "seed": 3, "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true},
          "n": 1, "best_of": 1, "echo": false, "logprobs": null, "suffix": null, "user": "u",
          "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "recipe": )" +
          kRecipe + "}",
      kLimits);
  EXPECT_EQ(got.prompts, std::vector<std::string>{"The sea"});
  EXPECT_EQ(got.max_tokens, 7);
  EXPECT_EQ(got.temperature, 0.0);
  EXPECT_EQ(got.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(got.stream && got.include_usage);
  ASSERT_TRUE(got.recipe);
  EXPECT_EQ(got.recipe->edits[0].feature, 3);
  got = parse_completion(R"({"model": "m", "prompt": ["a", "b"], "max_tokens": null, "stop": "x"})",
                         kLimits);
  EXPECT_EQ(got.prompts.size(), 2U);
  EXPECT_FALSE(got.max_tokens);
  EXPECT_EQ(got.stop, std::vector<std::string>{"x"});
  EXPECT_FALSE(got.stream);
}

TEST(CompletionRequest, RefusesWhatItDoesNotDo) {
  const auto refused = [](const std::string& members, const char* part) {
    EXPECT_ERROR(parse_completion(R"({"model": "m", "prompt": "p", )" + members + "}", kLimits),
                 kData, part);
  };
  refused(R"("n": 2)", "'n'");
  refused(R"("best_of": 3)", "'best_of'");
  refused(R"("echo": true)", "'echo'");
  refused(R"("logprobs": 1)", "'logprobs'");
  refused(R"("suffix": "s")", "'suffix'");
  refused(R"("presence_penalty": 1)", "'presence_penalty'");
  refused(R"("logit_bias": {"3": 1})", "'logit_bias'");
  refused(R"("max_tokens": 101)", "0 to 100");
  refused(R"("max_tokens": -1)", "0 to 100");
  refused(R"("max_tokens": "7")", "max_tokens");
  refused(R"("temperature": 3)", "temperature");
  refused(R"("top_p": -0.1)", "top_p");
  refused(R"("stop": [""])", "stop");
  refused(R"("stop": ["1", "2", "3", "4", "5"])", "5 stop");
  refused(R"("stream_options": {"include_usage": true})", "stream");
  refused(R"("maxtokens": 3)", "did you mean 'max_tokens'");
  refused(R"("recipe": {"format": "drrik-steering-recipe", "version": 1, "edits": [],
                        "sampling": {"max_new_tokens": 1000}})",
          "at most 100");
  EXPECT_ERROR(parse_completion(R"({"prompt": "p"})", kLimits), kData, "model");
  EXPECT_ERROR(parse_completion(R"({"model": "m"})", kLimits), kData, "prompt");
  EXPECT_ERROR(parse_completion(R"({"model": "m", "prompt": [1, 2]})", kLimits), kData,
               "token ids");
  EXPECT_ERROR(parse_completion(R"({"model": "m", "prompt": []})", kLimits), kData, "0 prompts");
  EXPECT_ERROR(parse_completion("{\"model\": \"m\", \"prompt\": \"\xFF\"}", kLimits), kData,
               "body");
  EXPECT_ERROR(parse_completion("", kLimits), kData, "body");
  EXPECT_ERROR(parse_completion(std::string(1000, '['), kLimits), kData, "body");
}

TEST(SteerRequest, ScalesAreDistinctNumbers) {
  const auto parse = [](const std::string& members) {
    return parse_steer(R"({"prompt": "p", "recipe": )" + kRecipe + members + "}", kLimits);
  };
  EXPECT_EQ(parse("").scales, std::vector<double>{1.0});
  EXPECT_TRUE(parse("").baseline);
  EXPECT_EQ(parse(R"(, "scales": [0, 1, -2.5], "baseline": false)").scales,
            (std::vector<double>{0.0, 1.0, -2.5}));
  EXPECT_ERROR(parse(R"(, "scales": [])"), kData, "0 scales");
  EXPECT_ERROR(parse(R"(, "scales": [1, 1])"), kData, "twice");
  EXPECT_ERROR(parse(R"(, "scales": [1,2,3,4,5,6,7,8,9])"), kData, "9 scales");
  EXPECT_ERROR(parse(R"(, "scales": [1e308])"), kData, "no number");
  EXPECT_ERROR(parse_steer(R"({"prompt": "p"})", kLimits), kData, "recipe");
}

TEST(ActivationsRequest, HasBounds) {
  EXPECT_EQ(parse_activations(R"({"text": "t"})").top_k, 20);
  EXPECT_EQ(parse_activations(R"({"text": "t", "features": [3, 4]})").features.size(), 2U);
  EXPECT_ERROR(parse_activations(R"({"text": "t", "top_k": 257})"), kData, "256");
  EXPECT_ERROR(parse_activations(R"({"text": 3})"), kData, "text");
  EXPECT_EQ(parse_label(R"({"label": "dogs"})"), "dogs");
  EXPECT_ERROR(parse_label(R"({"label": ")" + std::string(5000, 'x') + "\"}"), kData, "5000");
}

}  // namespace
}  // namespace drrik
