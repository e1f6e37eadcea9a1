#include "drrik/ops/activation.h"

#include <array>
#include <utility>

#include "drrik/base/threads.h"
#include "ops/gate_rows.h"
#include "ops/grain.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/activation.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "ops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace drrik {
namespace HWY_NAMESPACE {
namespace {

struct Identity {
  HWY_INLINE VF operator()(DF, VF x) const { return x; }
};
struct Relu {
  // Not Max, which would turn NaN into 0 on some targets.
  HWY_INLINE VF operator()(DF d, VF x) const {
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
  }
};
struct ReluSquared {
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF y = Relu()(d, x);
    return hn::Mul(y, y);
  }
};
struct Relu6 {
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF six = hn::Set(d, 6.0F);
    const VF y = Relu()(d, x);
    return hn::IfThenElse(hn::Gt(y, six), six, y);
  }
};
struct LeakyRelu {
  HWY_INLINE VF operator()(DF d, VF x) const {
    return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(x, hn::Set(d, 0.01F)), x);
  }
};
struct HardSwish {
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF gate = Relu6()(d, hn::Add(x, hn::Set(d, 3.0F)));
    return hn::Mul(x, hn::Mul(gate, hn::Set(d, 1.0F / 6.0F)));
  }
};
struct Mish {
  // With e = exp(-|x|), tanh(ln(1 + exp(x))) is (1 + 2e) / (1 + 2e + 2e²) from 0 on and
  // e (e + 2) / (e (e + 2) + 2) below: no exponential overflows and nothing cancels.
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF one = hn::Set(d, 1.0F);
    const VF two = hn::Set(d, 2.0F);
    const VF e = exp_nonpositive(d, hn::Neg(hn::Abs(x)));
    const auto below = hn::Lt(x, hn::Zero(d));
    const VF top = hn::IfThenElse(below, hn::Mul(e, hn::Add(e, two)), hn::MulAdd(two, e, one));
    const VF rest = hn::IfThenElse(below, two, hn::Mul(two, hn::Mul(e, e)));
    return hn::Mul(x, hn::Div(top, hn::Add(top, rest)));
  }
};
struct Gelu {
  HWY_INLINE VF operator()(DF d, VF x) const { return gelu_f32(d, x); }
};
struct Gelu10 {
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF ten = hn::Set(d, 10.0F);  // below -10 it never is
    const VF y = gelu_f32(d, x);
    return hn::IfThenElse(hn::Gt(y, ten), ten, y);
  }
};
struct GeluTanh {
  // 0.5 (1 + tanh u) = sigmoid(2u), which does not cancel in the negative tail.
  HWY_INLINE VF operator()(DF d, VF x) const {
    const VF s = hn::Mul(x, x);
    const VF poly = hn::MulAdd(s, hn::Set(d, 0.0713548162726F), hn::Set(d, 1.59576912161F));
    return swish_f32(d, x, hn::Mul(x, poly));
  }
};
struct GeluQuick {
  HWY_INLINE VF operator()(DF d, VF x) const {
    return swish_f32(d, x, hn::Mul(x, hn::Set(d, 1.702F)));
  }
};
struct Silu {
  HWY_INLINE VF operator()(DF d, VF x) const { return swish_f32(d, x, x); }
};
struct Tanh {
  HWY_INLINE VF operator()(DF d, VF x) const { return tanh_f32(d, x); }
};
struct Sigmoid {
  HWY_INLINE VF operator()(DF d, VF x) const { return sigmoid_f32(d, x); }
};

template <typename Out, typename F>
HWY_INLINE void activate_rows(MatView<const float> x, MatView<Out> out, const F& f) {
  for (std::int64_t r = 0; r < x.rows(); ++r) map1(x.row_ptr(r), out.row_ptr(r), x.cols(), f);
}

template <typename F>
struct Gated {
  F f;
  HWY_INLINE VF operator()(DF d, VF gate, VF up) const { return hn::Mul(f(d, gate), up); }
};

template <typename Out, typename F>
HWY_INLINE void gated_rows(MatView<const float> gate, MatView<const float> up, MatView<Out> out,
                           const F& f) {
  for (std::int64_t r = 0; r < gate.rows(); ++r) {
    map2(gate.row_ptr(r), up.row_ptr(r), out.row_ptr(r), gate.cols(), Gated<F>{f});
  }
}

// Calls g with the functor of `activation`.
template <typename G>
HWY_INLINE void with_activation(Activation activation, const G& g) {
  switch (activation) {
    case Activation::kIdentity:
      return g(Identity());
    case Activation::kRelu:
      return g(Relu());
    case Activation::kGelu:
      return g(Gelu());
    case Activation::kGeluTanh:
      return g(GeluTanh());
    case Activation::kGeluQuick:
      return g(GeluQuick());
    case Activation::kSilu:
      return g(Silu());
    case Activation::kTanh:
      return g(Tanh());
    case Activation::kSigmoid:
      return g(Sigmoid());
    case Activation::kReluSquared:
      return g(ReluSquared());
    case Activation::kRelu6:
      return g(Relu6());
    case Activation::kLeakyRelu:
      return g(LeakyRelu());
    case Activation::kGelu10:
      return g(Gelu10());
    case Activation::kMish:
      return g(Mish());
    case Activation::kHardSwish:
      return g(HardSwish());
  }
}

template <typename Out>
struct ActivateCall {
  MatView<const float> x;
  MatView<Out> out;
  template <typename F>
  HWY_INLINE void operator()(const F& f) const {
    activate_rows(x, out, f);
  }
};
template <typename Out>
struct GateCall {
  MatView<const float> gate;
  MatView<const float> up;
  MatView<Out> out;
  template <typename F>
  HWY_INLINE void operator()(const F& f) const {
    gated_rows(gate, up, out, f);
  }
};

void ActivateF32(Activation a, MatView<const float> x, MatView<float> out) {
  with_activation(a, ActivateCall<float>{x, out});
}
void ActivateBF16(Activation a, MatView<const float> x, MatView<BF16> out) {
  with_activation(a, ActivateCall<BF16>{x, out});
}
void GateF32(Activation a, MatView<const float> gate, MatView<const float> up, MatView<float> out) {
  with_activation(a, GateCall<float>{gate, up, out});
}
void GateBF16(Activation a, MatView<const float> gate, MatView<const float> up, MatView<BF16> out) {
  with_activation(a, GateCall<BF16>{gate, up, out});
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace drrik
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace drrik {
namespace {

HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateBF16);
HWY_EXPORT(GateF32);
HWY_EXPORT(GateBF16);

// The first name of each function is its own; the others are what configurations call it.
constexpr std::array<std::pair<std::string_view, Activation>, 24> kNames = {{
    {"identity", Activation::kIdentity},
    {"linear", Activation::kIdentity},
    {"relu", Activation::kRelu},
    {"gelu", Activation::kGelu},
    {"gelu_python", Activation::kGelu},
    {"gelu_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
    {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_python_tanh", Activation::kGeluTanh},
    {"gelu_quick", Activation::kGeluQuick},
    {"quick_gelu", Activation::kGeluQuick},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"tanh", Activation::kTanh},
    {"sigmoid", Activation::kSigmoid},
    {"relu_squared", Activation::kReluSquared},
    {"relu2", Activation::kReluSquared},
    {"relu6", Activation::kRelu6},
    {"leaky_relu", Activation::kLeakyRelu},
    {"gelu_10", Activation::kGelu10},
    {"mish", Activation::kMish},
    {"hardswish", Activation::kHardSwish},
}};

}  // namespace

std::optional<Activation> find_activation(std::string_view name) {
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  return std::nullopt;
}

std::string_view activation_name(Activation activation) {
  for (const auto& [known, candidate] : kNames) {
    if (candidate == activation) return known;
  }
  return "unknown";
}

void activate(Activation activation, MatView<const float> x, MatView<float> out) {
  check_same_shape("activate", x, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(ActivateF32)
    (activation, x.rows_range(begin, end - begin), out.rows_range(begin, end - begin));
  });
}

void activate(Activation activation, MatView<const float> x, MatView<BF16> out) {
  check_same_shape("activate", x, out);
  parallel_for(x.rows(), row_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(ActivateBF16)
    (activation, x.rows_range(begin, end - begin), out.rows_range(begin, end - begin));
  });
}

namespace detail {

void gate_rows(Activation activation, MatView<const float> gate, MatView<const float> up,
               MatView<float> out) {
  HWY_DYNAMIC_DISPATCH(GateF32)(activation, gate, up, out);
}

void gate_rows(Activation activation, MatView<const float> gate, MatView<const float> up,
               MatView<BF16> out) {
  HWY_DYNAMIC_DISPATCH(GateBF16)(activation, gate, up, out);
}

}  // namespace detail

namespace {

template <typename Out>
void gate_mul_rows(Activation activation, MatView<const float> gate, MatView<const float> up,
                   MatView<Out> out) {
  check_same_shape("gate_mul", gate, up);
  check_same_shape("gate_mul", gate, out);
  parallel_for(gate.rows(), row_grain(gate.cols()), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin;
    detail::gate_rows(activation, gate.rows_range(begin, n), up.rows_range(begin, n),
                      out.rows_range(begin, n));
  });
}

}  // namespace

void gate_mul(Activation activation, MatView<const float> gate, MatView<const float> up,
              MatView<float> out) {
  gate_mul_rows(activation, gate, up, out);
}

void gate_mul(Activation activation, MatView<const float> gate, MatView<const float> up,
              MatView<BF16> out) {
  gate_mul_rows(activation, gate, up, out);
}

}  // namespace drrik
#endif  // HWY_ONCE
