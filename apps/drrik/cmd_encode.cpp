// drrik encode: dense features of activations, block by block.

#include <memory>

#include "activations/nonfinite.h"
#include "cli.h"
#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/progress.h"
#include "drrik/io/npy.h"
#include "drrik/sae/io.h"

namespace drrik::cli {
namespace {

void run(const Globals& globals, const std::string& path, const std::string& activations,
         const std::string& output) {
  const auto sae = load_sae(path);
  const auto rows = open_row_source(activations);
  if (rows->dim() != sae->d_in()) {
    throw_data("'", activations, "' is ", rows->dim(), " wide, the autoencoder takes ",
               sae->d_in());
  }
  constexpr std::int64_t kBlock = 1024;
  NpyWriter writer(output, DType::kF32, {sae->d_sae()}, rows->rows());
  Tensor x(DType::kF32, {kBlock, sae->d_in()});
  Tensor f(DType::kF32, {kBlock, sae->d_sae()});
  Progress progress("Encoding", rows->rows(), "rows");
  for (std::int64_t begin = 0; begin < rows->rows(); begin += kBlock) {
    check_interrupt("encoding");
    const std::int64_t n = std::min(kBlock, rows->rows() - begin);
    const auto block = x.mutable_mat<float>().rows_range(0, n);
    const auto features = f.mutable_mat<float>().rows_range(0, n);
    rows->read(begin, block);
    detail::refuse_nonfinite(block, begin);
    sae->encode(block, features);
    writer.append_rows(features);
    progress.advance(n);
  }
  writer.commit();
  emit(globals, {{"output", output}, {"shape", {rows->rows(), sae->d_sae()}}},
       str(output, ": float32 [", rows->rows(), ", ", sae->d_sae(), "]"));
}

}  // namespace

Command encode_command() {
  return {
      "encode", "Write the features of activations to a .npy file",
      "  drrik encode --sae sae --activations acts/activations.npy --output features.npy\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto sae = std::make_shared<std::string>();
        auto activations = std::make_shared<std::string>();
        auto output = std::make_shared<std::string>();
        app.add_option("--sae", *sae, "Autoencoder: a folder or a .pt file")->required();
        app.add_option("--activations", *activations, "Activation folder or .npy file")->required();
        app.add_option("--output", *output, "float32 [n, d_sae]")->required()->type_name("FILE");
        return [&globals, sae, activations, output] { run(globals, *sae, *activations, *output); };
      }};
}

}  // namespace drrik::cli
