// drrik decode: reconstructions from dense features, block by block.

#include <memory>

#include "activations/nonfinite.h"
#include "cli.h"
#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/base/interrupt.h"
#include "drrik/io/npy.h"
#include "drrik/sae/io.h"

namespace drrik::cli {
namespace {

void run(const Globals& globals, const std::string& path, const std::string& features,
         const std::string& output) {
  const auto sae = load_sae(path);
  const auto rows = open_row_source(features);
  if (rows->dim() != sae->d_sae()) {
    throw_data("'", features, "' is ", rows->dim(), " wide, the autoencoder has ", sae->d_sae(),
               " latents");
  }
  constexpr std::int64_t kBlock = 1024;
  NpyWriter writer(output, DType::kF32, {sae->d_out()}, rows->rows());
  Tensor f(DType::kF32, {kBlock, sae->d_sae()});
  Tensor x(DType::kF32, {kBlock, sae->d_out()});
  for (std::int64_t begin = 0; begin < rows->rows(); begin += kBlock) {
    check_interrupt("decoding");
    const std::int64_t n = std::min(kBlock, rows->rows() - begin);
    const auto block = f.mutable_mat<float>().rows_range(0, n);
    const auto decoded = x.mutable_mat<float>().rows_range(0, n);
    rows->read(begin, block);
    detail::refuse_nonfinite(block, begin);
    sae->decode(MatView<const float>(block), decoded);
    writer.append_rows(decoded);
  }
  writer.commit();
  emit(globals, {{"output", output}, {"shape", {rows->rows(), sae->d_out()}}},
       str(output, ": float32 [", rows->rows(), ", ", sae->d_out(), "]"));
}

}  // namespace

Command decode_command() {
  return {
      "decode", "Write the activations that features stand for to a .npy file",
      "  drrik decode --sae sae --features features.npy --output reconstruction.npy\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto sae = std::make_shared<std::string>();
        auto features = std::make_shared<std::string>();
        auto output = std::make_shared<std::string>();
        app.add_option("--sae", *sae, "Autoencoder: a folder or a .pt file")->required();
        app.add_option("--features", *features, "float32 [n, d_sae] .npy file")->required();
        app.add_option("--output", *output, "float32 [n, d_out]")->required()->type_name("FILE");
        return [&globals, sae, features, output] { run(globals, *sae, *features, *output); };
      }};
}

}  // namespace drrik::cli
