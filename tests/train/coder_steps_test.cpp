// Three steps of every kind of coder against those of SAELens, dictionary_learning, sparsify and
// the papers' formulas under autograd (tests/data/sae_steps/README.md).

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "drrik/base/threads.h"
#include "drrik/io/safetensors.h"
#include "drrik/sae/sparse_coder.h"
#include "io/json.h"
#include "sae/made.h"
#include "train/coder_stepper.h"

namespace drrik {
namespace {

using testing::relative_error;

const std::filesystem::path kFolder = std::filesystem::path(DRRIK_TEST_DATA) / "sae_steps";

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Case {
  std::string name;
  SafetensorsFile file;
  Json json;
  SparseCoderConfig config;
  CoderTraining training;
  std::vector<double> sparsity;  // factor of each step
};

std::vector<std::int64_t> integers(const Json& array) {
  std::vector<std::int64_t> out;
  for (const Json& v : array) out.push_back(v.get<std::int64_t>());
  return out;
}

// What the file's trainer is in our terms.
Case open_case(const std::string& name) {
  Case c{name, SafetensorsFile::open(kFolder / (name + ".safetensors")), {}, {}, {}, {1, 1, 1}};
  c.json = parse_json(c.file.metadata().at("case"), "case");
  const Json& hyper = c.json["hyper"];
  const auto number = [&](const char* key, double otherwise) {
    return hyper.contains(key) && hyper[key].is_number() ? hyper[key].get<double>() : otherwise;
  };
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const bool sl = has("_sl");
  const bool dl = has("_dl");
  c.config.d_in = c.json["d"].get<std::int64_t>();
  c.config.d_sae = c.json["h"].get<std::int64_t>();
  c.config.k = static_cast<std::int64_t>(number("k", 6));
  CoderTraining& t = c.training;
  t.adam.beta1 = c.json["betas"][0].get<double>();
  t.adam.beta2 = c.json["betas"][1].get<double>();
  t.adam.eps = c.json["eps"].get<double>();
  t.adam.learning_rate = 1.0;
  t.clip_norm = c.json["clip"].is_null() ? 0.0 : c.json["clip"].get<double>();
  t.unit_decoder = c.json["unit"] == "after";
  t.sparsity.coefficient = number("l1_penalty", number("l1_coefficient", 0.0));
  t.sparsity.by_decoder_norm = !dl || has("april");
  if (hyper.contains("sparsity_scale")) {
    for (std::size_t i = 0; i < 3; ++i) {
      c.sparsity[i] = hyper["sparsity_scale"][i].get<double>();  // steps 10, 11, 12 of a warm-up
    }
  }
  if (hyper.contains("l1_warm_up_steps")) {
    for (std::size_t i = 0; i < 3; ++i) {
      c.sparsity[i] = c.json["coefficients"][i]["l1"].get<double>() / t.sparsity.coefficient;
    }
  }
  t.aux.coefficient = number("auxk_alpha", number("aux_loss_coefficient", 0.0));
  if (sl) {
    t.aux.rectify = false;
    t.aux.scale = AuxLoss::Scale::kDeadShare;
    t.threshold_decay = 1.0 - number("topk_threshold_lr", 0.01);
    t.threshold_from_zero = true;
    c.config.apply_b_dec_to_input = !has("relu_april_sl_plain");
    c.config.rescale_by_decoder_norm = hyper.contains("rescale_acts_by_decoder_norm") &&
                                       hyper["rescale_acts_by_decoder_norm"].get<bool>();
  } else {
    t.threshold_decay = number("threshold_beta", 0.999);
  }
  if (has("matryoshka")) {
    c.config.architecture = "matryoshka";
    if (dl) {
      std::int64_t end = 0;
      for (const std::int64_t size : integers(hyper["group_sizes"])) {
        c.config.groups.push_back(end += size);
      }
      t.group_weights.assign(3, 1.0 / 9.0);  // its weights of 1/3 are averaged once more
    } else {
      c.config.groups = integers(hyper["matryoshka_widths"]);
    }
  } else if (has("batchtopk")) {
    c.config.architecture = "batchtopk";
  } else if (has("topk") || has("transcoder_sp")) {
    c.config.architecture = "topk";
  } else if (has("jumprelu")) {
    c.config.architecture = "jumprelu";
    t.sparsity.bandwidth = number("bandwidth", number("jumprelu_bandwidth", 0.0));
    t.sparsity.coefficient = number("l0_coefficient", number("sparsity_penalty", 0.0));
    t.sparsity.target_l0 = number("target_l0", 20.0);
    t.sparsity.tanh_scale = number("jumprelu_tanh_scale", 4.0);
    t.sparsity.preact_coefficient = number("pre_act_loss_coefficient", 0.0);
    t.sparsity.gradient_to_input = hyper.contains("jumprelu_ste_to_input");
    t.sparsity.jumprelu = dl                 ? SparsityOptions::JumpRelu::kTarget
                          : has("tanh")      ? SparsityOptions::JumpRelu::kTanh
                          : has("quadratic") ? SparsityOptions::JumpRelu::kQuadratic
                                             : SparsityOptions::JumpRelu::kL0;
    if (!sl) c.config.apply_b_dec_to_input = false;
  } else if (has("gated")) {
    c.config.architecture = "gated";
  } else {
    c.config.architecture = "standard";
  }
  if (has("_sp")) t.reconstruction = CoderTraining::Reconstruction::kFvu;
  if (has("transcoder")) {
    c.config.apply_b_dec_to_input = false;
    c.config.d_out = c.file.get("y").dim(1);
    c.config.skip = has("skip");
  }
  if (has("crosscoder")) {
    c.config.parts = 3;
    c.config.d_in *= 3;
    c.config.apply_b_dec_to_input = false;
  }
  return c;
}

// A tensor of the file as ours is: W_enc [h, d_in], layers side by side.
Tensor ours(const Case& c, const std::string& prefix, const std::string& name) {
  const std::string theirs = c.config.architecture == "gated" && name == "b_enc" ? "b_gate" : name;
  Tensor read = c.file.get(prefix + "." + theirs).clone();
  const auto from = read.data<float>();
  if (name == "W_enc") {  // [(parts,) d, h]
    Tensor out = Tensor::zeros<float>({c.config.d_sae, c.config.d_in});
    for (std::int64_t i = 0; i < c.config.d_in; ++i) {
      for (std::int64_t j = 0; j < c.config.d_sae; ++j) {
        out.mutable_mat<float>()(j, i) = from[at(i * c.config.d_sae + j)];
      }
    }
    return out;
  }
  if (name == "W_dec") return Tensor::from<float>(from, {c.config.d_sae, c.config.output_width()});
  if (name == "b_dec") return Tensor::from<float>(from, {c.config.output_width()});
  return read;
}

SparseCoder initial(const Case& c) {
  SparseCoder coder(c.config);
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    if (p.name == "threshold" && c.config.architecture != "jumprelu") continue;
    coder.parameter(p.name) = ours(c, "init", p.name);
  }
  return coder;
}

Tensor rows_of(const Case& c, const char* name, std::int64_t step, std::int64_t width) {
  const Tensor all = c.file.get(name).clone();
  const std::int64_t batch = c.json["batch"].get<std::int64_t>();
  return Tensor::from<float>(all.data<float>().subspan(at(step * batch * width), at(batch * width)),
                             {batch, width});
}

std::vector<std::int64_t> activity(const Case& c, std::int64_t step, std::int64_t number) {
  std::vector<std::int64_t> last(at(c.config.d_sae), number - 1);
  if (!c.json["steps"][0].contains("dead")) return last;
  const Tensor dead = c.file.get("dead").clone();
  for (std::int64_t j = 0; j < c.config.d_sae; ++j) {
    if (dead.data<std::uint8_t>()[at(step * c.config.d_sae + j)] != 0) {
      last[at(j)] = number - c.training.dead_steps - 1;
    }
  }
  return last;
}

// Both sides sum a few thousand float32 products in other orders: 1e-6 of the norm has been seen
// between two PyTorch versions; the issue asks for 1e-4.
constexpr double kLossTolerance = 2e-6;
constexpr double kGradientTolerance = 1e-5;
// Adam divides by √v, so that where a gradient is near 0 its rounding error becomes a step of any
// size up to the learning rate (3e-3 a step, 7.5e-3 over the three); weights are about 0.3.
constexpr double kWeightTolerance = 1e-5;

const char* const kWhole[] = {"bricken_dl",       "relu_april_dl",
                              "relu_april_sl",    "relu_april_sl_plain",
                              "topk_dl",          "topk_sl",
                              "topk_sl_rescale",  "batchtopk_dl",
                              "batchtopk_sl",     "matryoshka_dl",
                              "matryoshka_sl",    "matryoshka_sl_plain",
                              "jumprelu_dl",      "jumprelu_gdm",
                              "jumprelu_sl_step", "jumprelu_sl_quadratic",
                              "jumprelu_sl_tanh", "gated_dl",
                              "transcoder_relu",  "skip_transcoder_relu",
                              "transcoder_sp",    "skip_transcoder_sp",
                              "crosscoder"};

class CoderSteps : public ::testing::TestWithParam<std::tuple<const char*, StepPath>> {};

TEST_P(CoderSteps, LossAndGradientsAreTheReferences) {
  const auto [name, path] = GetParam();
  Case c = open_case(name);
  c.training.path = path;
  SparseCoder coder = initial(c);
  CoderStepper stepper(coder, c.training);
  Tensor x = rows_of(c, "x", 0, c.config.d_in);
  const bool targets = c.name.find("transcoder") != std::string::npos;
  const Tensor y = targets ? rows_of(c, "y", 0, c.config.output_width()) : Tensor();
  CoderGradients gradients;
  const CoderLoss loss =
      stepper.gradients(x.mutable_mat<float>(), targets ? y.mat<float>() : MatView<const float>(),
                        0, {1.0, c.sparsity[0]}, activity(c, 0, 0), gradients);
  const double wanted = c.json["steps"][0]["losses"]["loss"].get<double>();
  EXPECT_NEAR(loss.loss / wanted, 1.0, kLossTolerance);
  EXPECT_DOUBLE_EQ(loss.l0, c.json["steps"][0]["l0"].get<double>());
  if (c.json["steps"][0].contains("dead")) {
    EXPECT_EQ(loss.dead, c.json["steps"][0]["dead"].get<std::int64_t>());
  }
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    if (p.name == "threshold" && c.config.architecture != "jumprelu") continue;
    EXPECT_LT(
        relative_error(gradients.at(p.name).data<float>(), ours(c, "grad", p.name).data<float>()),
        kGradientTolerance)
        << p.name;
  }
}

TEST_P(CoderSteps, WeightsAfterThreeStepsAreTheReferences) {
  const auto [name, path] = GetParam();
  Case c = open_case(name);
  c.training.path = path;
  SparseCoder coder = initial(c);
  CoderStepper stepper(coder, c.training);
  const bool targets = c.name.find("transcoder") != std::string::npos;
  for (std::int64_t s = 0; s < 3; ++s) {
    Tensor x = rows_of(c, "x", s, c.config.d_in);
    const Tensor y = targets ? rows_of(c, "y", s, c.config.output_width()) : Tensor();
    std::vector<std::int64_t> last = activity(c, s, s);
    const Json& step = c.json["steps"][at(s)];
    const CoderLoss loss =
        stepper.step(x.mutable_mat<float>(), targets ? y.mat<float>() : MatView<const float>(), s,
                     {step["lr"].get<double>(), c.sparsity[at(s)]}, last);
    EXPECT_NEAR(loss.loss / step["losses"]["loss"].get<double>(), 1.0, 1e-5) << s;
    if (c.training.clip_norm > 0 && !c.training.unit_decoder) {
      EXPECT_NEAR(loss.gradient_norm / step["grad_norm"].get<double>(), 1.0, 1e-5) << s;
    }
    if (c.json.contains("threshold_after") && c.config.architecture != "topk") {
      EXPECT_NEAR(
          coder.latent_parameter("threshold")[0] / c.json["threshold_after"][at(s)].get<float>(),
          1.0, 1e-5)
          << s;
    }
  }
  stepper.settle();
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    if (p.name == "threshold" && c.config.architecture != "jumprelu") continue;
    EXPECT_LT(relative_error(p.tensor->data<float>(), ours(c, "final", p.name).data<float>()),
              kWeightTolerance)
        << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CoderSteps,
                         ::testing::Combine(::testing::ValuesIn(kWhole),
                                            ::testing::Values(StepPath::kSparse, StepPath::kDense)),
                         [](const auto& param_info) {
                           return std::string(std::get<0>(param_info.param)) +
                                  (std::get<1>(param_info.param) == StepPath::kDense ? "_dense"
                                                                                     : "_sparse");
                         });

}  // namespace
}  // namespace drrik
