#include "drrik/ops/attention.h"

#include "ops/ops_testing.h"

namespace drrik {
namespace {

using testing::Matrix;

struct Layout {
  std::vector<std::int64_t> q_lengths;
  std::vector<std::int64_t> k_lengths;
  std::int64_t heads = 2;
  std::int64_t kv_heads = 1;
  std::int64_t dim = 16;
  std::int64_t value_dim = 16;
};

std::vector<std::int64_t> offsets_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t n : lengths) offsets.push_back(offsets.back() + n);
  return offsets;
}

// The definition, in double precision. tolerances receives Σ p |v| of each element.
void naive(const Layout& s, const AttentionOptions& o, Heads<const float> q, Heads<const float> k,
           Heads<const float> v, std::vector<double>& out, std::vector<double>& sizes) {
  const auto qo = offsets_of(s.q_lengths);
  const auto ko = offsets_of(s.k_lengths);
  out.assign(static_cast<std::size_t>(q.rows * s.heads * s.value_dim), 0.0);
  sizes = out;
  const double scale =
      o.scale != 0.0F ? static_cast<double>(o.scale) : 1.0 / std::sqrt(static_cast<double>(s.dim));
  for (std::size_t i = 0; i < s.q_lengths.size(); ++i) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t g = h / (s.heads / s.kv_heads);
      for (std::int64_t r = 0; r < s.q_lengths[i]; ++r) {
        const std::int64_t position = s.k_lengths[i] - s.q_lengths[i] + r;
        std::vector<std::pair<std::int64_t, double>> scores;
        double largest = -1e300;
        for (std::int64_t j = 0; j < s.k_lengths[i]; ++j) {
          if (o.causal && j > position) continue;
          if (o.window > 0 && (j <= position - o.window || j >= position + o.window)) continue;
          double dot = 0.0;
          for (std::int64_t d = 0; d < s.dim; ++d) {
            dot += static_cast<double>(q.at(qo[i] + r, h)[d]) *
                   static_cast<double>(k.at(ko[i] + j, g)[d]);
          }
          dot *= scale;
          if (o.soft_cap > 0.0F) {
            dot =
                static_cast<double>(o.soft_cap) * std::tanh(dot / static_cast<double>(o.soft_cap));
          }
          if (!o.alibi_slopes.empty()) {
            dot += static_cast<double>(o.alibi_slopes[static_cast<std::size_t>(h)]) *
                   static_cast<double>(j - position);
          }
          if (!o.key_bias.empty()) dot += static_cast<double>(o.key_bias(h, j));
          scores.emplace_back(j, dot);
          largest = std::max(largest, dot);
        }
        double total = 0.0;
        for (auto& [j, score] : scores) total += score = std::exp(score - largest);
        for (const auto& [j, p] : scores) {
          for (std::int64_t d = 0; d < s.value_dim; ++d) {
            const double term = p / total * static_cast<double>(v.at(ko[i] + j, g)[d]);
            const auto at = static_cast<std::size_t>(((qo[i] + r) * s.heads + h) * s.value_dim + d);
            out[at] += term;
            sizes[at] += std::fabs(term);
          }
        }
      }
    }
  }
}

// The scores are sums of `dim` products of magnitude about dim, so exp carries about
// dim · eps · |score| relative error, and the weighted sum adds a few eps per key block. 64 eps ·
// Σ p |v| covers both for dim <= 128 with scores of order 1; wrong masks are off by Σ p |v| / keys.
std::int64_t wrong_elements(const Layout& s, const AttentionOptions& o, Heads<const float> q,
                            Heads<const float> k, Heads<const float> v, Heads<const float> out) {
  std::vector<double> wanted;
  std::vector<double> sizes;
  naive(s, o, q, k, v, wanted, sizes);
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t h = 0; h < out.heads; ++h) {
      for (std::int64_t d = 0; d < out.dim; ++d) {
        const auto at = static_cast<std::size_t>((r * out.heads + h) * out.dim + d);
        const double tolerance = 64.0 * testing::kEps * sizes[at];
        wrong += testing::near(static_cast<double>(out.at(r, h)[d]), wanted[at], tolerance) ? 0 : 1;
      }
    }
  }
  return wrong;
}

void check(const Layout& s, const AttentionOptions& o) {
  const auto qo = offsets_of(s.q_lengths);
  const auto ko = offsets_of(s.k_lengths);
  // q and out, k and v side by side in wider buffers.
  Matrix q = Matrix::random(qo.back(), s.heads * s.dim, 5, 1);
  Matrix k = Matrix::random(ko.back(), s.kv_heads * s.dim, 7, 2);
  Matrix v = Matrix::random(ko.back(), s.kv_heads * s.value_dim, 1, 3);
  Matrix out(qo.back(), s.heads * s.value_dim, 3);
  const Heads<float> qh(q.view(), s.heads);
  const Heads<float> kh(k.view(), s.kv_heads);
  const Heads<float> vh(v.view(), s.kv_heads);
  const Heads<float> oh(out.view(), s.heads);
  attention(qh, kh, vh, qo, ko, o, oh);
  EXPECT_TRUE(out.guards_intact());
  EXPECT_EQ(wrong_elements(s, o, qh, kh, vh, oh), 0);
}

const Layout kLayouts[] = {
    {{1}, {1}, 1, 1, 1, 1},
    {{7}, {7}, 2, 1, 16, 16},
    {{64, 3, 65}, {64, 3, 65}, 2, 2, 64, 64},
    {{200}, {200}, 2, 1, 20, 12},
    {{130, 0, 5}, {130, 0, 9}, 4, 2, 80, 80},
    {{1, 2, 4, 70}, {100, 2, 130, 140}, 3, 1, 33, 48},
    {{600}, {600}, 1, 1, 16, 16},
};

TEST(Attention, CausalMatchesTheDefinition) {
  for (const Layout& s : kLayouts) check(s, {});
}

TEST(Attention, EveryOptionMatchesTheDefinition) {
  const std::vector<float> slopes = {0.5F, 0.25F, 0.125F, 0.0625F};
  for (const Layout& s : kLayouts) {
    SCOPED_TRACE(str("heads ", s.heads, " dim ", s.dim, " rows ", s.q_lengths[0]));
    AttentionOptions o;
    o.causal = false;
    check(s, o);
    o.window = 5;
    check(s, o);
    o.causal = true;
    check(s, o);
    o.window = 100;
    o.soft_cap = 2.0F;
    o.scale = 0.3F;
    check(s, o);
    o = AttentionOptions();
    o.alibi_slopes = std::span<const float>(slopes).first(static_cast<std::size_t>(s.heads));
    check(s, o);
    o = AttentionOptions();
    const Matrix bias = Matrix::random(s.heads, 601, 2, 9);
    o.key_bias = bias.view();
    check(s, o);
    o.window = 70;
    check(s, o);
  }
}

TEST(Attention, EveryInstructionSetAgrees) {
  testing::for_each_target([] {
    AttentionOptions capped;
    capped.soft_cap = 3.0F;
    for (const Layout& s : kLayouts) {
      if (s.q_lengths[0] > 200) continue;
      check(s, {});
      check(s, capped);
    }
  });
}

TEST(Attention, ComparatorSeesAWrongMask) {
  const Layout s = {{90}, {90}, 1, 1, 16, 16};
  const Matrix q = Matrix::random(90, 16, 0, 1);
  const Matrix k = Matrix::random(90, 16, 0, 2);
  const Matrix v = Matrix::random(90, 16, 0, 3);
  Matrix out(90, 16);
  const Heads<const float> qh(q.view(), 1);
  const Heads<const float> kh(k.view(), 1);
  const Heads<const float> vh(v.view(), 1);
  const std::vector<std::int64_t> offsets = {0, 90};
  AttentionOptions window;
  window.window = 89;
  attention(qh, kh, vh, offsets, window, Heads<float>(out.view(), 1));
  EXPECT_EQ(wrong_elements(s, window, qh, kh, vh, Heads<float>(out.view(), 1)), 0);
  // One key too many in the last row.
  EXPECT_GT(wrong_elements(s, {}, qh, kh, vh, Heads<float>(out.view(), 1)), 10);
  out(3, 3) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(wrong_elements(s, window, qh, kh, vh, Heads<float>(out.view(), 1)), 1);
}

// Keys that no query of a block sees are not read: NaN there, which no mask could undo once it was
// multiplied by a weight of 0, leaves the results alone. Both kernels, causal and not.
TEST(Attention, WindowsSkipWhatLiesOutside) {
  constexpr std::int64_t kKeys = 400;
  Matrix q = Matrix::random(kKeys, 16, 0, 1);
  const Matrix clean_k = Matrix::random(kKeys, 16, 0, 2);
  const Matrix clean_v = Matrix::random(kKeys, 16, 0, 3);
  for (const bool causal : {true, false}) {
    for (const std::int64_t rows : {1, 3, 16}) {
      AttentionOptions o;
      o.window = 8;
      o.causal = causal;
      const Heads<const float> last(q.view().rows_range(kKeys - rows, rows), 1);
      Matrix want(rows, 16);
      attention_cached(last, Heads<const float>(clean_k.view(), 1),
                       Heads<const float>(clean_v.view(), 1), o, Heads<float>(want.view(), 1));
      Matrix k = clean_k;
      Matrix v = clean_v;
      for (std::int64_t r = 0; r < 280; ++r) {
        k(r, r % 16) = std::numeric_limits<float>::quiet_NaN();
        v(r, r % 16) = std::numeric_limits<float>::quiet_NaN();
      }
      Matrix got(rows, 16);
      attention_cached(last, Heads<const float>(k.view(), 1), Heads<const float>(v.view(), 1), o,
                       Heads<float>(got.view(), 1));
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 16; ++c) ASSERT_EQ(got(r, c), want(r, c));
      }
    }
  }
}

TEST(Attention, WorksInsideOneFusedBufferAndInPlace) {
  // GPT-NeoX: [q k v] of head 0, then of head 1.
  const std::int64_t dim = 16;
  Matrix fused = Matrix::random(70, 2 * 3 * dim, 2, 5);
  const Matrix original = fused;
  float* data = fused.view().data();
  const std::int64_t stride = fused.view().stride();
  const Heads<float> q(data, 70, 2, dim, stride, 3 * dim);
  const Heads<float> k(data + dim, 70, 2, dim, stride, 3 * dim);
  const Heads<float> v(data + 2 * dim, 70, 2, dim, stride, 3 * dim);
  const std::vector<std::int64_t> offsets = {0, 30, 70};
  attention(q, k, v, offsets, {}, q);
  const Layout s = {{30, 40}, {30, 40}, 2, 2, dim, dim};
  const float* before = original.view().data();
  EXPECT_EQ(wrong_elements(s, {}, Heads<const float>(before, 70, 2, dim, stride, 3 * dim),
                           Heads<const float>(before + dim, 70, 2, dim, stride, 3 * dim),
                           Heads<const float>(before + 2 * dim, 70, 2, dim, stride, 3 * dim), q),
            0);
}

TEST(Attention, StepsWithACacheEqualTheWholeText) {
  const std::int64_t n = 40;
  Matrix q = Matrix::random(n, 32, 0, 1);
  Matrix k = Matrix::random(n, 16, 0, 2);
  Matrix v = Matrix::random(n, 16, 0, 3);
  Matrix steps(n, 32);
  for (std::int64_t t = 0; t < n; ++t) {
    attention_cached(Heads<float>(q.view().rows_range(t, 1), 2),
                     Heads<float>(k.view().rows_range(0, t + 1), 1),
                     Heads<float>(v.view().rows_range(0, t + 1), 1), {},
                     Heads<float>(steps.view().rows_range(t, 1), 2));
  }
  const Layout s = {{n}, {n}, 2, 1, 16, 16};
  EXPECT_EQ(wrong_elements(s, {}, Heads<float>(q.view(), 2), Heads<float>(k.view(), 1),
                           Heads<float>(v.view(), 1), Heads<float>(steps.view(), 2)),
            0);
}

TEST(Attention, LargeScoresDoNotOverflowAndNanStaysInItsSequence) {
  Matrix q = Matrix::random(80, 16, 0, 1, 1000.0F);
  Matrix k = Matrix::random(80, 16, 0, 2, 1000.0F);
  Matrix v = Matrix::random(80, 16, 0, 3);
  k(10, 3) = std::numeric_limits<float>::quiet_NaN();
  v(11, 3) = std::numeric_limits<float>::infinity();
  Matrix out(80, 16);
  const std::vector<std::int64_t> offsets = {0, 20, 80};
  attention(Heads<float>(q.view(), 1), Heads<float>(k.view(), 1), Heads<float>(v.view(), 1),
            offsets, {}, Heads<float>(out.view(), 1));
  for (std::int64_t c = 0; c < 16; ++c) EXPECT_TRUE(std::isnan(out(10, c)));
  for (std::int64_t r = 20; r < 80; ++r) {
    for (std::int64_t c = 0; c < 16; ++c) ASSERT_TRUE(std::isfinite(out(r, c))) << r;
  }
}

TEST(Attention, DoesNotDependOnTheNumberOfThreads) {
  const int before = num_threads();
  Matrix q = Matrix::random(700, 32, 0, 1);
  Matrix k = Matrix::random(700, 32, 0, 2);
  Matrix v = Matrix::random(700, 32, 0, 3);
  const std::vector<std::int64_t> offsets = {0, 600, 700};
  std::vector<Matrix> results;
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    results.emplace_back(700, 32);
    attention(Heads<float>(q.view(), 2), Heads<float>(k.view(), 2), Heads<float>(v.view(), 2),
              offsets, {}, Heads<float>(results.back().view(), 2));
  }
  set_num_threads(before);
  for (std::int64_t r = 0; r < 700; ++r) {
    for (std::int64_t c = 0; c < 32; ++c) {
      ASSERT_EQ(results[0](r, c), results[1](r, c));
      ASSERT_EQ(results[0](r, c), results[2](r, c));
    }
  }
}

TEST(Attention, RefusesWhatDoesNotFit) {
  Matrix q(10, 32);
  Matrix k(10, 16);
  Matrix out(10, 32);
  const Heads<float> qh(q.view(), 2);
  const Heads<float> kh(k.view(), 1);
  const Heads<float> oh(out.view(), 2);
  const std::vector<std::int64_t> good = {0, 10};
  const std::vector<std::int64_t> beyond = {0, 11};
  const std::vector<std::int64_t> backwards = {0, 8, 4};
  const std::vector<std::int64_t> negative = {-1, 4};
  EXPECT_THROW(attention(qh, kh, kh, beyond, {}, oh), Error);
  EXPECT_THROW(attention(qh, kh, kh, backwards, {}, oh), Error);
  EXPECT_THROW(attention(qh, kh, kh, negative, {}, oh), Error);
  EXPECT_THROW(attention(qh, kh, kh, good, backwards, {}, oh), Error);
  EXPECT_THROW(attention(Heads<float>(q.view(), 4), kh, kh, good, {}, oh), Error);
  EXPECT_THROW(attention(qh, kh, Heads<float>(k.view(), 2), good, {}, oh), Error);
  EXPECT_THROW(Heads<float>(q.view(), 3), Error);
  EXPECT_THROW(Heads<float>(q.view(), 0), Error);
  AttentionOptions o;
  const std::vector<float> one = {1.0F};
  o.alibi_slopes = one;
  EXPECT_THROW(attention(qh, kh, kh, good, o, oh), Error);
  o = AttentionOptions();
  const Matrix short_bias(2, 9);
  o.key_bias = short_bias.view();
  EXPECT_THROW(attention(qh, kh, kh, good, o, oh), Error);
  const Matrix one_head(1, 10);
  o.key_bias = one_head.view();
  EXPECT_THROW(attention(qh, kh, kh, good, o, oh), Error);
  attention(qh, kh, kh, {}, {}, oh);
}

}  // namespace
}  // namespace drrik
