#include "drrik/activations/row_stream.h"

#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {

RowShare row_share(std::int64_t n, int rank, int ranks) {
  return {n * rank / ranks, n * (rank + 1) / ranks};
}

std::int64_t RowStream::next_share(std::span<const MatView<float>> out, std::int64_t batch,
                                   int rank, int ranks) {
  std::vector<Tensor> all;
  std::vector<MatView<float>> views;
  for (const RowSite& site : sites()) {
    all.push_back(Tensor::uninitialized(DType::kF32, {batch, site.width}));
    views.push_back(all.back().mutable_mat<float>());
  }
  const std::int64_t n = next(views);
  const RowShare share = row_share(n, rank, ranks);
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (i >= out.size() || share.count() > out[i].rows()) {
      throw_data("activations: no room for ", share.count(), " rows of site ", i);
    }
    copy(views[i].rows_range(share.begin, share.count()), out[i].rows_range(0, share.count()));
  }
  return n;
}

}  // namespace drrik
