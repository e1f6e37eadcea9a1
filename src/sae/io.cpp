#include "drrik/sae/io.h"

#include <algorithm>
#include <utility>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/ops/convert.h"
#include "sae/format.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;

const SaeFormat* find_folder_format(const fs::path& folder) {
  for (const auto& format : sae_format_table()) {
    if (format->is_folder(folder)) return format.get();
  }
  return nullptr;
}

LoadedSae load_any(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    const SaeFormat* format = find_folder_format(path);
    if (format != nullptr) return format->read_folder(path);
    throw_data(
        "no SAE in this folder; wanted cfg.json with sae_weights.safetensors (SAELens's layout), "
        "or "
        "one of the other formats' files (docs/formats/sae.md)");
  }
  if (!fs::exists(path, error)) throw_io("no such file or folder");
  // Weights that lie beside their configuration mean what it says.
  const fs::path folder = path.parent_path();
  if (path.filename() == "sae_weights.safetensors" || path.filename() == "sae.safetensors") {
    const SaeFormat* format = find_folder_format(folder);
    if (format != nullptr) return format->read_folder(folder);
  }
  const TensorFile file = read_tensor_file(path);
  for (const auto& format : sae_format_table()) {
    if (format->fits(file)) return format->read_file(file);
  }
  throw_data("not an SAE that drrik reads");
}

std::string ending(const fs::path& path) { return path.extension().string(); }

bool is_tensor_file(const fs::path& path) {
  for (const char* known : {".pt", ".pth", ".bin", ".safetensors", ".npz"}) {
    if (ending(path) == known) return true;
  }
  return false;
}

}  // namespace

LoadedSae load_sae_with_record(const fs::path& path) {
  try {
    LoadedSae loaded = load_any(path);
    if (const auto* coder = dynamic_cast<const SparseCoder*>(loaded.sae.get())) {
      const RowNormalization rows = coder->config().row_normalization;
      if (rows == RowNormalization::kLayerNorm) loaded.record.normalize_activations = "layer_norm";
      if (rows == RowNormalization::kConstantNorm) {
        loaded.record.normalize_activations = "constant_norm_rescale";
      }
    }
    return loaded;
  } catch (Error& error) {
    if (std::string_view(error.what()).find(path.string()) == std::string_view::npos) {
      error.add_context(path.string());
    }
    throw;
  }
}

std::unique_ptr<Sae> load_sae(const fs::path& path) { return load_sae_with_record(path).sae; }

std::unique_ptr<ReluSae> load_relu_sae(const fs::path& path, SaeRecord* record) {
  LoadedSae loaded = load_sae_with_record(path);
  if (record != nullptr) *record = std::move(loaded.record);
  if (auto* relu = dynamic_cast<ReluSae*>(loaded.sae.get())) {
    (void)loaded.sae.release();  // it is relu
    return std::unique_ptr<ReluSae>(relu);
  }
  try {
    return std::make_unique<ReluSae>(relu_from_coder(to_sparse_coder(*loaded.sae)));
  } catch (Error& error) {
    throw error.add_context(path.string());
  }
}

SparseCoder load_sparse_coder(const fs::path& path, SaeRecord* record) {
  LoadedSae loaded = load_sae_with_record(path);
  if (record != nullptr) *record = std::move(loaded.record);
  if (auto* coder = dynamic_cast<SparseCoder*>(loaded.sae.get())) return std::move(*coder);
  return to_sparse_coder(*loaded.sae);
}

SparseCoder to_sparse_coder(const Sae& sae) {
  if (const auto* coder = dynamic_cast<const SparseCoder*>(&sae)) return coder->clone();
  const auto* relu = dynamic_cast<const ReluSae*>(&sae);
  if (relu == nullptr) {
    throw_usage("a '", sae.architecture(), "' autoencoder of another kind cannot be converted");
  }
  SparseCoderConfig config;
  config.architecture = "standard";
  config.d_in = relu->d_in();
  config.d_sae = relu->d_sae();
  SparseCoder coder(config);
  copy(relu->encoder(), coder.encoder());
  copy(relu->decoder(), coder.decoder());
  std::ranges::copy(relu->encoder_bias(), coder.b_enc().begin());
  std::ranges::copy(relu->bias(), coder.b_dec().begin());
  return coder;
}

bool is_sae_path(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return find_folder_format(path) != nullptr;
  return fs::is_regular_file(path, error) && is_tensor_file(path);
}

std::vector<std::string> sae_architectures() { return {"relu"}; }

std::vector<SaeFormatInfo> sae_formats() {
  std::vector<SaeFormatInfo> out;
  for (const auto& format : sae_format_table()) {
    out.push_back(
        {std::string(format->name()), std::string(format->description()), format->writes()});
  }
  return out;
}

SavedSae save_sae_as(const SparseCoder& coder, const SaeRecord& record, std::string_view format,
                     const fs::path& path) {
  std::vector<std::string> known;
  for (const auto& candidate : sae_format_table()) {
    if (candidate->writes()) known.emplace_back(candidate->name());
    if (candidate->name() != format) continue;
    if (!candidate->writes()) throw_usage("format '", format, "' is read and not written");
    Expression expression(coder, candidate->name());
    candidate->express(expression);
    SavedSae saved;
    saved.path = path;
    saved.folded = expression.folded();
    const fs::path file(candidate->file_name());
    if (!file.empty()) {
      if (ending(path) != ending(file)) saved.path = path / file;
      create_folders(saved.path.has_parent_path() ? saved.path.parent_path() : fs::path("."));
    }
    candidate->write(expression.coder(), record, saved.path);
    return saved;
  }
  throw_usage("format '", format, "' is not known; known: ", join(known),
              did_you_mean(std::string(format), known));
}

}  // namespace drrik
