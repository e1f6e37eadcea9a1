// Weights: packed in an order, or kept as their tensors hold them.

#include "drrik/ops/gemm.h"

#include <bit>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "drrik/ops/convert.h"
#include "ops/gemm_testing.h"

namespace drrik {
namespace {

using testing::Case;
using testing::Matrix;
using testing::rounded;
using testing::tensor_of;
using testing::wrong_elements;

TEST(Weight, StacksTensorsInOrder) {
  const Matrix a = Matrix::random(70, 40, 0, 1);
  const Matrix b = Matrix::random(3, 40, 0, 2);
  const Matrix c = Matrix::random(65, 40, 0, 3);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor ta = tensor_of(a, dtype);
    const Tensor tb = tensor_of(b, dtype);
    const Tensor tc = tensor_of(c, dtype);
    const Tensor* parts[] = {&ta, &tb, &tc};
    const Weight w = Weight::stack(parts, Compute::kF32);
    ASSERT_EQ(w.out(), 138);
    EXPECT_EQ(w.stored_dtype(), dtype);
    std::vector<float> row(40);
    for (std::int64_t r = 0; r < 138; ++r) {
      w.row(r, row);
      for (std::int64_t k = 0; k < 40; ++k) {
        const float wanted = r < 70 ? a(r, k) : r < 73 ? b(r - 70, k) : c(r - 73, k);
        ASSERT_EQ(row[static_cast<std::size_t>(k)], rounded(wanted, dtype)) << r << " " << k;
      }
    }
  }
  const Tensor other = Tensor::zeros<float>({4, 39});
  const Tensor first = tensor_of(a, DType::kF32);
  const Tensor* parts[] = {&first, &other};
  EXPECT_THROW(Weight::stack(parts, Compute::kF32), Error);
}

TEST(Weight, PacksRowsInAGivenOrder) {
  const Matrix a = Matrix::random(6, 33, 0, 1);
  for (const WeightLayout layout : {WeightLayout::kOutIn, WeightLayout::kInOut}) {
    const std::vector<std::int64_t> order = {5, 0, 1, 2, 2};
    const Weight w = Weight::pack_rows(tensor_of(a, DType::kF16), order, Compute::kF32, layout);
    ASSERT_EQ(w.out(), 5);
    std::vector<float> row(static_cast<std::size_t>(w.in()));
    for (std::size_t i = 0; i < order.size(); ++i) {
      w.row(static_cast<std::int64_t>(i), row);
      for (std::int64_t k = 0; k < w.in(); ++k) {
        const float wanted = layout == WeightLayout::kOutIn ? a(order[i], k) : a(k, order[i]);
        ASSERT_EQ(row[static_cast<std::size_t>(k)], rounded(wanted, DType::kF16));
      }
    }
  }
  const std::vector<std::int64_t> outside = {6};
  EXPECT_THROW(Weight::pack_rows(tensor_of(a, DType::kF32), outside, Compute::kF32), Error);
}

TEST(Weight, ReadsAnUnalignedMappedTensor) {
  const auto path = std::filesystem::temp_directory_path() /
                    str("drrik_weight_", ::testing::UnitTest::GetInstance()->random_seed(), ".bin");
  const Matrix a = Matrix::random(10, 20, 0, 4);
  const Tensor t = tensor_of(a, DType::kF32);
  {
    std::ofstream file(path, std::ios::binary);
    file.put('x');
    file.write(reinterpret_cast<const char*>(t.raw()), static_cast<std::streamsize>(t.bytes()));
  }
  const Tensor mapped = Tensor::borrow(MappedFile::open(path), 1, DType::kF32, {10, 20});
  const Weight w = Weight::pack(mapped, Compute::kF32);
  std::vector<Tensor> parts;
  parts.push_back(Tensor::borrow(MappedFile::open(path), 1, DType::kF32, {10, 20}));
  const Weight kept = Weight::keep(std::move(parts), Compute::kF32);
  std::filesystem::remove(path);
  for (const Weight& weight : {w, kept}) {
    std::vector<float> row(20);
    weight.row(9, row);
    for (std::int64_t k = 0; k < 20; ++k) EXPECT_EQ(row[static_cast<std::size_t>(k)], a(9, k));
  }
  const Matrix x = Matrix::random(2, 20, 0, 5);
  Matrix y(2, 10);
  linear(x.view(), kept, {}, y.view());
  EXPECT_EQ(wrong_elements(x, a, {}, y, false, y), 0);
}

std::vector<Tensor> one(Tensor tensor) {
  std::vector<Tensor> parts;
  parts.push_back(std::move(tensor));
  return parts;
}

// As if borrowed from a file, but of its exact size, so that the sanitizers see reads beyond it.
Tensor lent(const Tensor& tensor) {
  return Tensor::share(std::make_shared<const Tensor>(tensor.clone()));
}

// How many elements of linear() with both weights differ in any bit, for float and bfloat16 inputs.
std::int64_t different_bits(const Weight& a, const Weight& b, std::int64_t rows) {
  const Matrix x = Matrix::random(rows, a.in(), 3, 12);
  std::vector<BF16> narrow(static_cast<std::size_t>(rows * a.in()));
  const MatView<BF16> xb(narrow.data(), rows, a.in());
  convert(x.view(), xb);
  std::vector<float> bias(static_cast<std::size_t>(a.out()), 0.25F);
  std::int64_t different = 0;
  for (const bool bf16 : {false, true}) {
    Matrix ya = Matrix::random(rows, a.out(), 5, 13);
    Matrix yb = Matrix::random(rows, a.out(), 5, 13);
    for (auto [w, y] : {std::pair{&a, &ya}, std::pair{&b, &yb}}) {
      if (bf16) {
        linear(MatView<const BF16>(xb), *w, bias, y->view(), {.accumulate = true});
      } else {
        linear(x.view(), *w, bias, y->view(), {.accumulate = true});
      }
      EXPECT_TRUE(y->guards_intact());
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < a.out(); ++c) {
        different +=
            std::bit_cast<std::uint32_t>(ya(r, c)) == std::bit_cast<std::uint32_t>(yb(r, c)) ? 0
                                                                                             : 1;
      }
    }
  }
  return different;
}

TEST(KeptWeight, EqualsThePackedOneToTheBit) {
  testing::for_each_target([] {
    // Inputs that end within a word, a vector, a piece; outputs within a group, a panel.
    for (const Case& s :
         {Case{1, 1, 1}, Case{1, 64, 64}, Case{2, 63, 65}, Case{3, 257, 130}, Case{13, 300, 80},
          Case{1, 1030, 96}, Case{50, 66, 33}, Case{1, 4, 16}, Case{7, 512, 128}}) {
      for (const WeightLayout layout : {WeightLayout::kOutIn, WeightLayout::kInOut}) {
        const bool out_in = layout == WeightLayout::kOutIn;
        const Matrix m = Matrix::random(out_in ? s.out : s.in, out_in ? s.in : s.out, 0, 11);
        for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
          for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
            SCOPED_TRACE(str("rows ", s.rows, " in ", s.in, " out ", s.out, " ", dtype_name(stored),
                             compute == Compute::kBF16 ? " bf16" : " f32",
                             out_in ? "" : " transposed"));
            const Tensor tensor = tensor_of(m, stored);
            const Weight packed = Weight::pack(tensor, compute, layout);
            const Weight kept = Weight::keep(one(lent(tensor)), compute, layout);
            EXPECT_FALSE(kept.packed());
            EXPECT_EQ(kept.bytes(), packed.bytes());
            EXPECT_EQ(kept.stored_dtype(), packed.stored_dtype());
            EXPECT_EQ(different_bits(kept, packed, s.rows), 0);
            std::vector<float> a(static_cast<std::size_t>(s.in));
            std::vector<float> b = a;
            kept.row(s.out - 1, a);
            packed.row(s.out - 1, b);
            EXPECT_EQ(a, b);
          }
        }
      }
    }
  });
}

TEST(KeptWeight, GatedProductsEqualTheirsToTheBit) {
  const Matrix x = Matrix::random(5, 140, 3, 1);
  const Tensor gate = tensor_of(Matrix::random(128, 140, 0, 2, 0.1F), DType::kF32);
  const Tensor up = tensor_of(Matrix::random(128, 140, 0, 3, 0.1F), DType::kF32);
  for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
    const Tensor* const pointers[] = {&gate, &up};
    const Weight packed = Weight::stack(pointers, compute);
    std::vector<Tensor> parts = one(lent(gate));
    parts.push_back(lent(up));
    const Weight kept = Weight::keep(std::move(parts), compute);
    Matrix a(5, 128);
    Matrix b(5, 128);
    gated_linear(x.view(), packed, {}, Activation::kSilu, a.view());
    gated_linear(x.view(), kept, {}, Activation::kSilu, b.view());
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t c = 0; c < 128; ++c) ASSERT_EQ(a(r, c), b(r, c));
    }
  }
}

TEST(KeptWeight, StacksAndReordersAcrossGroupsOfRows) {
  for (const WeightLayout layout : {WeightLayout::kOutIn, WeightLayout::kInOut}) {
    const auto matrix = [&](std::int64_t out, std::uint64_t seed) {
      return layout == WeightLayout::kOutIn ? Matrix::random(out, 70, 0, seed)
                                            : Matrix::random(70, out, 0, seed);
    };
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      // Of different types, whose boundaries lie within a group of rows and within a panel.
      const Tensor a = tensor_of(matrix(70, 1), DType::kF32);
      const Tensor b = tensor_of(matrix(3, 2), DType::kBF16);
      const Tensor c = tensor_of(matrix(65, 3), DType::kF16);
      const Tensor* const pointers[] = {&a, &b, &c};
      std::vector<Tensor> parts = one(lent(a));
      parts.push_back(lent(b));
      parts.push_back(lent(c));
      const Weight kept = Weight::keep(std::move(parts), compute, layout);
      EXPECT_EQ(different_bits(kept, Weight::stack(pointers, compute, layout), 3), 0);
      const std::vector<std::int64_t> order = {5,  69, 68, 1,  2,  3,  4,  5,  6,  7,  8,  9,
                                               10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 0};
      EXPECT_EQ(different_bits(Weight::keep_rows(lent(a), order, compute, layout),
                               Weight::pack_rows(a, order, compute, layout), 3),
                0);
    }
  }
}

TEST(KeptWeight, PacksItselfOnceThatPays) {
  const Tensor tensor = tensor_of(Matrix::random(100, 200, 0, 1), DType::kF32);
  for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
    const Weight packed = Weight::pack(tensor, compute);
    for (const std::int64_t rows : {1, 100}) {
      const Weight kept = Weight::keep(one(lent(tensor)), compute);
      for (int i = 0; i < 2; ++i) EXPECT_EQ(different_bits(kept, packed, rows), 0);
      EXPECT_FALSE(kept.packed());  // Short prompts run without.
      for (int i = 0; i < 100 && !kept.packed(); ++i) {
        EXPECT_EQ(different_bits(kept, packed, rows), 0);
      }
      EXPECT_TRUE(kept.packed());
      EXPECT_EQ(different_bits(kept, packed, 1), 0);
      EXPECT_EQ(different_bits(kept, packed, 100), 0);
    }
  }
  // A tensor that owns its memory is packed from the start.
  EXPECT_TRUE(Weight::keep(one(tensor.clone()), Compute::kF32).packed());
}

TEST(KeptWeight, LetsItsTensorsGoOncePacked) {
  const auto tensor =
      std::make_shared<const Tensor>(tensor_of(Matrix::random(64, 64, 0, 1), DType::kF32));
  const Weight kept = Weight::keep(one(Tensor::share(tensor)), Compute::kF32);
  EXPECT_EQ(tensor.use_count(), 2);
  const Matrix x = Matrix::random(40, 64);
  Matrix y(40, 64);
  for (int i = 0; i < 100; ++i) linear(x.view(), kept, {}, y.view());
  EXPECT_EQ(tensor.use_count(), 1);
}

TEST(KeptWeight, IsPackedByOneOfSeveralThreads) {
  const Matrix x = Matrix::random(24, 128, 0, 5);
  const Matrix wm = Matrix::random(96, 128, 0, 6);
  const Weight w = Weight::keep(one(lent(tensor_of(wm, DType::kF32))), Compute::kF32);
  std::vector<Matrix> results(4, Matrix(24, 96));
  std::vector<std::thread> threads;
  for (Matrix& y : results) {
    threads.emplace_back([&x, &w, &y] {
      for (int i = 0; i < 20; ++i) linear(x.view(), w, {}, y.view());
    });
  }
  for (auto& t : threads) t.join();
  for (const Matrix& y : results) EXPECT_EQ(wrong_elements(x, wm, {}, y, false, y), 0);
  EXPECT_TRUE(w.packed());
}

TEST(KeptWeight, RefusesWhatPackingRefuses) {
  EXPECT_THROW(Weight::keep({}, Compute::kF32), Error);
  EXPECT_THROW(Weight::keep(one(lent(Tensor::zeros<float>({5}))), Compute::kF32), Error);
  EXPECT_THROW(Weight::keep(one(lent(Tensor::zeros<std::int32_t>({5, 3}))), Compute::kF32), Error);
  std::vector<Tensor> parts = one(lent(Tensor::zeros<float>({5, 3})));
  parts.push_back(lent(Tensor::zeros<float>({5, 4})));
  EXPECT_THROW(Weight::keep(std::move(parts), Compute::kF32), Error);
  const std::vector<std::int64_t> outside = {5};
  EXPECT_THROW(Weight::keep_rows(lent(Tensor::zeros<float>({5, 3})), outside, Compute::kF32),
               Error);
  // Nothing to read is no error.
  const Weight none = Weight::keep(one(lent(Tensor::zeros<float>({4, 0}))), Compute::kF32);
  Matrix y = Matrix::random(2, 4);
  linear(Matrix(2, 0).view(), none, std::vector<float>{1, 2, 3, 4}, y.view());
  EXPECT_EQ(y(1, 2), 3.0F);
}

}  // namespace
}  // namespace drrik
