#include "drrik/ops/adam.h"

#include <cmath>

#include "drrik/base/threads.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/adam.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/adam-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

void AdamRun(float* param, const float* grad, float* m, float* v, std::int64_t n,
             const AdamScalars& scalars) {
  adam_run(param, grad, m, v, n, scalars);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(AdamRun);

}  // namespace

AdamScalars adam_scalars(const AdamOptions& options, std::int64_t step) {
  if (step < 1) throw_usage("adam: step ", step, ", steps count from 1");
  const auto t = static_cast<double>(step);
  AdamScalars s;
  s.beta1 = static_cast<float>(options.beta1);
  s.one_minus_beta1 = static_cast<float>(1.0 - options.beta1);
  s.beta2 = static_cast<float>(options.beta2);
  s.one_minus_beta2 = static_cast<float>(1.0 - options.beta2);
  s.step_size = static_cast<float>(options.learning_rate / (1.0 - std::pow(options.beta1, t)));
  s.sqrt_bias_correction2 = static_cast<float>(std::sqrt(1.0 - std::pow(options.beta2, t)));
  s.eps = static_cast<float>(options.eps);
  s.weight_decay = static_cast<float>(options.weight_decay);
  s.keep = static_cast<float>(1.0 - options.learning_rate * options.decoupled_weight_decay);
  return s;
}

void adam_step(std::span<float> param, std::span<const float> grad, std::span<float> m,
               std::span<float> v, const AdamScalars& scalars) {
  if (grad.size() != param.size() || m.size() != param.size() || v.size() != param.size()) {
    throw_data("adam: ", param.size(), " parameters, ", grad.size(), " gradients, ", m.size(),
               " and ", v.size(), " moments");
  }
  parallel_for(static_cast<std::int64_t>(param.size()), kElementGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 HWY_DYNAMIC_DISPATCH(AdamRun)
                 (param.data() + begin, grad.data() + begin, m.data() + begin, v.data() + begin,
                  end - begin, scalars);
               });
}

void adam_step(std::span<float> param, std::span<const float> grad, std::span<float> m,
               std::span<float> v, std::int64_t step, const AdamOptions& options) {
  adam_step(param, grad, m, v, adam_scalars(options, step));
}

}  // namespace drrik
#endif  // HWY_ONCE
