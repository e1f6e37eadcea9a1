#pragma once
// The library's inputs as Arrow's files and streams.

#include <arrow/io/interfaces.h>
#include <arrow/memory_pool.h>

#include <exception>
#include <memory>

#include "data/arrow/plugin.h"

namespace drrik {

/// An exception of the input on its way through Arrow, which knows statuses only.
class Thrown {
 public:
  template <typename F>
  arrow::Status keep(F&& f) {
    try {
      return f();
    } catch (...) {
      error_ = std::current_exception();
      return arrow::Status::IOError("the input failed");
    }
  }
  /// Runs f; when it fails because the input threw, throws that.
  template <typename F>
  auto unwrap(F&& f) {
    try {
      return f();
    } catch (...) {
      if (error_ != nullptr) std::rethrow_exception(error_);
      throw;
    }
  }

 private:
  std::exception_ptr error_;
};

/// What they are given must outlive them. Whatever size is asked for, they allocate no more than
/// the file has.
std::shared_ptr<arrow::io::RandomAccessFile> make_random_access(ColumnarInput& input,
                                                                Thrown& thrown,
                                                                arrow::MemoryPool* pool);
std::shared_ptr<arrow::io::InputStream> make_stream(ByteStream& stream, Thrown& thrown,
                                                    arrow::MemoryPool* pool);

}  // namespace drrik
