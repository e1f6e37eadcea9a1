#include "drrik/tensor/tensor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>

namespace drrik {
namespace {

TEST(Tensor, OwnsZeroesAndGivesTypedViews) {
  auto t = Tensor::zeros<float>({2, 3});
  EXPECT_EQ(t.elements(), 6);
  EXPECT_EQ(t.bytes(), 24U);
  auto m = t.mutable_mat<float>();
  m(1, 2) = 5;
  EXPECT_EQ(t.data<float>()[5], 5.0F);
  EXPECT_EQ(t.clone().mat<float>()(1, 2), 5.0F);
  EXPECT_THROW(static_cast<void>(t.data<double>()), Error);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.raw()) % 64, 0U);
}

TEST(Tensor, RefusesShapesThatOverflowOrGoNegative) {
  EXPECT_THROW(Tensor(DType::kF32, {-1}), Error);
  EXPECT_THROW(Tensor(DType::kF32, {std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
  EXPECT_THROW(Tensor(DType::kF32, {std::numeric_limits<std::int64_t>::max()}), Error);
  EXPECT_EQ(Tensor(DType::kF32, {0, 5}).elements(), 0);
}

TEST(Tensor, ConvertsBetweenFloats) {
  const float values[] = {1.0F, -2.5F, 3.140625F, 0.0F};
  const auto t = Tensor::from(std::span<const float>(values), {4});
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const auto back = t.to(dtype).to(DType::kF32);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(back.data<float>()[i], values[i]);
  }
  EXPECT_THROW(t.to(DType::kI64), Error);
}

TEST(Tensor, ReadsEightBitFloats) {
  // 0x38 is 1.0 in E4M3 and 0.5 in E5M2; 0x7F is NaN in E4M3.
  const std::byte bits[] = {std::byte{0x38}, std::byte{0xB8}, std::byte{0x7F}, std::byte{0x01}};
  float out[4];
  convert_to_float(bits, DType::kF8E4M3, 4, out);
  EXPECT_EQ(out[0], 1.0F);
  EXPECT_EQ(out[1], -1.0F);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_EQ(out[3], 0x1p-9F);
  convert_to_float(bits, DType::kF8E5M2, 1, out);
  EXPECT_EQ(out[0], 0.5F);
}

TEST(Tensor, BorrowsFromAFileAndIsReadOnly) {
  const auto path =
      std::filesystem::temp_directory_path() / ("drrik-tensor-test-" + std::to_string(getpid()));
  const float values[] = {1, 2, 3, 4};
  write_file_atomic(path, std::as_bytes(std::span(values)));
  auto t = Tensor::borrow(MappedFile::open(path), 4, DType::kF32, {3});
  std::filesystem::remove(path);
  EXPECT_TRUE(t.borrowed());
  EXPECT_EQ(t.data<float>()[0], 2.0F);
  t.drop_pages();
  EXPECT_EQ(t.data<float>()[2], 4.0F);
  EXPECT_THROW(t.mutable_data<float>(), Error);
  const auto file = std::move(t);
  EXPECT_EQ(file.elements(), 3);
}

TEST(Tensor, SharesAnothersBytesReadOnly) {
  const float values[] = {1, 2};
  auto owner = std::make_shared<const Tensor>(Tensor::from(std::span<const float>(values), {2}));
  Tensor view = Tensor::share(owner);
  EXPECT_EQ(view.raw(), owner->raw());
  owner.reset();
  EXPECT_EQ(view.data<float>()[1], 2.0F);
  EXPECT_EQ(view.mutable_raw(), nullptr);
  EXPECT_THROW(view.mutable_data<float>(), Error);
  view.prefetch();  // nothing to do, and no harm
  view.drop_pages();
  EXPECT_EQ(view.clone().data<float>()[0], 1.0F);
}

TEST(Tensor, BorrowPastTheEndNamesTheFile) {
  const auto path =
      std::filesystem::temp_directory_path() / ("drrik-tensor-test2-" + std::to_string(getpid()));
  write_file_atomic(path, std::string(16, 'x'));
  const auto file = MappedFile::open(path);
  std::filesystem::remove(path);
  EXPECT_THROW(Tensor::borrow(file, 4, DType::kF32, {4}), Error);
  EXPECT_THROW(Tensor::borrow(file, ~std::size_t{0}, DType::kF32, {1}), Error);
  EXPECT_NO_THROW(Tensor::borrow(file, 16, DType::kF32, {0}));
}

TEST(MatView, RowsAndColumnsKeepTheStride) {
  float data[12];
  for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i);
  const MatView<float> m(data, 3, 4);
  EXPECT_EQ(m.rows_range(1, 2)(1, 3), 11.0F);
  const MatView<const float> c = m.cols_range(2, 2);
  EXPECT_EQ(c(2, 0), 10.0F);
  EXPECT_FALSE(c.contiguous());
}

}  // namespace
}  // namespace drrik
