// Rows of other sources: a part of one, several side by side.

#include <utility>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/ops/convert.h"

namespace drrik {
namespace {

class RowView final : public RowSource {
 public:
  RowView(const RowSource& source, std::int64_t begin, std::int64_t end, std::int64_t column,
          std::int64_t width)
      : source_(source), begin_(begin), end_(end), column_(column), width_(width) {
    if (begin < 0 || begin > end || end > source.rows() || column < 0 || width < 1 ||
        column + width > source.dim()) {
      throw_usage("rows [", begin, ", ", end, ") and columns [", column, ", ", column + width,
                  ") of activations [", source.rows(), ", ", source.dim(), "]");
    }
  }

  std::int64_t rows() const override { return end_ - begin_; }
  std::int64_t dim() const override { return width_; }
  void read(std::int64_t begin, MatView<float> out) const override {
    fill(out, [&](MatView<float> whole) { source_.read(begin_ + begin, whole); });
  }
  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    std::vector<std::int64_t> moved(indices.begin(), indices.end());
    for (std::int64_t& i : moved) i += begin_;
    fill(out, [&](MatView<float> whole) { source_.gather(moved, whole); });
  }

 private:
  template <typename F>
  void fill(MatView<float> out, const F& read_whole) const {
    if (width_ == source_.dim()) {
      read_whole(out);
      return;
    }
    Tensor buffer = Tensor::uninitialized(DType::kF32, {out.rows(), source_.dim()});
    read_whole(buffer.mutable_mat<float>());
    copy(buffer.mat<float>().cols_range(column_, width_), out);
  }

  const RowSource& source_;
  std::int64_t begin_, end_, column_, width_;
};

class JoinedRows final : public RowSource {
 public:
  explicit JoinedRows(std::vector<const RowSource*> sources) : sources_(std::move(sources)) {
    if (sources_.empty()) throw_usage("no activations to put side by side");
    for (const RowSource* source : sources_) {
      if (source->rows() != rows()) {
        throw_data("activations of ", rows(), " rows and of ", source->rows(),
                   " rows cannot stand side by side; they must come from the same tokens");
      }
      dim_ += source->dim();
    }
  }

  std::int64_t rows() const override { return sources_.front()->rows(); }
  std::int64_t dim() const override { return dim_; }
  void read(std::int64_t begin, MatView<float> out) const override {
    each(out, [&](const RowSource& source, MatView<float> part) { source.read(begin, part); });
  }
  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    each(out, [&](const RowSource& source, MatView<float> part) { source.gather(indices, part); });
  }

 private:
  template <typename F>
  void each(MatView<float> out, const F& f) const {
    std::int64_t column = 0;
    for (const RowSource* source : sources_) {
      Tensor part = Tensor::uninitialized(DType::kF32, {out.rows(), source->dim()});
      f(*source, part.mutable_mat<float>());
      copy(part.mat<float>(), out.cols_range(column, source->dim()));
      column += source->dim();
    }
  }

  std::vector<const RowSource*> sources_;
  std::int64_t dim_ = 0;
};

}  // namespace

std::unique_ptr<RowSource> make_row_view(const RowSource& source, std::int64_t begin,
                                         std::int64_t end, std::int64_t column,
                                         std::int64_t width) {
  return std::make_unique<RowView>(source, begin, end, column, width);
}

std::unique_ptr<RowSource> make_joined_rows(std::vector<const RowSource*> sources) {
  return std::make_unique<JoinedRows>(std::move(sources));
}

}  // namespace drrik
