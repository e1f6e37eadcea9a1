#include "ops/weight.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "drrik/base/checked.h"
#include "drrik/base/threads.h"
#include "drrik/ops/convert.h"
#include "ops/panel_fill.h"

namespace drrik {
namespace detail {

std::size_t StoredRows::run_of(std::int64_t row) const {
  if (runs.size() == 1) return 0;
  const auto behind = std::upper_bound(
      runs.begin(), runs.end(), row, [](std::int64_t r, const Run& run) { return r < run.begin; });
  return static_cast<std::size_t>(behind - runs.begin()) - 1;
}

KeptRows::~KeptRows() {
  for (const Tensor& part : parts) part.drop_pages();
}

namespace {

// As soon as making panels from kept rows has cost what packing costs, it is packed. Measured with
// 300 MB of weights: one product that goes over them once loses 1/15 to 1/25 of the time of packing
// to what packed panels would have given, be it with 1 row or 64; one that also converts, a third
// to a tenth.
constexpr std::int64_t kPassesThatPay = 18;
constexpr std::int64_t kConvertingPass = 3;

bool out_in(WeightLayout layout) { return layout == WeightLayout::kOutIn; }

// One more tensor below the others, or the rows `order` of it.
void add_rows(const Tensor& tensor, WeightLayout layout, std::span<const std::int64_t> order,
              bool ordered, StoredRows& to) {
  if (tensor.rank() != 2) {
    throw_data("weight of shape ", shape_string(tensor.shape()), ", wanted a matrix");
  }
  const DType dtype = tensor.dtype();
  if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16) {
    throw_data("weight of ", dtype_name(dtype), ", wanted float32, bfloat16 or float16");
  }
  const std::int64_t rows = tensor.dim(out_in(layout) ? 0 : 1);
  const std::int64_t in = tensor.dim(out_in(layout) ? 1 : 0);
  if (!to.runs.empty() && in != to.in) {
    throw_data("weights of ", to.in, " and ", in, " inputs cannot be stacked (shape ",
               shape_string(tensor.shape()), ")");
  }
  to.in = in;
  to.layout = layout;
  const auto size = static_cast<std::int64_t>(dtype_size(dtype));
  StoredRows::Run run;
  run.row_step = out_in(layout) ? in * size : size;
  run.in_step = out_in(layout) ? size : rows * size;
  run.dtype = dtype;
  const auto add = [&](std::int64_t row, std::int64_t count) {
    run.begin = to.out;
    run.data = tensor.raw() + row * run.row_step;
    to.runs.push_back(run);
    to.out += count;
  };
  if (!ordered) {
    add(0, rows);
    return;
  }
  for (const std::int64_t row : order) {
    if (row < 0 || row >= rows) {
      throw_usage("weight: row ", row, " of a matrix of ", rows, " outputs");
    }
  }
  for (std::size_t i = 0; i < order.size();) {
    std::size_t end = i + 1;
    while (end < order.size() && order[end] == order[end - 1] + 1) ++end;
    add(order[i], static_cast<std::int64_t>(end - i));
    i = end;
  }
}

StoredRows rows_of(std::span<const Tensor* const> parts, WeightLayout layout,
                   std::span<const std::int64_t> order, bool ordered) {
  if (parts.empty()) throw_usage("weight: no tensors to stack");
  StoredRows rows;
  for (const Tensor* part : parts) add_rows(*part, layout, order, ordered, rows);
  return rows;
}

DType stored_dtype_of(const StoredRows& rows, Compute compute) {
  if (compute == Compute::kBF16) return DType::kBF16;
  // A 16-bit type is kept when every part has it: widening is exact, and it is half the bytes.
  if (rows.runs.empty()) return DType::kF32;
  const DType first = rows.runs.front().dtype;
  const bool all = std::ranges::all_of(
      rows.runs, [&](const StoredRows::Run& run) { return run.dtype == first; });
  return all ? first : DType::kF32;
}

std::shared_ptr<Weight::Impl> describe(const StoredRows& rows, Compute compute) {
  auto impl = std::make_shared<Weight::Impl>();
  impl->in = rows.in;
  impl->out = rows.out;
  impl->panels = (impl->out + kPanel - 1) / kPanel;
  impl->compute = compute;
  impl->dtype = stored_dtype_of(rows, compute);
  impl->in_padded = round_up(impl->in, impl->dtype == DType::kBF16 ? 32 : 16);
  const std::array<std::int64_t, 3> padded = {impl->panels, impl->in_padded, kPanel};
  const auto bytes =
      checked_mul(shape_elements(padded), static_cast<std::int64_t>(dtype_size(impl->dtype)));
  if (!bytes) throw_data("weight [", impl->out, ", ", impl->in, "] is too large");
  return impl;
}

// Memory that is touched in pages of 2 MiB where the kernel gives them: packing is then twice as
// fast, and products from the panels by some 8 %.
void want_huge_pages([[maybe_unused]] std::byte* data, [[maybe_unused]] std::size_t size) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kHuge = std::uintptr_t{2} << 20;
  const auto start = reinterpret_cast<std::uintptr_t>(data);
  // Whole ones only: no memory is taken that is not used.
  const std::uintptr_t skip = (kHuge - start % kHuge) % kHuge;
  if (size < skip + kHuge) return;
  madvise(data + skip, (size - skip) / kHuge * kHuge, MADV_HUGEPAGE);
#endif
}

// A whole panel. Float16 goes by way of float32, which holds all its values.
void pack_panel(const StoredRows& rows, std::int64_t p, const Weight::Impl& impl, std::byte* to) {
  const auto begin = [&]<typename T>(std::int64_t k, T) {
    return reinterpret_cast<T*>(to) + k * kPanel;
  };
  const auto fill = [&]<typename T>(T zero) {
    constexpr std::int64_t kDepth = kPieceWords * 4 / static_cast<std::int64_t>(sizeof(T));
    std::int64_t k = 0;
    for (; k < impl.in; k += kDepth) {
      fill_panel(rows, p, k, std::min(kDepth, impl.in - k), begin(k, zero));
    }
    k = round_up(impl.in, 16 / static_cast<std::int64_t>(sizeof(T)));
    std::fill_n(begin(k, zero), (impl.in_padded - k) * kPanel, zero);
  };
  if (impl.dtype == DType::kBF16) return fill(BF16());
  if (impl.dtype == DType::kF32) return fill(0.0F);
  alignas(64) float piece[kPieceBytes / sizeof(float)];
  for (std::int64_t k = 0; k < impl.in; k += kPieceWords) {
    const std::int64_t count = std::min(kPieceWords, impl.in - k);
    fill_panel(rows, p, k, count, piece);
    const auto elements = static_cast<std::size_t>(count * kPanel);
    convert(std::span<const float>(piece, elements), std::span<F16>(begin(k, F16()), elements));
  }
  std::fill_n(begin(impl.in, F16()), (impl.in_padded - impl.in) * kPanel, F16());
}

std::shared_ptr<const AlignedBuffer> pack_rows(const StoredRows& rows, const Weight::Impl& impl,
                                               std::span<const Tensor* const> parts) {
  auto packed = std::make_shared<AlignedBuffer>(impl.packed_bytes(), AlignedBuffer::Init::kNone);
  want_huge_pages(packed->data(), packed->size());
  const std::int64_t panel_bytes =
      impl.panel_elements() * static_cast<std::int64_t>(dtype_size(impl.dtype));
  // In groups, so that the source's pages go as the panels come.
  const std::int64_t group =
      std::max<std::int64_t>(num_threads(), (std::int64_t{32} << 20) / (panel_bytes + 1));
  for (std::int64_t begin = 0; begin < impl.panels; begin += group) {
    const std::int64_t end = std::min(impl.panels, begin + group);
    parallel_for(end - begin, 1, [&](std::int64_t b, std::int64_t e) {
      for (std::int64_t p = begin + b; p < begin + e; ++p) {
        pack_panel(rows, p, impl, packed->data() + p * panel_bytes);
      }
    });
    for (const Tensor* part : parts) part->drop_pages();
  }
  return packed;
}

std::vector<const Tensor*> pointers(const std::vector<Tensor>& tensors) {
  std::vector<const Tensor*> out;
  out.reserve(tensors.size());
  for (const Tensor& tensor : tensors) out.push_back(&tensor);
  return out;
}

std::shared_ptr<const Weight::Impl> prepare(std::span<const Tensor* const> parts, Compute compute,
                                            WeightLayout layout,
                                            std::span<const std::int64_t> order, bool ordered) {
  const StoredRows rows = rows_of(parts, layout, order, ordered);
  auto impl = describe(rows, compute);
  impl->now.packed = pack_rows(rows, *impl, parts);
  return impl;
}

}  // namespace
}  // namespace detail

detail::WeightForm Weight::Impl::form() const {
  const std::lock_guard lock(mutex);
  return now;
}

detail::WeightForm Weight::Impl::form_for(std::int64_t passes) const {
  detail::WeightForm form;
  {
    const std::lock_guard lock(mutex);
    form = now;
    if (form.packed) return form;
    const detail::StoredRows& stored = form.kept->rows;
    const bool converts = std::ranges::any_of(
        stored.runs, [&](const detail::StoredRows::Run& run) { return run.dtype != dtype; });
    passes_made += converts ? detail::kConvertingPass * passes : passes;
    if (packing || passes_made < detail::kPassesThatPay) return form;
    packing = true;
  }
  try {
    form.packed = detail::pack_rows(form.kept->rows, *this, detail::pointers(form.kept->parts));
  } catch (const Error&) {
    return form;  // No memory for it: the rows serve as they did.
  }
  form.kept = nullptr;
  const std::lock_guard lock(mutex);
  now = form;
  return form;
}

Weight Weight::pack(const Tensor& tensor, Compute compute, WeightLayout layout) {
  const Tensor* part = &tensor;
  return stack({&part, 1}, compute, layout);
}

Weight Weight::stack(std::span<const Tensor* const> parts, Compute compute, WeightLayout layout) {
  Weight weight;
  weight.impl_ = detail::prepare(parts, compute, layout, {}, false);
  return weight;
}

Weight Weight::pack_rows(const Tensor& tensor, std::span<const std::int64_t> order, Compute compute,
                         WeightLayout layout) {
  const Tensor* part = &tensor;
  Weight weight;
  weight.impl_ = detail::prepare({&part, 1}, compute, layout, order, true);
  return weight;
}

Weight Weight::keep(std::vector<Tensor> parts, Compute compute, WeightLayout layout) {
  const std::vector<const Tensor*> pointers = detail::pointers(parts);
  if (!std::ranges::all_of(parts, [](const Tensor& part) { return part.borrowed(); })) {
    return stack(pointers, compute, layout);
  }
  detail::StoredRows rows = detail::rows_of(pointers, layout, {}, false);
  const auto impl = detail::describe(rows, compute);
  impl->now.kept = std::make_shared<const detail::KeptRows>(std::move(parts), std::move(rows));
  Weight weight;
  weight.impl_ = impl;
  return weight;
}

Weight Weight::keep_rows(Tensor tensor, std::span<const std::int64_t> order, Compute compute,
                         WeightLayout layout) {
  if (!tensor.borrowed()) return pack_rows(tensor, order, compute, layout);
  const Tensor* part = &tensor;
  detail::StoredRows rows = detail::rows_of({&part, 1}, layout, order, true);
  const auto impl = detail::describe(rows, compute);
  std::vector<Tensor> parts;
  parts.push_back(std::move(tensor));
  impl->now.kept = std::make_shared<const detail::KeptRows>(std::move(parts), std::move(rows));
  Weight weight;
  weight.impl_ = impl;
  return weight;
}

std::int64_t Weight::in() const { return impl_ ? impl_->in : 0; }
std::int64_t Weight::out() const { return impl_ ? impl_->out : 0; }
Compute Weight::compute() const { return impl_ ? impl_->compute : Compute::kF32; }
DType Weight::stored_dtype() const { return impl_ ? impl_->dtype : DType::kF32; }
std::size_t Weight::bytes() const { return impl_ ? impl_->packed_bytes() : 0; }
bool Weight::packed() const { return impl_ && impl_->form().packed; }

void Weight::row(std::int64_t r, std::span<float> out) const {
  if (r < 0 || r >= this->out() || static_cast<std::int64_t>(out.size()) != in()) {
    throw_usage("weight [", this->out(), ", ", in(), "]: row ", r, " into ", out.size(),
                " elements");
  }
  const detail::WeightForm form = impl_->form();
  if (!form.packed) {
    const detail::StoredRows& rows = form.kept->rows;
    const detail::StoredRows::Run& run = rows.runs[rows.run_of(r)];
    for (std::int64_t k = 0; k < in(); ++k) {
      float& value = out[static_cast<std::size_t>(k)];
      convert_to_float(run.at(r, k), run.dtype, 1, &value);
      if (impl_->dtype == DType::kBF16) value = static_cast<float>(BF16(value));
    }
    return;
  }
  const std::int64_t j = r % kPanel;
  const std::size_t size = dtype_size(impl_->dtype);
  const std::byte* panel =
      form.packed->data() + static_cast<std::size_t>(r / kPanel * impl_->panel_elements()) * size;
  for (std::int64_t k = 0; k < in(); ++k) {
    const std::int64_t at =
        impl_->dtype == DType::kBF16 ? (k / 2 * kPanel + j) * 2 + k % 2 : k * kPanel + j;
    convert_to_float(panel + static_cast<std::size_t>(at) * size, impl_->dtype, 1,
                     &out[static_cast<std::size_t>(k)]);
  }
}

}  // namespace drrik
