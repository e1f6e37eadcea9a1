// Training rows from a store: every pass a computed permutation of its rows.

#include <algorithm>
#include <numeric>

#include "activations/nonfinite.h"
#include "activations/row_order.h"
#include "drrik/activations/row_stream.h"
#include "drrik/base/error.h"
#include "drrik/ops/convert.h"
#include "io/json.h"

namespace drrik {
namespace {

constexpr const char* kState = "row stream state";

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

class StoreStream final : public RowStream {
 public:
  StoreStream(const RowSource& source, std::vector<RowSite> sites,
              const StoreStreamOptions& options)
      : source_(source), sites_(std::move(sites)), options_(options) {
    if (options_.end < 0) options_.end = source.rows();
    std::int64_t width = 0;
    for (const RowSite& site : sites_) width += site.width;
    if (sites_.empty() || width != source.dim()) {
      throw_data("activations have width ", source.dim(), ", their ", sites_.size(),
                 " sites add up to ", width);
    }
    if (options_.begin < 0 || options_.begin >= options_.end || options_.end > source.rows()) {
      throw_data("activations: rows [", options_.begin, ", ", options_.end, ") of ", source.rows());
    }
  }

  const std::vector<RowSite>& sites() const override { return sites_; }
  std::int64_t rows() const override { return options_.end - options_.begin; }

  std::int64_t next(std::span<const MatView<float>> out) override {
    return next_share(out, out.empty() ? 0 : out[0].rows(), 0, 1);
  }

  std::int64_t next_share(std::span<const MatView<float>> out, std::int64_t batch, int rank,
                          int ranks) override {
    if (out.size() != sites_.size()) {
      throw_data("activations: room for ", out.size(), " sites, there are ", sites_.size());
    }
    const std::int64_t taken = std::min(batch, rows() - position_);
    const RowShare share = row_share(taken, rank, ranks);
    if (share.count() > out[0].rows()) {
      throw_data("activations: room for ", out[0].rows(), " rows, wanted ", share.count());
    }
    if (share.count() > 0) read(out, position_ + share.begin, share.count());
    position_ += taken;
    return taken;
  }

  void rewind() override {
    ++pass_;
    position_ = 0;
  }

  RowStreamState state() const override {
    const Json json = {{"kind", "store"},         {"rows", rows()},
                       {"begin", options_.begin}, {"shuffle", options_.shuffle},
                       {"seed", options_.seed},   {"pass", pass_},
                       {"position", position_}};
    return {json_text(json), {}};
  }

  void restore(const RowStreamState& state) override {
    const Json json = parse_json(state.json, kState);
    const Json wanted = parse_json(this->state().json, kState);
    for (const char* key : {"kind", "rows", "begin", "shuffle", "seed"}) {
      if (get_member(json, key, kState) != get_member(wanted, key, kState)) {
        throw_data("the rows were drawn with ", key, " ", get_member(json, key, kState).dump(),
                   ", now it is ", get_member(wanted, key, kState).dump());
      }
    }
    pass_ = get_int(json, "pass", kState);
    position_ = get_int(json, "position", kState);
    if (position_ < 0 || position_ > rows() || pass_ < 0) {
      throw_data("row stream state: position ", position_, " of ", rows());
    }
  }

  std::vector<std::pair<std::string, std::string>> facts() const override {
    return {{"rows", str(rows())},
            {"order", options_.shuffle ? str("shuffled, seed ", options_.seed) : "as stored"}};
  }

 private:
  // Rows [first, first + n) of the pass.
  void read(std::span<const MatView<float>> out, std::int64_t first, std::int64_t n) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (out[i].rows() != out[0].rows() || out[i].cols() != sites_[i].width) {
        throw_data("activations: room [", out[i].rows(), ", ", out[i].cols(), "] for site ", i,
                   ", wanted [", out[0].rows(), ", ", sites_[i].width, "]");
      }
    }
    numbers_.resize(at(n));
    if (options_.shuffle) {
      const RowOrder order(rows(), options_.seed, static_cast<std::uint64_t>(pass_));
      for (std::int64_t i = 0; i < n; ++i) {
        numbers_[at(i)] = options_.begin + order(first + i);
      }
    } else {
      std::iota(numbers_.begin(), numbers_.end(), options_.begin + first);
    }
    // One site lies as the rows do; several are parted.
    MatView<float> whole = out[0].rows_range(0, n);
    if (sites_.size() > 1) {
      if (!buffer_.defined() || buffer_.dim(0) < n) {
        buffer_ = Tensor::uninitialized(DType::kF32, {n, source_.dim()});
      }
      whole = buffer_.mutable_mat<float>().rows_range(0, n);
    }
    if (options_.shuffle) {
      source_.gather(numbers_, whole);
    } else {
      source_.read(numbers_.front(), whole);
    }
    detail::refuse_nonfinite(
        MatView<const float>(whole), [&](std::int64_t r) { return numbers_[at(r)]; }, "");
    if (sites_.size() > 1) {
      std::int64_t column = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        copy(whole.cols_range(column, sites_[i].width), out[i].rows_range(0, n));
        column += sites_[i].width;
      }
    }
  }

  const RowSource& source_;
  std::vector<RowSite> sites_;
  StoreStreamOptions options_;
  std::int64_t pass_ = 0;
  std::int64_t position_ = 0;  // rows given in this pass
  std::vector<std::int64_t> numbers_;
  Tensor buffer_;
};

}  // namespace

std::unique_ptr<RowStream> make_store_stream(const RowSource& source, std::vector<RowSite> sites,
                                             const StoreStreamOptions& options) {
  return std::make_unique<StoreStream>(source, std::move(sites), options);
}

}  // namespace drrik
