#include "ops/weight.h"

#include <algorithm>
#include <cstring>

#include "drrik/base/checked.h"
#include "drrik/base/threads.h"

namespace drrik {
namespace {

// One tensor of a stack with what is needed to read an element of it as [out, in].
struct Source {
  const Tensor* tensor = nullptr;
  WeightLayout layout = WeightLayout::kOutIn;
  std::int64_t out = 0;
  std::int64_t in = 0;
};

Source source_of(const Tensor& tensor, WeightLayout layout) {
  if (tensor.rank() != 2) {
    throw_data("weight of shape ", shape_string(tensor.shape()), ", wanted a matrix");
  }
  if (tensor.dtype() != DType::kF32 && tensor.dtype() != DType::kBF16 &&
      tensor.dtype() != DType::kF16) {
    throw_data("weight of ", dtype_name(tensor.dtype()), ", wanted float32, bfloat16 or float16");
  }
  const bool out_in = layout == WeightLayout::kOutIn;
  return {&tensor, layout, tensor.dim(out_in ? 0 : 1), tensor.dim(out_in ? 1 : 0)};
}

DType stored_dtype_of(std::span<const Tensor* const> parts, Compute compute) {
  if (compute == Compute::kBF16) return DType::kBF16;
  // A 16-bit type is kept when every part has it: widening is exact, and it is half the bytes.
  const DType first = parts.front()->dtype();
  for (const Tensor* part : parts) {
    if (part->dtype() != first) return DType::kF32;
  }
  return first;
}

// Elements [k0, k0 + count) of row `row` of the source as floats.
void read_row(const Source& s, std::int64_t row, std::int64_t k0, std::int64_t count, float* out) {
  const std::size_t size = dtype_size(s.tensor->dtype());
  const std::byte* from = s.tensor->raw() + static_cast<std::size_t>(row * s.in + k0) * size;
  convert_to_float(from, s.tensor->dtype(), count, out);
}

// Inputs [k0, k0 + count) of outputs rows[0..n) as block[k][j], zero where there is no row.
constexpr std::int64_t kDepth = 32;
using Block = float[kDepth][kPanel];

void read_block(const Source& s, const std::int64_t* rows, std::int64_t n, std::int64_t k0,
                std::int64_t count, std::int64_t column, Block& block) {
  if (s.layout == WeightLayout::kOutIn) {
    float line[kDepth];
    for (std::int64_t j = 0; j < n; ++j) {
      read_row(s, rows[j], k0, count, line);
      for (std::int64_t k = 0; k < count; ++k) block[k][column + j] = line[k];
    }
    return;
  }
  const std::size_t size = dtype_size(s.tensor->dtype());
  for (std::int64_t k = 0; k < count; ++k) {
    const std::byte* row = s.tensor->raw() + static_cast<std::size_t>((k0 + k) * s.out) * size;
    // Runs of consecutive outputs in one conversion.
    for (std::int64_t j = 0; j < n;) {
      std::int64_t run = 1;
      while (j + run < n && rows[j + run] == rows[j] + run) ++run;
      convert_to_float(row + static_cast<std::size_t>(rows[j]) * size, s.tensor->dtype(), run,
                       &block[k][column + j]);
      j += run;
    }
  }
}

template <typename T>
void write_block(const Block& block, std::int64_t k0, std::int64_t depth, T* panel) {
  if constexpr (std::is_same_v<T, BF16>) {
    for (std::int64_t k = 0; k < depth; k += 2) {
      BF16* to = panel + (k0 + k) * kPanel;
      for (std::int64_t j = 0; j < kPanel; ++j) {
        to[2 * j] = BF16(block[k][j]);
        to[2 * j + 1] = BF16(block[k + 1][j]);
      }
    }
  } else {
    convert_from_float(&block[0][0], dtype_of<T>(), depth * kPanel,
                       reinterpret_cast<std::byte*>(panel + k0 * kPanel));
  }
}

// Where output row r of the stack comes from.
struct Place {
  std::size_t part = 0;
  std::int64_t row = 0;
};

std::shared_ptr<const Weight::Impl> build(std::span<const Tensor* const> parts,
                                          std::span<const std::int64_t> order, bool ordered,
                                          Compute compute, WeightLayout layout) {
  if (parts.empty()) throw_usage("weight: no tensors to stack");
  std::vector<Source> sources;
  std::vector<std::int64_t> starts = {0};
  for (const Tensor* part : parts) {
    const Source s = source_of(*part, layout);
    if (!sources.empty() && s.in != sources.front().in) {
      throw_data("weights of ", sources.front().in, " and ", s.in,
                 " inputs cannot be stacked (shape ", shape_string(part->shape()), ")");
    }
    sources.push_back(s);
    starts.push_back(starts.back() + s.out);
  }
  for (const std::int64_t row : order) {
    if (row < 0 || row >= sources.front().out) {
      throw_usage("weight: row ", row, " of a matrix of ", sources.front().out, " outputs");
    }
  }
  auto impl = std::make_shared<Weight::Impl>();
  impl->in = sources.front().in;
  impl->out = ordered ? static_cast<std::int64_t>(order.size()) : starts.back();
  impl->panels = (impl->out + kPanel - 1) / kPanel;
  impl->compute = compute;
  impl->dtype = stored_dtype_of(parts, compute);
  impl->in_padded = impl->dtype == DType::kBF16 ? round_up(impl->in, 32) : round_up(impl->in, 16);
  const std::array<std::int64_t, 3> padded = {impl->panels, impl->in_padded, kPanel};
  const auto bytes =
      checked_mul(shape_elements(padded), static_cast<std::int64_t>(dtype_size(impl->dtype)));
  if (!bytes) throw_data("weight [", impl->out, ", ", impl->in, "] is too large");
  impl->buffer = AlignedBuffer(static_cast<std::size_t>(*bytes), AlignedBuffer::Init::kNone);

  const auto place_of = [&](std::int64_t r) {
    if (ordered) return Place{0, order[static_cast<std::size_t>(r)]};
    const auto above = std::upper_bound(starts.begin(), starts.end(), r);
    const auto part = static_cast<std::size_t>(above - starts.begin()) - 1;
    return Place{part, r - starts[part]};
  };
  const auto pack_panel = [&](std::int64_t p) {
    const std::int64_t first = p * kPanel;
    const std::int64_t n = std::min(kPanel, impl->out - first);
    std::int64_t rows[kPanel];
    std::size_t part_of[kPanel];
    for (std::int64_t j = 0; j < n; ++j) {
      const Place place = place_of(first + j);
      rows[j] = place.row;
      part_of[j] = place.part;
    }
    for (std::int64_t k0 = 0; k0 < impl->in_padded; k0 += kDepth) {
      Block block = {};
      const std::int64_t depth = std::min(kDepth, impl->in_padded - k0);
      const std::int64_t count = std::min(kDepth, impl->in - k0);
      for (std::int64_t j = 0; j < n;) {
        std::int64_t run = 1;
        while (j + run < n && part_of[j + run] == part_of[j]) ++run;
        read_block(sources[part_of[j]], rows + j, run, k0, count, j, block);
        j += run;
      }
      std::byte* base = impl->buffer.data();
      const std::int64_t offset = p * impl->panel_elements();
      switch (impl->dtype) {
        case DType::kBF16:
          write_block(block, k0, depth, reinterpret_cast<BF16*>(base) + offset);
          break;
        case DType::kF16:
          write_block(block, k0, depth, reinterpret_cast<F16*>(base) + offset);
          break;
        default:
          write_block(block, k0, depth, reinterpret_cast<float*>(base) + offset);
          break;
      }
    }
  };
  // In groups, so that the source's pages go as the panels come.
  const std::int64_t group = std::max<std::int64_t>(
      num_threads(), (std::int64_t{32} << 20) / (impl->panel_elements() * 4 + 1));
  for (std::int64_t begin = 0; begin < impl->panels; begin += group) {
    const std::int64_t end = std::min(impl->panels, begin + group);
    parallel_for(end - begin, 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t p = begin + b; p < begin + e; ++p) pack_panel(p);
    });
    for (const Tensor* part : parts) part->drop_pages();
  }
  return impl;
}

}  // namespace

Weight Weight::pack(const Tensor& tensor, Compute compute, WeightLayout layout) {
  const Tensor* part = &tensor;
  return stack({&part, 1}, compute, layout);
}

Weight Weight::stack(std::span<const Tensor* const> parts, Compute compute, WeightLayout layout) {
  Weight weight;
  weight.impl_ = build(parts, {}, false, compute, layout);
  return weight;
}

Weight Weight::pack_rows(const Tensor& tensor, std::span<const std::int64_t> order, Compute compute,
                         WeightLayout layout) {
  const Tensor* part = &tensor;
  Weight weight;
  weight.impl_ = build({&part, 1}, order, true, compute, layout);
  return weight;
}

std::int64_t Weight::in() const { return impl_ ? impl_->in : 0; }
std::int64_t Weight::out() const { return impl_ ? impl_->out : 0; }
Compute Weight::compute() const { return impl_ ? impl_->compute : Compute::kF32; }
DType Weight::stored_dtype() const { return impl_ ? impl_->dtype : DType::kF32; }
std::size_t Weight::bytes() const { return impl_ ? impl_->buffer.size() : 0; }

void Weight::row(std::int64_t r, std::span<float> out) const {
  if (r < 0 || r >= this->out() || static_cast<std::int64_t>(out.size()) != in()) {
    throw_usage("weight [", this->out(), ", ", in(), "]: row ", r, " into ", out.size(),
                " elements");
  }
  const std::int64_t p = r / kPanel;
  const std::int64_t j = r % kPanel;
  for (std::int64_t k = 0; k < in(); ++k) {
    float value = 0.0F;
    switch (impl_->dtype) {
      case DType::kBF16:
        value = static_cast<float>(impl_->panel<BF16>(p)[(k / 2 * kPanel + j) * 2 + k % 2]);
        break;
      case DType::kF16:
        value = static_cast<float>(impl_->panel<F16>(p)[k * kPanel + j]);
        break;
      default:
        value = impl_->panel<float>(p)[k * kPanel + j];
        break;
    }
    out[static_cast<std::size_t>(k)] = value;
  }
}

}  // namespace drrik
