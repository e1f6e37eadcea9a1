// drrik convert: an autoencoder in another program's format, and features as a control vector.

#include <stdlib.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "activations/nonfinite.h"
#include "cli.h"
#include "drrik/activations/row_source.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/interrupt.h"
#include "drrik/base/log.h"
#include "drrik/base/rng.h"
#include "drrik/sae/control_vector.h"
#include "drrik/sae/io.h"
#include "drrik/sae/parity.h"

namespace drrik::cli {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string from;
  std::string to;
  std::string output;
  std::string activations;
  std::string targets;
  std::vector<std::int64_t> features;
  std::vector<double> strengths;
  std::optional<std::int64_t> layer;
  std::string model_hint;
};

constexpr std::int64_t kBlock = 1024;

// Rows of a folder or file, block by block.
class StoredRows {
 public:
  StoredRows(const std::string& path, std::int64_t width, const char* who)
      : source_(open_row_source(path)), buffer_(DType::kF32, {kBlock, width}) {
    if (source_->dim() != width) {
      throw_data("'", path, "' is ", source_->dim(), " wide, the autoencoder ", who, " ", width);
    }
  }
  std::int64_t rows() const { return source_->rows(); }
  RowBlocks blocks() {
    return [this]() -> MatView<const float> {
      check_interrupt("comparing");
      const std::int64_t n = std::min(kBlock, source_->rows() - next_);
      if (n <= 0) return {};
      const auto block = buffer_.mutable_mat<float>().rows_range(0, n);
      source_->read(next_, block);
      detail::refuse_nonfinite(block, next_);
      next_ += n;
      return block;
    };
  }

 private:
  std::unique_ptr<RowSource> source_;
  std::int64_t next_ = 0;
  Tensor buffer_;
};

// Without --activations: normal rows of the size that the decoder's bias and directions have, which
// show a difference in the weights but no FVU worth the name.
Tensor random_rows(const SparseCoder& coder, std::uint64_t seed) {
  constexpr std::int64_t kRandom = 256;
  Tensor out(DType::kF32, {kRandom, coder.d_in()});
  Rng rng(seed);
  const auto rows = out.mutable_mat<float>();
  const bool centred = coder.d_out() == coder.d_in();
  for (std::int64_t r = 0; r < kRandom; ++r) {
    for (std::int64_t c = 0; c < coder.d_in(); ++c) {
      rows(r, c) = rng.normal() + (centred ? coder.b_dec()[static_cast<std::size_t>(c)] : 0.0F);
    }
  }
  return out;
}

SaeParity compare(const Globals& globals, const Flags& flags, const SparseCoder& coder,
                  const Sae& back) {
  if (flags.activations.empty()) {
    const Tensor rows = random_rows(coder, globals.seed());
    return compare_saes(coder, back, blocks_of(rows.mat<float>()));
  }
  StoredRows rows(flags.activations, coder.d_in(), "takes");
  if (flags.targets.empty()) return compare_saes(coder, back, rows.blocks());
  StoredRows targets(flags.targets, coder.d_out(), "gives");
  if (targets.rows() != rows.rows()) {
    throw_data("'", flags.targets, "' has ", targets.rows(), " rows, '", flags.activations, "' ",
               rows.rows(), "; they must be of the same tokens");
  }
  return compare_saes(coder, back, rows.blocks(), targets.blocks());
}

// A new folder beside what is to be written: on the same file system, so that renaming into place
// is one step, and gone with all that is in it when the conversion fails.
class Staging {
 public:
  explicit Staging(const fs::path& output) {
    const fs::path parent = output.has_parent_path() ? output.parent_path() : fs::path(".");
    create_folders(parent);
    std::string name = (parent / ".drrik-convert-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      throw_io("cannot make a folder in '", parent.string(), "'");
    folder_ = name;
  }
  ~Staging() {
    std::error_code error;
    fs::remove_all(folder_, error);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  fs::path path(const fs::path& output) const { return folder_ / output.filename(); }
  /// Moves what was written to `output`; a folder that is there keeps its other files.
  void settle(const fs::path& output) const {
    const fs::path made = path(output);
    std::error_code error;
    if (fs::is_directory(made) && fs::is_directory(output)) {
      for (const auto& entry : fs::directory_iterator(made)) {
        fs::rename(entry.path(), output / entry.path().filename(), error);
        if (error) break;
      }
    } else {
      fs::rename(made, output, error);
    }
    if (error) throw_io("cannot write '", output.string(), "': ", error.message());
  }

 private:
  fs::path folder_;
};

// "sae/" names the folder "sae".
fs::path without_slash(const std::string& path) {
  const fs::path out = fs::path(path).lexically_normal();
  return out.has_filename() ? out : out.parent_path();
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

void convert(const Globals& globals, const Flags& flags) {
  SaeRecord record;
  const SparseCoder coder = load_sparse_coder(flags.from, &record);
  const fs::path output = without_slash(flags.output);
  const Staging staging(output);
  SavedSae saved = save_sae_as(coder, record, flags.to, staging.path(output));
  // What counts is what the file says, not what we meant to write.
  const auto back = load_sae(saved.path);
  const SaeParity parity = compare(globals, flags, coder, *back);
  // Sums in another order: a few rounding errors of float32 an element, and no more.
  constexpr double kTolerance = 1e-3;
  if (parity.relative_difference > kTolerance) {
    throw_data("'", flags.from, "' as ", flags.to, " would not do what it does: its ",
               "reconstructions differ by ", parity.relative_difference,
               " of their norm; nothing was written");
  }
  saved.path = output / saved.path.lexically_relative(staging.path(output));
  saved.path = without_slash(saved.path.string());
  staging.settle(output);
  const bool given = !flags.activations.empty();
  Json json = {{"output", saved.path.string()},
               {"format", flags.to},
               {"architecture_before", coder.architecture()},
               {"architecture_after", back->architecture()},
               {"folded", saved.folded},
               {"rows", parity.rows},
               {"activations", given ? Json(flags.activations) : Json(nullptr)},
               {"targets", flags.targets.empty() ? Json(nullptr) : Json(flags.targets)},
               {"max_difference", parity.max_difference},
               {"relative_difference", parity.relative_difference},
               {"max_feature_difference", parity.max_feature_difference},
               {"feature_agreement", parity.feature_agreement},
               {"l0_before", parity.l0_before},
               {"l0_after", parity.l0_after}};
  json["fvu_before"] = given ? number_or_null(parity.fvu_before) : Json(nullptr);
  json["fvu_after"] = given ? number_or_null(parity.fvu_after) : Json(nullptr);
  std::string text = str(saved.path.string(), ": ", coder.architecture(), " as ", flags.to, "\n");
  for (const std::string& line : saved.folded) text += str("  folded: ", line, "\n");
  char line[256];
  std::snprintf(line, sizeof line,
                "  on %lld %s rows: reconstructions differ by at most %.3g (%.2g of their norm),\n"
                "  %.6g %% of active features agree, their values differ by at most %.3g\n",
                static_cast<long long>(parity.rows), given ? "given" : "random",
                parity.max_difference, parity.relative_difference, 100.0 * parity.feature_agreement,
                parity.max_feature_difference);
  text += line;
  if (given && std::isfinite(parity.fvu_before)) {
    std::snprintf(line, sizeof line, "  FVU %.6g before, %.6g after; L0 %.4g before, %.4g after\n",
                  parity.fvu_before, parity.fvu_after, parity.l0_before, parity.l0_after);
    text += line;
  }
  emit(globals, json, text);
}

void control_vector(const Globals& globals, const Flags& flags) {
  if (!flags.activations.empty()) throw_usage("--activations has no part in a control vector");
  if (!flags.targets.empty()) throw_usage("--targets has no part in a control vector");
  if (!flags.to.empty() && flags.to != "gguf") {
    throw_usage("--feature makes a control vector, --to gguf; got --to ", flags.to);
  }
  if (!flags.strengths.empty() && flags.strengths.size() != flags.features.size()) {
    throw_usage(flags.features.size(), " features and ", flags.strengths.size(), " strengths");
  }
  const LoadedSae loaded = load_sae_with_record(flags.from);
  std::vector<SteeredFeature> features;
  Json list = Json::array();
  for (std::size_t i = 0; i < flags.features.size(); ++i) {
    const double strength = flags.strengths.empty() ? 1.0 : flags.strengths[i];
    features.push_back({flags.features[i], strength});
    list.push_back({{"feature", flags.features[i]}, {"strength", strength}});
  }
  const std::vector<float> direction = sum_directions(*loaded.sae, features);
  const std::int64_t layer = flags.layer ? *flags.layer : control_layer(loaded.record);
  write_control_vector(direction, layer, flags.model_hint, flags.output);
  emit(globals,
       {{"output", flags.output},
        {"format", "gguf"},
        {"layer", layer},
        {"width", direction.size()},
        {"features", list}},
       str(flags.output, ": direction.", layer, ", ", direction.size(),
           " wide; llama-cli -m MODEL ", "--control-vector ", flags.output));
}

void run(const Globals& globals, const Flags& flags) {
  if (flags.from.empty()) throw_usage("no autoencoder given; --from names it");
  if (!flags.features.empty() || flags.to == "gguf") {
    if (flags.features.empty()) throw_usage("--to gguf needs --feature: which ones to add");
    return control_vector(globals, flags);
  }
  if (!flags.strengths.empty() || flags.layer || !flags.model_hint.empty()) {
    throw_usage(
        "--strength, --layer and --model-hint belong to a control vector; --feature makes one");
  }
  if (flags.to.empty()) {
    throw_usage("no format given; --to names it, or --feature makes a control vector");
  }
  if (!flags.targets.empty() && flags.activations.empty()) {
    throw_usage("--targets are of the tokens of --activations, which names no rows");
  }
  convert(globals, flags);
}

std::string format_names() {
  std::vector<std::string> names;
  for (const SaeFormatInfo& format : sae_formats()) {
    if (format.written) names.push_back(format.name);
  }
  names.emplace_back("gguf");
  return join(names);
}

}  // namespace

Command convert_command() {
  return {
      "convert", "Convert an autoencoder to another program's format, or features to GGUF",
      "  drrik convert --from gemma-scope/layer_20/width_16k/average_l0_71 --to saelens --output "
      "sae --activations acts.npy\n"
      "  drrik convert --sae sae --feature 12 --strength 4 --output vector.gguf\n",
      [](CLI::App& app, Globals& globals) -> std::function<void()> {
        auto flags = std::make_shared<Flags>();
        app.add_option("--from,--sae", flags->from,
                       "Autoencoder: a folder or file of any format that is read")
            ->type_name("PATH");
        app.add_option("--to", flags->to, "Format: " + format_names())->type_name("FORMAT");
        app.add_option("--output", flags->output, "Folder or file to write")
            ->required()
            ->type_name("PATH");
        app.add_option("--activations", flags->activations,
                       "Activation folder or .npy file to compare on (default: random rows)");
        app.add_option("--targets", flags->targets,
                       "Transcoder: activations of the same tokens that it is to reconstruct")
            ->type_name("PATH");
        app.add_option("--feature", flags->features, "Feature to steer with (repeatable)");
        app.add_option("--strength", flags->strengths, "Its strength (default 1)");
        app.add_option("--layer", flags->layer,
                       "Block behind which llama.cpp adds the vector (default: by the hook)");
        app.add_option("--model-hint", flags->model_hint,
                       "llama.cpp's name of the model's architecture, as llama");
        return [&globals, flags] { run(globals, *flags); };
      }};
}

}  // namespace drrik::cli
