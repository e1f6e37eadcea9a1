#include "data/arrow/input.h"

#include <arrow/buffer.h>
#include <arrow/io/memory.h>
#include <arrow/result.h>

#include <algorithm>

namespace drrik {
namespace {

using arrow::Result;
using arrow::Status;

constexpr std::int64_t kStep = std::int64_t{1} << 20;

class RandomAccess final : public arrow::io::RandomAccessFile {
 public:
  RandomAccess(ColumnarInput& input, Thrown& thrown, arrow::MemoryPool* pool)
      : input_(input), thrown_(thrown), pool_(pool) {}

  Status Close() override {
    closed_ = true;
    return Status::OK();
  }
  bool closed() const override { return closed_; }
  Result<std::int64_t> Tell() const override { return at_; }
  Status Seek(std::int64_t position) override {
    if (position < 0) return Status::Invalid("a negative position");
    at_ = position;
    return Status::OK();
  }
  Result<std::int64_t> GetSize() override { return static_cast<std::int64_t>(input_.size()); }

  using arrow::io::RandomAccessFile::ReadAt;
  Result<std::int64_t> ReadAt(std::int64_t position, std::int64_t size, void* out) override {
    if (position < 0 || size < 0) return Status::Invalid("a negative position or size");
    std::int64_t done = 0;
    ARROW_RETURN_NOT_OK(thrown_.keep([&] {
      done = static_cast<std::int64_t>(
          input_.read_at(static_cast<std::uint64_t>(position),
                         std::span(static_cast<char*>(out), static_cast<std::size_t>(size))));
      return Status::OK();
    }));
    return done;
  }
  Result<std::shared_ptr<arrow::Buffer>> ReadAt(std::int64_t position, std::int64_t size) override {
    const auto all = static_cast<std::int64_t>(input_.size());
    if (position < 0 || size < 0) return Status::Invalid("a negative position or size");
    const std::int64_t there = std::min(size, std::max<std::int64_t>(all - position, 0));
    ARROW_ASSIGN_OR_RAISE(auto buffer, arrow::AllocateResizableBuffer(there, pool_));
    ARROW_ASSIGN_OR_RAISE(const std::int64_t done, ReadAt(position, there, buffer->mutable_data()));
    ARROW_RETURN_NOT_OK(buffer->Resize(done));
    return std::shared_ptr<arrow::Buffer>(std::move(buffer));
  }
  Result<std::int64_t> Read(std::int64_t size, void* out) override {
    ARROW_ASSIGN_OR_RAISE(const std::int64_t done, ReadAt(at_, size, out));
    at_ += done;
    return done;
  }
  Result<std::shared_ptr<arrow::Buffer>> Read(std::int64_t size) override {
    ARROW_ASSIGN_OR_RAISE(auto buffer, ReadAt(at_, size));
    at_ += buffer->size();
    return buffer;
  }

 private:
  ColumnarInput& input_;
  Thrown& thrown_;
  arrow::MemoryPool* pool_;
  std::int64_t at_ = 0;
  bool closed_ = false;
};

class Sequential final : public arrow::io::InputStream {
 public:
  Sequential(ByteStream& stream, Thrown& thrown, arrow::MemoryPool* pool)
      : stream_(stream), thrown_(thrown), pool_(pool) {}

  Status Close() override {
    closed_ = true;
    return Status::OK();
  }
  bool closed() const override { return closed_; }
  Result<std::int64_t> Tell() const override { return at_; }
  Result<std::int64_t> Read(std::int64_t size, void* out) override {
    std::int64_t done = 0;
    ARROW_RETURN_NOT_OK(thrown_.keep([&] {
      while (done < size) {
        const std::size_t n = stream_.read(
            std::span(static_cast<char*>(out) + done, static_cast<std::size_t>(size - done)));
        if (n == 0) break;
        done += static_cast<std::int64_t>(n);
      }
      return Status::OK();
    }));
    at_ += done;
    return done;
  }
  Result<std::shared_ptr<arrow::Buffer>> Read(std::int64_t size) override {
    if (size < 0) return Status::Invalid("a negative size");
    // The size is the file's claim: the buffer grows with what is really there.
    std::int64_t room = std::min(size, kStep);
    ARROW_ASSIGN_OR_RAISE(auto buffer, arrow::AllocateResizableBuffer(room, pool_));
    std::int64_t have = 0;
    for (;;) {
      ARROW_ASSIGN_OR_RAISE(const std::int64_t done,
                            Read(room - have, buffer->mutable_data() + have));
      have += done;
      if (have < room || room == size) break;
      room = size - room < room ? size : 2 * room;
      ARROW_RETURN_NOT_OK(buffer->Resize(room, /*shrink_to_fit=*/false));
    }
    ARROW_RETURN_NOT_OK(buffer->Resize(have));
    return std::shared_ptr<arrow::Buffer>(std::move(buffer));
  }

 private:
  ByteStream& stream_;
  Thrown& thrown_;
  arrow::MemoryPool* pool_;
  std::int64_t at_ = 0;
  bool closed_ = false;
};

}  // namespace

std::shared_ptr<arrow::io::RandomAccessFile> make_random_access(ColumnarInput& input,
                                                                Thrown& thrown,
                                                                arrow::MemoryPool* pool) {
  if (input.memory() != nullptr) {
    // Slices of what is there: nothing is copied, and columns not asked for are never touched.
    return std::make_shared<arrow::io::BufferReader>(
        std::make_shared<arrow::Buffer>(reinterpret_cast<const std::uint8_t*>(input.memory()),
                                        static_cast<std::int64_t>(input.size())));
  }
  return std::make_shared<RandomAccess>(input, thrown, pool);
}

std::shared_ptr<arrow::io::InputStream> make_stream(ByteStream& stream, Thrown& thrown,
                                                    arrow::MemoryPool* pool) {
  return std::make_shared<Sequential>(stream, thrown, pool);
}

}  // namespace drrik
