#include "train/coder_stepper.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/system.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

// Above this share of active entries products are faster (docs/performance.md).
constexpr double kSparseBelow = 0.125;
// Clipping divides by the norm and this, as torch.nn.utils.clip_grad_norm_.
constexpr double kClipEps = 1e-6;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// A buffer [rows, cols] that is made anew only when the shape changes.
MatView<float> shaped(Tensor& tensor, std::int64_t rows, std::int64_t cols) {
  if (!tensor.defined() || tensor.dim(0) != rows || tensor.dim(1) != cols) {
    tensor = Tensor();
    tensor = Tensor::uninitialized(DType::kF32, {rows, cols});
  }
  return tensor.mutable_mat<float>();
}

template <typename T>
void grow(std::vector<T>& v, std::int64_t n) {
  if (v.size() < at(n)) v.resize(at(n + n / 4));
}

std::int64_t rows_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(cols, 1));
}

// out = x − row, where `out` may be x.
void subtract_row(MatView<const float> x, std::span<const float> row, MatView<float> out) {
  parallel_for(x.rows(), rows_grain(x.cols()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* from = x.row_ptr(r);
      float* to = out.row_ptr(r);
      for (std::size_t c = 0; c < row.size(); ++c) to[c] = from[c] - row[c];
    }
  });
}

// ⟨‖y − ⟨y⟩‖²⟩ over the `rows` rows of all ranks, in double.
double variance_of(MatView<const float> y, std::int64_t rows, Communicator& ranks) {
  constexpr std::int64_t kBlock = 64;  // rows; fixed, so that threads do not matter
  const std::int64_t blocks = (y.rows() + kBlock - 1) / kBlock;
  const std::int64_t d = y.cols();
  std::vector<double> sums(at(blocks * d), 0.0);
  std::vector<double> squares(at(blocks), 0.0);
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      double* sum = sums.data() + b * d;
      for (std::int64_t r = b * kBlock; r < std::min(y.rows(), (b + 1) * kBlock); ++r) {
        const float* row = y.row_ptr(r);
        for (std::int64_t c = 0; c < d; ++c) sum[c] += static_cast<double>(row[c]);
        squares[at(b)] += sum_squares(y.row(r));
      }
    }
  });
  const auto n = static_cast<double>(rows);
  std::vector<double> whole(at(d + 1), 0.0);  // of each column, then of the squares
  for (const double s : squares) whole.back() += s;
  for (std::int64_t c = 0; c < d; ++c) {
    for (std::int64_t b = 0; b < blocks; ++b) whole[at(c)] += sums[at(b * d + c)];
  }
  ranks.sum(std::span(whole));
  double mean_square = 0.0;
  for (std::int64_t c = 0; c < d; ++c) mean_square += whole[at(c)] / n * (whole[at(c)] / n);
  return whole.back() / n - mean_square;
}

double sum_of(std::span<const double> values) {
  double sum = 0.0;
  for (const double v : values) sum += v;
  return sum;
}

// Where the `wanted` largest values of all ranks end. Four rounds settle a byte of the value each,
// by counts that are summed over the ranks. Of equal values the lower ranks' are taken.
SaeCut find_cut(std::span<const float> values, std::int64_t wanted, Communicator& ranks) {
  std::vector<std::uint32_t> keys(values.size());  // in the order of the values
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i] + 0.0F);  // −0 is 0
    keys[i] = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  }
  std::uint32_t prefix = 0;
  std::int64_t left = wanted;  // of those that share the prefix
  std::int64_t mine = 0;       // this rank's that share it
  for (int shift = 24; shift >= 0; shift -= 8) {
    std::vector<std::int64_t> counts(256, 0);
    for (const std::uint32_t key : keys) {
      if (shift < 24 && key >> (shift + 8) != prefix) continue;
      ++counts[(key >> shift) & 0xFFU];
    }
    const std::vector<std::int64_t> own = counts;
    ranks.sum(std::span(counts));
    if (shift == 24) {
      std::int64_t all = 0;
      for (const std::int64_t n : counts) all += n;
      if (all <= wanted) {
        return {-std::numeric_limits<float>::infinity(), std::numeric_limits<std::int64_t>::max()};
      }
    }
    std::uint32_t byte = 255;
    for (; counts[byte] < left; --byte) left -= counts[byte];
    prefix = prefix << 8 | byte;
    mine = own[byte];
  }
  const std::vector<std::int64_t> one(at(ranks.size()), 1);
  std::vector<std::int64_t> equal(one.size());
  ranks.all_gather(std::span<const std::int64_t>(&mine, 1), one, std::span(equal));
  for (int r = 0; r < ranks.rank(); ++r) left -= equal[at(r)];
  const std::uint32_t bits = (prefix & 0x80000000U) != 0 ? prefix & 0x7FFFFFFFU : ~prefix;
  return {std::bit_cast<float>(bits), std::clamp<std::int64_t>(left, 0, mine)};
}

class Stopwatch {
 public:
  // Seconds since the last call are added to `to`.
  void lap(double& to) {
    const double now = monotonic_seconds();
    to += now - last_;
    last_ = now;
  }

 private:
  double last_ = monotonic_seconds();
};

// A batch as the packed factor of products with latents on the left: y [latents, B].
Weight packed(MatView<const float> x, Tensor& holder, Compute compute) {
  copy(x, shaped(holder, x.rows(), x.cols()));
  return Weight::pack(holder, compute);
}

}  // namespace

void CoderTraining::validate(const SparseCoderConfig& config) const {
  const auto wanted = [](bool ok, const char* name, double got, const char* what) {
    if (!ok || std::isnan(got)) throw_usage(name, ": got ", got, ", wanted ", what);
  };
  wanted(sparsity.coefficient >= 0, "sparsity coefficient", sparsity.coefficient, ">= 0");
  wanted(sparsity.bandwidth > 0, "bandwidth", sparsity.bandwidth, "> 0");
  wanted(sparsity.target_l0 > 0, "target L0", sparsity.target_l0, "> 0");
  wanted(aux.coefficient >= 0, "aux coefficient", aux.coefficient, ">= 0");
  wanted(aux.k >= 0, "aux k", static_cast<double>(aux.k), ">= 0");
  wanted(clip_norm >= 0, "clip norm", clip_norm, ">= 0");
  wanted(dead_steps >= 1, "dead steps", static_cast<double>(dead_steps), ">= 1");
  wanted(threshold_decay >= 0 && threshold_decay < 1, "threshold decay", threshold_decay,
         "0 to below 1");
  if (!group_weights.empty() && group_weights.size() != config.groups.size()) {
    throw_usage("group weights: got ", group_weights.size(), ", wanted one for each of ",
                config.groups.size(), " groups");
  }
  for (const double w : group_weights) wanted(w > 0, "group weight", w, "> 0");
  if (unit_decoder && config.parts > 1) {
    throw_usage(
        "a crosscoder's decoder rows cannot be kept at norm 1; their norms say where a "
        "latent lives");
  }
  if (config.skip && config.apply_b_dec_to_input) {
    throw_usage("skip: wanted apply_b_dec_to_input off");
  }
  if (config.row_normalization != RowNormalization::kNone) {
    throw_usage(
        "row normalization: coders with it can be read and used, not trained; normalise "
        "the activations instead");
  }
}

const Tensor& CoderGradients::at(std::string_view name) const {
  for (const auto& [known, tensor] : named) {
    if (known == name) return tensor;
  }
  throw_usage("no gradient '", name, "'");
}

CoderStepper::CoderStepper(SparseCoder& coder, const CoderTraining& training, Communicator& ranks)
    : coder_(coder), training_(training), ranks_(ranks), deferred_(coder.d_sae()) {
  training.validate(coder.config());
  for (const NamedTensor& p : std::as_const(coder).parameters()) {
    moments_.push_back(
        {p.name, Tensor::zeros<float>(p.tensor->shape()), Tensor::zeros<float>(p.tensor->shape())});
  }
  const std::int64_t blocks = (coder.d_sae() + kSaeSweepBlock - 1) / kSaeSweepBlock;
  if (coder.config().apply_b_dec_to_input) centring_ = Tensor::zeros<float>({blocks, coder.d_in()});
  if (training.compute == Compute::kBF16) {
    rounded_encoder_ = Tensor::uninitialized(DType::kBF16, {coder.d_sae(), coder.d_in()});
  }
  group_ends_ = coder.config().groups;
  if (group_ends_.size() == 1) group_ends_.clear();
  parameter_grads_.resize(coder.variant().parameters().size());
  weights_changed();
}

double CoderStepper::total(double part) const {
  ranks_.sum(std::span(&part, 1));
  return part;
}

double CoderStepper::total(std::span<const double> parts) const { return total(sum_of(parts)); }

void CoderStepper::weights_changed() {
  if (rounded_encoder_.defined()) {
    convert(std::as_const(coder_).encoder(), rounded_encoder_.mutable_mat<BF16>());
  }
}

CoderStepper::Moments& CoderStepper::moments(std::string_view name) {
  for (Moments& m : moments_) {
    if (m.name == name) return m;
  }
  throw_usage("no parameter '", name, "'");
}

SaeSweepState CoderStepper::sweep_state() {
  Moments& e = moments("W_enc");
  Moments& d = moments("W_dec");
  Moments& b = moments("b_enc");
  SaeSweepState state{coder_.encoder(), e.m.mutable_mat<float>(),  e.v.mutable_mat<float>(),
                      coder_.decoder(), d.m.mutable_mat<float>(),  d.v.mutable_mat<float>(),
                      coder_.b_enc(),   b.m.mutable_data<float>(), b.v.mutable_data<float>()};
  if (rounded_encoder_.defined()) state.rounded_encoder = rounded_encoder_.mutable_mat<BF16>();
  return state;
}

MatView<float> CoderStepper::centring() {
  return centring_.defined() ? centring_.mutable_mat<float>() : MatView<float>();
}

// Latents worked on at a time: their [chunk, B] floats stay in cache, and the first chunks tell
// early what a row's k largest must exceed.
std::int64_t CoderStepper::chunk_latents(std::int64_t rows) const {
  const std::int64_t fit =
      std::min<std::int64_t>((std::int64_t{1} << 20) / std::max<std::int64_t>(rows, 1), 512);
  return std::clamp<std::int64_t>(fit / kSaeSweepBlock * kSaeSweepBlock, 4 * kSaeSweepBlock,
                                  std::max(coder_.d_sae(), 4 * kSaeSweepBlock));
}

template <typename F>
void CoderStepper::each_chunk(std::int64_t rows, const F& f) const {
  const std::int64_t chunk = chunk_latents(rows);
  for (std::int64_t first = 0; first < coder_.d_sae(); first += chunk) {
    f(first, std::min(chunk, coder_.d_sae() - first));
  }
}

// xc_, target_ and what is measured on them.
void CoderStepper::prepare(MatView<float> x, MatView<const float> y) {
  const SparseCoderConfig& config = coder_.config();
  const auto b_dec = std::as_const(coder_).b_dec();
  if (x.cols() != config.d_in || x.rows() < 1) {
    throw_data("training: rows [", x.rows(), ", ", x.cols(), "], the coder takes ", config.d_in);
  }
  if (y.empty()) {
    if (config.output_width() != config.d_in) {
      throw_data("training: a coder of width ", config.d_in, " to ", config.output_width(),
                 " needs its targets");
    }
  } else if (y.rows() != x.rows() || y.cols() != config.output_width()) {
    throw_data("training: targets [", y.rows(), ", ", y.cols(), "], wanted [", x.rows(), ", ",
               config.output_width(), "]");
  }
  const bool shared = y.empty() && config.apply_b_dec_to_input;
  if (!shared) {
    const auto target = shaped(target_holder_, x.rows(), config.output_width());
    subtract_row(y.empty() ? MatView<const float>(x) : y, b_dec, target);
    target_ = target;
  }
  if (config.apply_b_dec_to_input) subtract_row(x, b_dec, x);
  xc_ = x;
  if (shared) target_ = x;
  total_variance_ = variance_of(target_, context_.rows, ranks_);
  if (config.skip) {  // the sparse part reconstructs what the skip connection leaves
    const auto skipped = shaped(skipped_, x.rows(), config.output_width());
    matmul(xc_, Trans::kNo, std::as_const(coder_).skip(), Trans::kYes, skipped);
    axpy(-1.0F, skipped, target_holder_.mutable_mat<float>());
  }
  const auto d_out = static_cast<double>(config.output_width());
  switch (training_.reconstruction) {
    case CoderTraining::Reconstruction::kSum:
      weight_ = 1.0;
      break;
    case CoderTraining::Reconstruction::kMean:
      weight_ = 1.0 / d_out;
      break;
    case CoderTraining::Reconstruction::kFvu:
      weight_ = total_variance_ > 0 ? 1.0 / total_variance_ : 0.0;
      break;
  }
}

// Fills entries_ (and dead_entries_) with the pre-activations that count.
void CoderStepper::select(MatView<const float> xc) {
  Stopwatch watch;
  const std::int64_t rows = xc.rows();
  const std::int64_t h = coder_.d_sae();
  const auto b_enc = std::as_const(coder_).b_enc();
  if (coder_.config().rescale_by_decoder_norm) settle();  // every row's norm counts
  selection_ = coder_.variant().select_batch(coder_, context_);
  if (together()) selection_.total = selection_.k * context_.rows;
  selector_.begin(selection_, rows, h, entries_);
  const bool aux = !dead_.empty();
  if (aux) {
    const std::int64_t wanted = training_.aux.k > 0 ? training_.aux.k : coder_.d_in() / 2;
    const auto n = static_cast<std::int64_t>(dead_.size());
    dead_selection_.kind = SaeSelection::Kind::kTopK;
    dead_selection_.k = std::clamp<std::int64_t>(wanted, 1, n);
    dead_selection_.floor = training_.aux.rectify ? 0.0F : -std::numeric_limits<float>::infinity();
    dead_selection_.scale.clear();
    if (!selection_.scale.empty()) {
      for (const std::int64_t j : dead_) {
        dead_selection_.scale.push_back(selection_.scale[at(j)]);
      }
    }
    dead_selector_.begin(dead_selection_, rows, n, dead_entries_);
  }
  const bool bf16 = training_.compute == Compute::kBF16;
  const Weight batch = packed(xc, packing_, training_.compute);
  watch.lap(phases_.pack);
  const auto buffer = shaped(pre_, std::min(chunk_latents(rows), h), rows);
  std::size_t dead_done = 0;
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto pre = buffer.rows_range(0, count);
    if (bf16) {
      linear(rounded_encoder_.mat<BF16>().rows_range(first, count), batch, {}, pre);
    } else {
      linear(std::as_const(coder_).encoder().rows_range(first, count), batch, {}, pre);
    }
    watch.lap(phases_.product);
    selector_.add(pre, b_enc.subspan(at(first), at(count)), first);
    if (aux) {
      std::size_t stop = dead_done;
      while (stop < dead_.size() && dead_[stop] < first + count) ++stop;
      const auto n = static_cast<std::int64_t>(stop - dead_done);
      if (n > 0) {
        const auto dead_pre = shaped(dead_pre_, n, rows);
        std::vector<float> bias;
        for (std::int64_t i = 0; i < n; ++i) {
          const std::int64_t j = dead_[dead_done + at(i)];
          std::copy_n(pre.row_ptr(j - first), rows, dead_pre.row_ptr(i));
          bias.push_back(b_enc[at(j)]);
        }
        dead_selector_.add(dead_pre, bias, static_cast<std::int64_t>(dead_done));
        dead_done = stop;
      }
    }
    watch.lap(phases_.select);
  });
  SaeFindCut cut;
  if (together() && selection_.kind == SaeSelection::Kind::kBatchTopK) {
    cut = [this](std::span<const float> values) {
      return find_cut(values, selection_.total, ranks_);
    };
  }
  // Ranking has its entries by row anyway; what a threshold lets through may be too much for that.
  const bool ranked = selection_.kind != SaeSelection::Kind::kThreshold;
  if (ranked) selector_.finish(true, cut);
  const double density = total(static_cast<double>(entries_.count)) /
                         (static_cast<double>(context_.rows) * static_cast<double>(h));
  sparse_ = training_.path == StepPath::kSparse || !group_ends_.empty() ||
            (training_.path == StepPath::kAuto && density < kSparseBelow);
  if (!ranked) selector_.finish(sparse_);
  if (aux) dead_selector_.finish(true);
  watch.lap(phases_.order);
}

void CoderStepper::activate() {
  const SaeVariant& variant = coder_.variant();
  const bool gates = variant.gate_values();
  grow(entries_.value, entries_.count);
  grow(entries_.grad, entries_.count);
  if (gates) {
    grow(gate_.value, entries_.count);
    grow(gate_.grad, entries_.count);
  }
  active_.assign(at(coder_.d_sae()), 0);
  parallel_for(coder_.d_sae(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t first = entries_.start[at(j)];
      const auto n = at(entries_.start[at(j + 1)] - first);
      if (n == 0) continue;
      LatentEntries e;
      e.latent = j;
      e.pre = {entries_.pre.data() + first, n};
      e.value = {entries_.value.data() + first, n};
      variant.activate(coder_, j, e.pre, e.value);
      if (gates) {
        e.gate_value = {gate_.value.data() + first, n};
        variant.gate(e);
      }
      for (const float v : e.value) active_[at(j)] += v != 0.0F ? 1 : 0;
    }
  });
  ranks_.sum(std::span(active_));
  std::int64_t active = 0;
  for (const std::int64_t n : active_) active += n;
  context_.l0 = static_cast<double>(active) / static_cast<double>(context_.rows);
  if (sparsity_.jumprelu == SparsityOptions::JumpRelu::kQuadratic) {
    row_l0_.assign(at(rows_), 0);
    for (std::int64_t e = 0; e < entries_.count; ++e) {
      row_l0_[at(entries_.row[at(e)])] += entries_.value[at(e)] != 0.0F ? 1 : 0;
    }
    context_.row_l0 = row_l0_;
  }
}

// Entries of latents [first, first + count) as a dense [count, B].
void CoderStepper::scatter(std::int64_t first, std::int64_t count, std::span<const float> values,
                           MatView<float> out) const {
  parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* row = out.row_ptr(i);
      std::fill_n(row, out.cols(), 0.0F);
      for (std::int64_t e = entries_.start[at(first + i)]; e < entries_.start[at(first + i + 1)];
           ++e) {
        row[entries_.row[at(e)]] = values[at(e)];
      }
    }
  });
}

// residual_ = dL/dŷ of each group and row, entries_.grad = dL/df.
void CoderStepper::decode_sparse() {
  const std::int64_t rows = rows_;
  const double scale = 2.0 * weight_ / static_cast<double>(context_.rows);
  const auto decoder = std::as_const(coder_).decoder();
  if (group_ends_.empty()) {
    sae_decode_active(entries_, decoder, target_, static_cast<float>(scale), 0.0F,
                      shaped(residual_, rows, target_.cols()), error_, l1_sums_);
    return;
  }
  const auto groups = static_cast<std::int64_t>(group_ends_.size());
  std::vector<float> scales(at(groups));
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const double w = training_.group_weights.empty() ? 1.0 : training_.group_weights[g];
    scales[g] = static_cast<float>(w * scale);
  }
  group_errors_.assign(at(groups * rows), 0.0);
  sae_decode_groups(entries_, decoder, target_, group_ends_, scales,
                    shaped(residual_, groups * rows, target_.cols()),
                    MatView<double>(group_errors_.data(), groups, rows));
  std::copy_n(group_errors_.end() - rows, rows, error_.begin());
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = 0.0;
    for (std::int64_t e = entries_.row_start[at(r)]; e < entries_.row_start[at(r + 1)]; ++e) {
      sum += static_cast<double>(entries_.value[at(entries_.position[at(e)])]);
    }
    l1_sums_[at(r)] = sum;
  }
}

void CoderStepper::decode_dense() {
  const std::int64_t rows = rows_;
  const auto scale = static_cast<float>(2.0 * weight_ / static_cast<double>(context_.rows));
  const auto decoder = std::as_const(coder_).decoder();
  const auto residual = shaped(residual_, rows, target_.cols());
  const auto buffer = shaped(dense_, std::min(chunk_latents(rows), coder_.d_sae()), rows);
  const std::span<const float> values = entries_.value;
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto f = buffer.rows_range(0, count);
    scatter(first, count, values, f);
    matmul(f, Trans::kYes, decoder.rows_range(first, count), Trans::kNo, residual,
           first > 0 ? 1.0F : 0.0F);
  });
  sae_residual(residual, target_, scale, error_);
  const Weight batch = packed(residual, packing_, Compute::kF32);
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto g = buffer.rows_range(0, count);
    linear(decoder.rows_range(first, count), batch, {}, g);
    parallel_for(count, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const float* row = g.row_ptr(i);
        for (std::int64_t e = entries_.start[at(first + i)]; e < entries_.start[at(first + i + 1)];
             ++e) {
          entries_.grad[at(e)] = row[entries_.row[at(e)]];
        }
      }
    });
  });
  // Σ f of each latent; only the sum over the batch is used.
  l1_sums_.assign(at(coder_.d_sae()), 0.0);
  parallel_for(coder_.d_sae(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      for (std::int64_t e = entries_.start[at(j)]; e < entries_.start[at(j + 1)]; ++e) {
        l1_sums_[at(j)] += static_cast<double>(entries_.value[at(e)]);
      }
    }
  });
}

void CoderStepper::decode(CoderLoss& loss) {
  const auto n = static_cast<double>(context_.rows);
  error_.assign(at(rows_), 0.0);
  l1_sums_.assign(at(rows_), 0.0);
  sparse_ ? decode_sparse() : decode_dense();
  loss.mse = total(error_) / n;
  loss.l1 = total(l1_sums_) / n;
  loss.reconstruction = weight_ * loss.mse;
  if (!group_ends_.empty()) {
    loss.reconstruction = 0.0;
    for (std::size_t g = 0; g < group_ends_.size(); ++g) {
      const double w = training_.group_weights.empty() ? 1.0 : training_.group_weights[g];
      loss.reconstruction +=
          w * weight_ * total(std::span(group_errors_).subspan(g * at(rows_), at(rows_))) / n;
    }
  }
  loss.fvu =
      total_variance_ > 0 ? loss.mse / total_variance_ : std::numeric_limits<double>::quiet_NaN();
}

// The gate's own reconstruction: the same with the gate's values, no gradient to the decoder.
void CoderStepper::gate_reconstruction(CoderLoss& loss) {
  if (!coder_.variant().gate_values()) return;
  std::vector<double> error(at(rows_), 0.0);
  std::vector<double> sums(at(rows_), 0.0);
  const auto swap = [&] {
    std::swap(entries_.value, gate_.value);
    std::swap(entries_.grad, gate_.grad);
    std::swap(residual_, gate_residual_);
    std::swap(error_, error);
    std::swap(l1_sums_, sums);
  };
  swap();
  sparse_ ? decode_sparse() : decode_dense();
  swap();
  loss.aux += weight_ * total(error) / static_cast<double>(context_.rows);
}

void CoderStepper::aux_loss(CoderLoss& loss) {
  if (dead_.empty()) return;
  Stopwatch watch;
  const std::int64_t rows = rows_;
  const std::int64_t d_out = target_.cols();
  const auto n_dead = static_cast<std::int64_t>(dead_.size());
  const auto inverse_rows = 1.0 / static_cast<double>(context_.rows);
  // e = y − ŷ of the whole coder.
  const double last_weight = training_.group_weights.empty() ? 1.0 : training_.group_weights.back();
  const double scale = 2.0 * weight_ * inverse_rows * last_weight;
  const auto e = shaped(dense_grad_, rows, d_out);
  const MatView<const float> whole =
      residual_.mat<float>().rows_range(residual_.dim(0) - rows, rows);
  const auto inverse = static_cast<float>(scale > 0 ? -1.0 / scale : 0.0);
  parallel_for(rows, rows_grain(d_out), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t c = 0; c < d_out; ++c) e(r, c) = inverse * whole(r, c);
    }
  });
  double coefficient = training_.aux.coefficient;
  if (training_.aux.scale == AuxLoss::Scale::kResidualVariance) {
    const double variance = variance_of(e, context_.rows, ranks_);
    coefficient = variance > 0 ? coefficient / variance : 0.0;
  } else {
    const std::int64_t k = training_.aux.k > 0 ? training_.aux.k : coder_.d_in() / 2;
    coefficient *= std::min(1.0, static_cast<double>(n_dead) / static_cast<double>(k));
  }
  const auto decoder = shaped(dead_decoder_, n_dead, d_out);
  for (std::int64_t i = 0; i < n_dead; ++i) {
    std::ranges::copy(std::as_const(coder_).decoder().row(dead_[at(i)]), decoder.row_ptr(i));
  }
  grow(dead_entries_.value, dead_entries_.count);
  grow(dead_entries_.grad, dead_entries_.count);
  std::copy_n(dead_entries_.pre.begin(), dead_entries_.count, dead_entries_.value.begin());
  const auto residual = shaped(dead_residual_, rows, d_out);
  const auto encoder_grad = shaped(dead_encoder_grad_, n_dead, coder_.d_in());
  const auto decoder_grad = shaped(dead_decoder_grad_, n_dead, d_out);
  dead_bias_grad_.assign(at(n_dead), 0.0F);
  std::vector<double> error(at(rows), 0.0);
  const auto step = static_cast<float>(2.0 * coefficient * inverse_rows);
  if (dead_selection_.k * 8 < n_dead) {
    std::vector<double> sums(at(rows), 0.0);
    sae_decode_active(dead_entries_, decoder, e, step, 0.0F, residual, error, sums);
    sae_gradients_active(dead_entries_, xc_, residual, encoder_grad, decoder_grad, dead_bias_grad_);
  } else {
    // Dense over the dead, by products.
    const auto z = shaped(dense_, n_dead, rows);
    const auto spread = [&](std::span<const float> values) {
      parallel_for(n_dead, 4, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          float* row = z.row_ptr(i);
          std::fill_n(row, rows, 0.0F);
          for (std::int64_t p = dead_entries_.start[at(i)]; p < dead_entries_.start[at(i + 1)];
               ++p) {
            row[dead_entries_.row[at(p)]] = values[at(p)];
          }
        }
      });
    };
    spread(dead_entries_.value);
    matmul(z, Trans::kYes, decoder, Trans::kNo, residual);
    sae_residual(residual, e, step, error);
    matmul(z, Trans::kNo, residual, Trans::kNo, decoder_grad);
    matmul(decoder, Trans::kNo, residual, Trans::kYes, z);
    for (std::int64_t i = 0; i < n_dead; ++i) {
      for (std::int64_t p = dead_entries_.start[at(i)]; p < dead_entries_.start[at(i + 1)]; ++p) {
        dead_entries_.grad[at(p)] = z(i, dead_entries_.row[at(p)]);
        dead_bias_grad_[at(i)] += dead_entries_.grad[at(p)];
      }
    }
    spread(dead_entries_.grad);
    matmul(z, Trans::kNo, xc_, Trans::kNo, encoder_grad);
  }
  loss.aux += coefficient * total(error) * inverse_rows;
  watch.lap(phases_.aux);
}

void CoderStepper::backward(CoderLoss& loss) {
  Stopwatch watch;
  const std::int64_t h = coder_.d_sae();
  const SaeVariant& variant = coder_.variant();
  const bool gates = variant.gate_values();
  const bool norms = variant.needs_decoder_norm(sparsity_);
  const std::int64_t parts = coder_.config().parts;
  const std::int64_t width = coder_.d_out() / parts;
  bias_grad_.assign(at(h), 0.0F);
  norm_grad_.assign(norms ? at(h) : 0, 0.0F);
  penalties_.assign(at(h), 0.0);
  for (auto& grads : parameter_grads_) grads.assign(at(h), 0.0F);
  const auto decoder = std::as_const(coder_).decoder();
  parallel_for(h, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) {
      const std::int64_t first = entries_.start[at(j)];
      const auto n = at(entries_.start[at(j + 1)] - first);
      if (n == 0) continue;
      LatentEntries e;
      e.latent = j;
      e.row = {entries_.row.data() + first, n};
      e.pre = {entries_.pre.data() + first, n};
      e.value = {entries_.value.data() + first, n};
      e.grad = {entries_.grad.data() + first, n};
      if (gates) {
        e.gate_value = {gate_.value.data() + first, n};
        e.gate_grad = {gate_.grad.data() + first, n};
      }
      if (norms) {
        double norm = 0.0;
        for (std::int64_t p = 0; p < parts; ++p) {
          norm += std::sqrt(sum_squares(decoder.row(j).subspan(at(p * width), at(width))));
        }
        e.decoder_norm = static_cast<float>(norm);
      }
      LatentGradients out;
      variant.backward(coder_, context_, e, out);
      penalties_[at(j)] = out.penalty;
      bias_grad_[at(j)] = out.bias;
      if (norms) norm_grad_[at(j)] = out.norm;
      for (std::size_t p = 0; p < parameter_grads_.size(); ++p) {
        parameter_grads_[p][at(j)] = out.parameter[p];
      }
    }
  });
  // A penalty by rows is in parts, as its rows are; one on the batch's mean is whole already.
  double by_latents = sum_of(penalties_);
  if (!context_.row_l0.empty()) by_latents += variant.batch_penalty(context_);
  loss.sparsity = total(by_latents);
  if (context_.row_l0.empty()) loss.sparsity += variant.batch_penalty(context_);
  watch.lap(phases_.backward);
}

CoderLoss CoderStepper::forward(MatView<float> x, MatView<const float> y, std::int64_t number,
                                std::span<const std::int64_t> last_active) {
  Stopwatch watch;
  const std::int64_t h = coder_.d_sae();
  if (last_active.size() != at(h)) {
    throw_data("training: activity of ", last_active.size(), " latents, the coder has ", h);
  }
  CoderLoss loss;
  dead_mask_.assign(at(h), 0);
  dead_.clear();
  for (std::int64_t j = 0; j < h; ++j) {
    if (number - last_active[at(j)] <= training_.dead_steps) continue;
    dead_mask_[at(j)] = 1;
    dead_.push_back(j);
  }
  loss.dead = static_cast<std::int64_t>(dead_.size());
  if (training_.aux.coefficient == 0.0) dead_.clear();
  context_ = {};
  context_.sparsity = &sparsity_;
  rows_ = x.rows();
  context_.rows = rows_;
  ranks_.sum(std::span(&context_.rows, 1));
  context_.dead = dead_mask_;
  prepare(x, y);
  watch.lap(phases_.pack);
  select(xc_);
  watch = Stopwatch();
  activate();
  watch.lap(phases_.select);
  sae_catch_up(entries_, dead_, training_.unit_decoder, sweep_state(), deferred_);
  watch.lap(phases_.sweep);
  decode(loss);
  loss.l0 = context_.l0;
  gate_reconstruction(loss);
  watch.lap(phases_.decode);
  aux_loss(loss);
  backward(loss);
  loss.loss = loss.reconstruction + loss.sparsity + loss.aux;
  return loss;
}

SaeSweepBatch CoderStepper::sweep_batch() const {
  SaeSweepBatch batch;
  batch.entries = &entries_;
  batch.xc = xc_;
  batch.gx = residual_.mat<float>();
  batch.group_ends = group_ends_;
  batch.bias_grad = bias_grad_;
  batch.norm_grad = norm_grad_;
  batch.parts = coder_.config().parts;
  if (!dead_.empty()) {
    batch.extra_latents = dead_;
    batch.extra_encoder_grad = dead_encoder_grad_.mat<float>();
    batch.extra_decoder_grad = dead_decoder_grad_.mat<float>();
    batch.extra_bias_grad = dead_bias_grad_;
  }
  return batch;
}

// What the output alone says about b_dec and W_skip.
void CoderStepper::output_gradients() {
  b_dec_grad_.resize(at(coder_.d_out()));
  const auto gx = residual_.mat<float>().rows_range(0, rows_);
  sum_rows(gx, b_dec_grad_);
  if (coder_.config().skip) {
    matmul(gx, Trans::kYes, xc_, Trans::kNo, shaped(skip_grad_, coder_.d_out(), coder_.d_in()));
  }
}

// What reaches b_dec through the input, as the sweep left it.
void CoderStepper::add_centring() {
  if (!centring_.defined()) return;
  const auto blocks = centring_.mat<float>();
  for (std::int64_t b = 0; b < blocks.rows(); ++b) {
    axpy(-1.0F, blocks.row(b), std::span(b_dec_grad_));
  }
}

// Gradients of all parameters summed over the ranks, as matrices: encoder_grad_, decoder_grad_,
// summed_bias_grad_, b_dec_grad_ (whole), skip_grad_, parameter_grads_. Returns their Σ g², without
// the part of a decoder row's that is parallel to the row where that is projected out.
double CoderStepper::sum_gradients(const SaeSweepBatch& batch) {
  const auto encoder = shaped(encoder_grad_, coder_.d_sae(), coder_.d_in());
  const auto decoder = shaped(decoder_grad_, coder_.d_sae(), coder_.d_out());
  summed_bias_grad_.resize(at(coder_.d_sae()));
  sae_sweep_gradients(batch, training_.unit_decoder, sweep_state(), encoder, decoder,
                      summed_bias_grad_, centring());
  add_centring();
  ranks_.sum(encoder_grad_.mutable_data<float>());
  ranks_.sum(decoder_grad_.mutable_data<float>());
  ranks_.sum(std::span(summed_bias_grad_));
  ranks_.sum(std::span(b_dec_grad_));
  for (auto& grads : parameter_grads_) ranks_.sum(std::span(grads));
  if (coder_.config().skip) ranks_.sum(skip_grad_.mutable_data<float>());
  if (training_.clip_norm <= 0) return 0.0;
  std::vector<double> by_latent(at(coder_.d_sae()), 0.0);
  const auto weights = std::as_const(coder_).decoder();
  parallel_for(
      coder_.d_sae(), rows_grain(coder_.d_out()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) {
          double parallel = 0.0;
          for (std::int64_t c = 0; training_.unit_decoder && c < coder_.d_out(); ++c) {
            parallel += static_cast<double>(decoder(j, c)) * static_cast<double>(weights(j, c));
          }
          by_latent[at(j)] =
              sum_squares(encoder.row(j)) + sum_squares(decoder.row(j)) - parallel * parallel;
        }
      });
  double squares = sum_of(by_latent) + sum_squares(summed_bias_grad_) + sum_squares(b_dec_grad_);
  if (coder_.config().skip) squares += sum_squares(skip_grad_.data<float>());
  for (const auto& grads : parameter_grads_) squares += sum_squares(grads);
  return squares;
}

double CoderStepper::clip_factor(const SaeSweepBatch& batch, CoderLoss& loss) {
  double squares = together() ? sum_gradients(batch) : 0.0;
  if (training_.clip_norm <= 0) return 1.0;
  if (!together()) {
    squares =
        sae_sweep_gradients(batch, training_.unit_decoder, sweep_state(), {}, {}, {}, centring());
    std::vector<float> b_dec = b_dec_grad_;
    add_centring();
    squares += sum_squares(b_dec_grad_);
    std::swap(b_dec, b_dec_grad_);  // the sweep forms it again, scaled
    if (coder_.config().skip) squares += sum_squares(skip_grad_.data<float>());
    for (const auto& grads : parameter_grads_) squares += sum_squares(grads);
  }
  loss.gradient_norm = std::sqrt(squares);
  return std::min(1.0, training_.clip_norm / (loss.gradient_norm + kClipEps));
}

void CoderStepper::sweep_dense(const SaeSweepBatch& batch, const SaeSweepOptions& options) {
  const std::int64_t rows = rows_;
  const std::int64_t chunk = std::min(chunk_latents(rows), coder_.d_sae());
  const auto buffer = shaped(dense_, chunk, rows);
  const auto encoder_grad = shaped(encoder_grad_, chunk, coder_.d_in());
  const auto decoder_grad = shaped(decoder_grad_, chunk, coder_.d_out());
  chunk_sums_.resize(at(chunk));
  each_chunk(rows, [&](std::int64_t first, std::int64_t count) {
    const auto f = buffer.rows_range(0, count);
    const auto ge = encoder_grad.rows_range(0, count);
    const auto gd = decoder_grad.rows_range(0, count);
    scatter(first, count, entries_.value, f);
    matmul(f, Trans::kNo, batch.gx, Trans::kNo, gd);
    scatter(first, count, entries_.grad, f);
    matmul(f, Trans::kNo, xc_, Trans::kNo, ge);
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = 0.0F;
      for (std::int64_t e = entries_.start[at(first + i)]; e < entries_.start[at(first + i + 1)];
           ++e) {
        sum += entries_.grad[at(e)];
      }
      chunk_sums_[at(i)] = sum;
    }
    sae_sweep_dense(ge, gd, std::span(chunk_sums_).first(at(count)), first, batch, options,
                    sweep_state(), centring());
  });
}

// b_dec, W_skip and the architecture's own parameters.
void CoderStepper::step_vectors(const AdamScalars& adam, float scale) {
  const auto step = [&](std::string_view name, std::span<float> parameter,
                        std::span<const float> grad) {
    Moments& m = moments(name);
    adam_step(parameter, grad, m.m.mutable_data<float>(), m.v.mutable_data<float>(), adam);
  };
  for (float& g : b_dec_grad_) g *= scale;
  if (!together()) add_centring();  // scaled already
  step("b_dec", coder_.b_dec(), b_dec_grad_);
  if (coder_.config().skip) {
    if (scale != 1.0F) drrik::scale(scale, skip_grad_.mutable_mat<float>());
    step("W_skip", coder_.parameter("W_skip").mutable_data<float>(), skip_grad_.data<float>());
  }
  const std::vector<std::string> names = coder_.variant().parameters();
  const bool averaged = coder_.variant().inference_architecture() != coder_.variant().name();
  for (std::size_t p = 0; p < names.size() && !averaged; ++p) {
    for (float& g : parameter_grads_[p]) g *= scale;
    step(names[p], coder_.latent_parameter(names[p]), parameter_grads_[p]);
  }
}

void CoderStepper::update(std::int64_t number, const StepFactors& factors, CoderLoss& loss) {
  Stopwatch watch;
  AdamOptions adam = training_.adam;
  adam.learning_rate *= factors.learning_rate;
  const AdamScalars scalars = adam_scalars(adam, number + 1);
  output_gradients();
  SaeSweepBatch batch = sweep_batch();
  batch.grad_scale = static_cast<float>(clip_factor(batch, loss));
  const SaeSweepOptions options{scalars, training_.unit_decoder, number % 2 == 1};
  if (together()) {
    SaeSweepBatch summed;
    summed.bias_grad = summed_bias_grad_;
    summed.grad_scale = batch.grad_scale;
    chunk_sums_.assign(at(coder_.d_sae()), 0.0F);  // for the centring, which is in b_dec_grad_
    sae_sweep_dense(encoder_grad_.mutable_mat<float>(), decoder_grad_.mutable_mat<float>(),
                    chunk_sums_, 0, summed, options, sweep_state(), {});
  } else if (sparse_) {
    sae_sweep_active(batch, options, sweep_state(), deferred_, centring());
  } else {
    settle();
    sweep_dense(batch, options);
  }
  step_vectors(scalars, batch.grad_scale);
  watch.lap(phases_.sweep);
}

// The running mean of the smallest kept value, in the units in which it is compared.
void CoderStepper::update_threshold() {
  if (coder_.variant().inference_architecture() == coder_.variant().name()) return;
  if (threshold_updates_++ < training_.threshold_start) return;
  float least = std::numeric_limits<float>::infinity();
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    const float scale = selection_.scale.empty() ? 1.0F : selection_.scale[at(j)];
    for (std::int64_t e = entries_.start[at(j)]; e < entries_.start[at(j + 1)]; ++e) {
      const float v = entries_.value[at(e)] * scale;
      if (v > 0.0F) least = std::min(least, v);
    }
  }
  ranks_.minimum(std::span(&least, 1));
  if (!std::isfinite(least)) return;
  const auto theta = coder_.latent_parameter("threshold");
  const bool first =
      threshold_updates_ == training_.threshold_start + 1 && !training_.threshold_from_zero;
  const double next = first ? static_cast<double>(least)
                            : training_.threshold_decay * static_cast<double>(theta.front()) +
                                  (1.0 - training_.threshold_decay) * static_cast<double>(least);
  std::ranges::fill(theta, static_cast<float>(next));
}

CoderLoss CoderStepper::step(MatView<float> x, MatView<const float> y, std::int64_t number,
                             const StepFactors& factors, std::span<std::int64_t> last_active) {
  sparsity_ = training_.sparsity;
  sparsity_.coefficient *= factors.sparsity;
  // θ of a jump is a positive number (SAELens clamps it before each step).
  if (coder_.variant().name() == "jumprelu") {
    for (float& t : coder_.latent_parameter("threshold")) t = std::max(t, 0.0F);
  }
  CoderLoss loss = forward(x, y, number, last_active);
  if (!std::isfinite(loss.loss)) return loss;
  for (std::int64_t j = 0; j < coder_.d_sae(); ++j) {
    if (active_[at(j)] > 0) last_active[at(j)] = number;
  }
  update_threshold();
  update(number, factors, loss);
  return loss;
}

CoderLoss CoderStepper::gradients(MatView<float> x, MatView<const float> y, std::int64_t number,
                                  const StepFactors& factors,
                                  std::span<const std::int64_t> last_active, CoderGradients& out) {
  settle();
  sparsity_ = training_.sparsity;
  sparsity_.coefficient *= factors.sparsity;
  const CoderLoss loss = forward(x, y, number, last_active);
  output_gradients();
  out.named.clear();
  for (const Moments& m : moments_) {
    out.named.emplace_back(m.name, Tensor::zeros<float>(m.m.shape()));
  }
  const auto of = [&](std::string_view name) -> Tensor& {
    for (auto& [known, tensor] : out.named) {
      if (known == name) return tensor;
    }
    throw_usage("no gradient '", name, "'");
  };
  sae_sweep_gradients(sweep_batch(), training_.unit_decoder, sweep_state(),
                      of("W_enc").mutable_mat<float>(), of("W_dec").mutable_mat<float>(),
                      of("b_enc").mutable_data<float>(), centring());
  add_centring();
  std::ranges::copy(b_dec_grad_, of("b_dec").mutable_data<float>().begin());
  if (coder_.config().skip) of("W_skip") = skip_grad_.clone();
  const std::vector<std::string> names = coder_.variant().parameters();
  for (std::size_t p = 0; p < names.size(); ++p) {
    std::ranges::copy(parameter_grads_[p], of(names[p]).mutable_data<float>().begin());
  }
  for (auto& [name, tensor] : out.named) ranks_.sum(tensor.mutable_data<float>());
  return loss;
}

void CoderStepper::settle() { sae_settle(training_.unit_decoder, sweep_state(), deferred_); }

void CoderStepper::reset_moments(std::span<const std::int64_t> latents) {
  settle();
  for (Moments& m : moments_) {
    if (m.name == "b_dec" || m.name == "W_skip") continue;
    for (Tensor* moment : {&m.m, &m.v}) {
      const std::int64_t width = moment->rank() == 2 ? moment->dim(1) : 1;
      const auto values = moment->mutable_data<float>();
      for (const std::int64_t j : latents) {
        std::fill_n(values.begin() + j * width, width, 0.0F);
      }
    }
  }
}

std::vector<NamedTensor> CoderStepper::state() {
  settle();
  std::vector<NamedTensor> all = std::as_const(coder_).parameters();
  for (const Moments& m : moments_) {
    all.push_back({m.name + ".m", &m.m});
    all.push_back({m.name + ".v", &m.v});
  }
  return all;
}

void CoderStepper::restore(const std::string& name, const Tensor& tensor) {
  settle();
  const auto take = [&](Tensor& to) {
    if (tensor.shape() != to.shape() || tensor.dtype() != DType::kF32) {
      throw_data("tensor '", name, "' is ", dtype_name(tensor.dtype()), " ",
                 shape_string(tensor.shape()), ", wanted float32 ", shape_string(to.shape()));
    }
    std::ranges::copy(tensor.clone().data<float>(), to.mutable_data<float>().begin());
  };
  for (Moments& m : moments_) {
    if (name == m.name) {
      take(coder_.parameter(name));
      weights_changed();
      return;
    }
    if (name == m.name + ".m") return take(m.m);
    if (name == m.name + ".v") return take(m.v);
  }
  throw_data("tensor '", name, "' does not belong to this state");
}

}  // namespace drrik
