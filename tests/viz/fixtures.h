#pragma once
// A small autoencoder whose features are plain to see, and rows for it.

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/base/rng.h"
#include "drrik/sae/sae.h"

namespace drrik::testing {

/// Rows of a matrix in memory.
class Rows : public RowSource {
 public:
  Rows(std::int64_t rows, std::int64_t dim)
      : rows_(rows), dim_(dim), values_(static_cast<std::size_t>(rows * dim)) {}
  std::int64_t rows() const override { return rows_; }
  std::int64_t dim() const override { return dim_; }
  float& at(std::int64_t r, std::int64_t c) {
    return values_[static_cast<std::size_t>(r * dim_ + c)];
  }
  void read(std::int64_t begin, MatView<float> out) const override {
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      for (std::int64_t c = 0; c < dim_; ++c) {
        out(r, c) = values_[static_cast<std::size_t>((begin + r) * dim_ + c)];
      }
    }
  }
  void gather(std::span<const std::int64_t> indices, MatView<float> out) const override {
    for (std::size_t i = 0; i < indices.size(); ++i) {
      read(indices[i], out.rows_range(static_cast<std::int64_t>(i), 1));
    }
  }

 private:
  std::int64_t rows_;
  std::int64_t dim_;
  std::vector<float> values_;
};

/// f = relu(x): feature i is dimension i. Decoder columns are given, or unit vectors.
class ReluIdentity : public Sae {
 public:
  explicit ReluIdentity(std::int64_t width) : width_(width) {}
  std::string architecture() const override { return "relu"; }
  std::int64_t d_in() const override { return width_; }
  std::int64_t d_sae() const override { return width_; }
  void encode(MatView<const float> x, MatView<float> out) const override {
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t c = 0; c < width_; ++c) out(r, c) = std::max(0.0F, x(r, c));
    }
  }
  void encode(MatView<const float> x, SparseRows& out) const override {
    out.row_start.assign(1, 0);
    out.latent.clear();
    out.value.clear();
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t c = 0; c < width_; ++c) {
        if (x(r, c) > 0.0F || std::isnan(x(r, c))) {
          out.latent.push_back(static_cast<std::int32_t>(c));
          out.value.push_back(x(r, c));
        }
      }
      out.row_start.push_back(static_cast<std::int64_t>(out.latent.size()));
    }
  }
  void decode(MatView<const float> f, MatView<float> out) const override {
    for (std::int64_t r = 0; r < f.rows(); ++r) {
      for (std::int64_t c = 0; c < width_; ++c) out(r, c) = f(r, c);
    }
  }
  void decode(const SparseRows& f, MatView<float> out) const override {
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      for (std::int64_t c = 0; c < width_; ++c) out(r, c) = 0.0F;
      for (auto i = static_cast<std::size_t>(f.row_start[static_cast<std::size_t>(r)]);
           i < static_cast<std::size_t>(f.row_start[static_cast<std::size_t>(r + 1)]); ++i) {
        out(r, f.latent[i]) = f.value[i];
      }
    }
  }
  std::vector<float> decoder_direction(std::int64_t latent) const override {
    if (latent < 0 || latent >= width_) throw_usage("feature ", latent, " does not exist");
    Rng rng(7, static_cast<std::uint64_t>(latent));
    std::vector<float> out(static_cast<std::size_t>(width_));
    double squares = 0.0;
    for (float& v : out) {
      v = rng.normal();
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    for (float& v : out) v = static_cast<float>(static_cast<double>(v) / std::sqrt(squares));
    return out;
  }

 private:
  std::int64_t width_;
};

/// Feature c fires on about a part 0.3 * 0.97^c of the rows with values of an exponential kind; the
/// last tenth of the features never fires.
inline Rows random_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed = 1) {
  Rows out(rows, width);
  Rng rng(seed);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      const double density = c >= width - width / 10 ? 0.0 : 0.3 * std::pow(0.97, c);
      const bool fires = rng.uniform_double() < density;
      const double size =
          -std::log(1.0 - rng.uniform_double()) * (1.0 + 0.01 * static_cast<double>(c));
      out.at(r, c) = fires ? static_cast<float>(size) : -1.0F;
    }
  }
  return out;
}

/// A folder that goes away with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "drrik-viz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw_io("no temporary folder");
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace drrik::testing
