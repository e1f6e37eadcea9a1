// The plug-in's entry.

#include "data/arrow/plugin.h"

#include <arrow/util/config.h>

#include "data/arrow/batched_file.h"

namespace drrik {
namespace {

std::unique_ptr<ColumnarFile> open(std::unique_ptr<ColumnarInput> input, ColumnarFormat format,
                                   const ColumnarOptions& options) {
  switch (format) {
    case ColumnarFormat::kParquet:
      return open_parquet(std::move(input), options);
    case ColumnarFormat::kArrowFile:
      return open_arrow_file(std::move(input), options);
    case ColumnarFormat::kArrowStream:
      break;
  }
  return open_arrow_stream(std::move(input), options);
}

std::unique_ptr<ColumnarFile> open_stream(std::unique_ptr<ByteStream> stream,
                                          const ColumnarOptions& options) {
  return open_arrow_stream(std::move(stream), options);
}

}  // namespace
}  // namespace drrik

extern "C" const drrik::ColumnarPlugin* drrik_arrow_plugin() {
  static constexpr drrik::ColumnarPlugin kPlugin = {DRRIK_VERSION, ARROW_VERSION_STRING,
                                                    drrik::open, drrik::open_stream};
  return &kPlugin;
}
