// A dashboard of the bundled model against what plain loops find in its files.

#include "drrik/viz/dashboard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "drrik/activations/extractor.h"
#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "drrik/base/rng.h"
#include "drrik/base/threads.h"
#include "drrik/io/safetensors.h"
#include "drrik/sae/sparse_coder.h"
#include "io/json.h"
#include "text/precompiled.h"
#include "viz/dashboard_data.h"
#include "viz/directions.h"
#include "viz/fixtures.h"
#include "viz/gzip.h"
#include "viz/script_json.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;

constexpr std::int64_t kFeatures = 96;

fs::path model_folder() { return fs::path(DRRIK_ASSETS_DIR) / "demo/model"; }

std::vector<std::string> texts() {
  std::vector<std::string> out;
  for (int i = 0; i < 40; ++i) {
    out.push_back(
        str("In the morning number ", i, " she came </script><!-- to the ", i % 7,
            " houses by the sea, and said: \"Ω≈ \xff\xfe \xe2\x80\xa8 & <b>nothing</b>\""));
  }
  return out;
}

DashboardInputs inputs(HookPoint point = HookPoint::kMlpOut) {
  static const auto model = std::make_shared<const Model>(Model::load(model_folder()));
  static const auto tokenizer =
      std::make_shared<const Tokenizer>(Tokenizer::from_folder(model_folder()));
  DashboardInputs in;
  in.model = model;
  in.tokenizer = tokenizer;
  in.hook = {point, 3};
  SparseCoderConfig config;
  config.d_in = model->hook_width(point);
  config.d_sae = kFeatures;
  config.k = 6;
  Rng rng(11);
  auto coder = SparseCoder::random(config, {}, rng);
  coder.b_enc()[5] = -1e6F;                                  // dead
  for (float& value : coder.decoder().row(7)) value = 0.0F;  // without a direction
  in.sae = std::make_shared<const SparseCoder>(std::move(coder));
  in.texts = texts();
  return in;
}

DashboardOptions options() {
  DashboardOptions wanted;
  wanted.dataset.pack = false;
  wanted.tokens = -1;
  wanted.examples.top = 5;
  wanted.lens_bins = 20;
  wanted.model_name = "demo/model";
  wanted.sae_name = "random";
  return wanted;
}

Json index_of(const fs::path& folder) {
  const std::string text = read_file(folder / "data/index.js");
  const std::size_t begin = text.find('(') + 1;
  return parse_json(text.substr(begin, text.rfind(')') - begin), "index.js");
}
Json chunk_of(const fs::path& folder, int number) {
  const std::string text = read_file(folder / str("data/features/", number, ".js"));
  const std::size_t begin = text.find(',') + 1;
  return parse_json(text.substr(begin, text.rfind(')') - begin), "chunk");
}

TEST(Dashboard, CountsWhatAnExtractionAndTheEncoderGive) {
  const DashboardInputs in = inputs();
  const Dashboard dashboard = Dashboard::make(in, options());

  ExtractorOptions extract;
  extract.model.model_name = model_folder().string();
  extract.dataset.dataset_name = "texts";
  extract.extraction.mlp_layers = {3};
  extract.extraction.positions = Positions::kAll;
  ActivationExtractor extractor(extract);
  extractor.use_model(in.model, in.tokenizer);
  extractor.use_texts(texts());
  const Activations all = extractor.extract();
  Tensor features = Tensor::zeros<float>({all.metadata.num_rows, kFeatures});
  in.sae->encode(all.activations.mat<float>(), features.mutable_mat<float>());
  std::vector<std::int64_t> active(kFeatures, 0);
  std::vector<float> max(kFeatures, 0.0F);
  std::int64_t rows = 0;
  std::int64_t row = 0;
  for (const SampleRecord& sample : all.metadata.samples) {
    for (const std::int32_t id : sample.input_ids) {
      const auto values = features.mat<float>().row(row++);
      if (in.tokenizer->is_special(id)) continue;
      ++rows;
      for (std::size_t f = 0; f < kFeatures; ++f) {
        active[f] += values[f] > 0.0F ? 1 : 0;
        max[f] = std::max(max[f], values[f]);
      }
    }
  }
  EXPECT_LT(rows, row);  // there are special ones
  EXPECT_EQ(dashboard.features().rows(), rows);
  for (std::int64_t f = 0; f < kFeatures; ++f) {
    // The batches are the extraction's, so inputs agree to the bit; the encoder's products are
    // formed over other numbers of rows and may differ by their rounding, 256 terms of it, which
    // moves a value by 256 · 2^-24 of the terms' sizes at worst and a token over the threshold
    // once in 1e5 or so.
    EXPECT_NEAR(static_cast<double>(dashboard.features().active(f)),
                static_cast<double>(active[static_cast<std::size_t>(f)]), 1.0)
        << f;
    EXPECT_NEAR(dashboard.features().max(f), max[static_cast<std::size_t>(f)],
                2e-5F * (1.0F + max[static_cast<std::size_t>(f)]));
  }
  EXPECT_EQ(dashboard.features().active(5), 0);
  double total = 0.0;
  for (const std::int64_t count : active) total += static_cast<double>(count);
  EXPECT_NEAR(dashboard.features().l0(), total / static_cast<double>(rows), 0.01);
  EXPECT_EQ(dashboard.metrics().rows, rows);
}

TEST(Dashboard, DoesNotDependOnTheNumberOfThreads) {
  const ScratchFolder one;
  const ScratchFolder two;
  const int threads = num_threads();
  const auto bytes = [&](int count, const fs::path& folder) {
    set_num_threads(count);
    Dashboard::make(inputs(), options()).write_folder(folder);
    return read_file(folder / "data/features/0.js") + read_file(folder / "data/features/1.js");
  };
  const std::string first = bytes(1, one.path());
  EXPECT_EQ(first, bytes(2, two.path()));
  set_num_threads(threads);
  Json a = index_of(one.path());
  Json b = index_of(two.path());
  a.erase("created");
  b.erase("created");
  EXPECT_EQ(a.dump(), b.dump());
}

// [rows, cols] of a tensor in the model's file as doubles.
std::vector<double> stored(const std::string& name) {
  const auto file = SafetensorsFile::open(model_folder() / "model.safetensors");
  const Tensor wide = file.get(name).to(DType::kF32);
  const auto values = wide.data<float>();
  return {values.begin(), values.end()};
}

TEST(Dashboard, LensIsTheFinalNormTimesTheUnembedding) {
  const DashboardInputs in = inputs();
  const auto embedding = stored("model.embed_tokens.weight");
  const auto norm = stored("model.norm.weight");
  const std::size_t d = norm.size();
  const std::size_t vocabulary = embedding.size() / d;
  const Tensor directions = detail::decoder_directions(*in.sae);
  std::string why;
  const auto lens = detail::logit_lens(*in.model, in.hook, directions.mat<float>(), 6, 20, why);
  ASSERT_TRUE(lens);
  for (std::int64_t f = 0; f < kFeatures; f += 19) {
    const auto direction = directions.mat<float>().row(f);
    std::vector<double> logits(vocabulary, 0.0);
    double size = 0.0;
    for (std::size_t v = 0; v < vocabulary; ++v) {
      double terms = 0.0;
      for (std::size_t c = 0; c < d; ++c) {
        const double term = static_cast<double>(direction[c]) * norm[c] * embedding[v * d + c];
        logits[v] += term;
        terms += std::fabs(term);
      }
      size = std::max(size, terms);
    }
    // d products, each factor rounded once: (d + 2) 2^-24 of the sum of the terms' sizes.
    const double tolerance = (static_cast<double>(d) + 2.0) * std::ldexp(size, -24);
    std::vector<double> sorted = logits;
    std::ranges::sort(sorted, std::greater<>());
    const auto promoted = lens->promoted.of(f);
    const auto suppressed = lens->suppressed.of(f);
    ASSERT_EQ(promoted.size(), 6U);
    for (std::size_t i = 0; i < promoted.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(promoted[i].value),
                  logits[static_cast<std::size_t>(promoted[i].index)], tolerance);
      EXPECT_NEAR(static_cast<double>(promoted[i].value), sorted[i], tolerance);
      EXPECT_NEAR(static_cast<double>(suppressed[i].value), sorted[vocabulary - 1 - i], tolerance);
    }
    const auto& counts = lens->histograms[static_cast<std::size_t>(f)].counts;
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}),
              static_cast<std::int64_t>(vocabulary));
  }
}

TEST(Dashboard, NeuronsAreThoseThatWriteAlongTheDirection) {
  const DashboardInputs in = inputs();
  const auto down = stored("model.layers.3.mlp.down_proj.weight");  // [d_model, d_mlp]
  const auto d_mlp = static_cast<std::size_t>(in.model->config().d_mlp);
  const std::size_t d = down.size() / d_mlp;
  const Tensor directions = detail::decoder_directions(*in.sae);
  const auto neurons = detail::neurons_used(*in.model, in.hook, directions.mat<float>(), 4);
  for (std::int64_t f = 0; f < kFeatures; f += 17) {
    const auto direction = directions.mat<float>().row(f);
    std::vector<double> sizes;
    for (std::size_t n = 0; n < d_mlp; ++n) {
      double dot = 0.0;
      double a = 0.0;
      double b = 0.0;
      for (std::size_t c = 0; c < d; ++c) {
        const auto x = static_cast<double>(direction[c]);
        const double y = down[c * d_mlp + n];
        dot += x * y;
        a += x * x;
        b += y * y;
      }
      sizes.push_back(std::fabs(dot / std::sqrt(a * b)));
    }
    std::ranges::sort(sizes, std::greater<>());
    for (std::size_t i = 0; i < 4; ++i) {
      // Unit vectors of 256 entries in float32.
      EXPECT_NEAR(std::fabs(static_cast<double>(neurons.lists.of(f)[i].value)), sizes[i], 2e-5);
    }
  }
  // Of mlp_post: the decoder's entries themselves.
  const DashboardInputs post = inputs(HookPoint::kMlpPost);
  const Tensor rows = detail::decoder_directions(*post.sae);
  const auto used = detail::neurons_used(*post.model, post.hook, rows.mat<float>(), 1);
  const auto row = rows.mat<float>().row(3);
  const auto largest =
      std::ranges::max_element(row, [](float x, float y) { return std::fabs(x) < std::fabs(y); });
  EXPECT_EQ(used.lists.of(3)[0].index, largest - row.begin());
  EXPECT_EQ(used.lists.of(3)[0].value, *largest);
}

TEST(Dashboard, NearestFeaturesAndTheMapAreThoseOfPlainLoops) {
  const DashboardInputs in = inputs();
  Tensor directions = detail::decoder_directions(*in.sae);
  const auto rows = directions.mutable_mat<float>();
  detail::normalize_directions(rows, detail::direction_norms(rows));
  const auto nearest = detail::nearest_features(rows, 3);
  EXPECT_TRUE(nearest.of(7).empty());  // no direction
  const std::int64_t d = rows.cols();
  const auto dot = [&](std::int64_t a, std::int64_t b) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < d; ++c) {
      sum += static_cast<double>(rows(a, c)) * static_cast<double>(rows(b, c));
    }
    return sum;
  };
  for (std::int64_t f = 0; f < kFeatures; ++f) {
    if (f == 7) continue;
    std::vector<double> cosines;
    for (std::int64_t g = 0; g < kFeatures; ++g) {
      if (g != f && g != 7) cosines.push_back(dot(f, g));
    }
    std::ranges::sort(cosines, std::greater<>());
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(static_cast<double>(nearest.of(f)[i].value), cosines[i], 2e-5);
    }
  }

  // Rows along two known axes, and a little along a third.
  Rng rng(5);
  Tensor plane = Tensor::zeros<float>({500, 40});
  const auto p = plane.mutable_mat<float>();
  for (std::int64_t r = 0; r < 500; ++r) {
    p(r, 11) = 5.0F + 3.0F * rng.normal();
    p(r, 30) = -2.0F * rng.normal();
    p(r, 2) = 0.1F * rng.normal();
  }
  const detail::PlaneMap map = detail::principal_plane(p);
  double mean_x = 0.0;
  for (std::int64_t r = 0; r < 500; ++r) mean_x += static_cast<double>(p(r, 11)) / 500.0;
  for (std::int64_t r = 0; r < 500; ++r) {
    // Sampled axes lean towards each other by about 1/√500 of their sizes' ratio.
    EXPECT_NEAR(static_cast<double>(map.x[static_cast<std::size_t>(r)]),
                static_cast<double>(p(r, 11)) - mean_x, 1.5);
  }
  EXPECT_GT(map.explained[0], map.explained[1]);
  EXPECT_NEAR(map.explained[0] + map.explained[1], 1.0, 0.01);
  double xy = 0.0;
  double xx = 0.0;
  for (std::size_t r = 0; r < 500; ++r) {
    xy += static_cast<double>(map.x[r]) * static_cast<double>(map.y[r]);
    xx += static_cast<double>(map.x[r]) * static_cast<double>(map.x[r]);
  }
  EXPECT_NEAR(xy / xx, 0.0, 1e-5);  // components are uncorrelated
}

TEST(Dashboard, FolderAndFileHoldTheSame) {
  const ScratchFolder folder;
  Dashboard dashboard = Dashboard::make(inputs(), options());
  dashboard.set_labels({{3, "</script><script>alert(1)"}, {1000, "beyond"}});
  dashboard.write_folder(folder.path());
  dashboard.write_file(folder.path() / "all.html");
  const Json index = index_of(folder.path());
  EXPECT_EQ(index["format"], "drrik-dashboard");
  EXPECT_EQ(index["labels"], (Json{{"3", "</script><script>alert(1)"}}));
  EXPECT_EQ(index["fires_on"].size(), std::size_t{kFeatures});
  EXPECT_EQ(index["columns"]["density"].get<std::string>().size(),
            std::size_t{kFeatures} * 4 * 4 / 3);
  const Json chunk = chunk_of(folder.path(), 1);
  EXPECT_EQ(chunk.size(), std::size_t{kFeatures - 64});
  EXPECT_EQ(chunk[0]["feature"], 64);
  EXPECT_EQ(load_labels(folder.path() / "labels.json").size(), 2U);
  const Json dead = chunk_of(folder.path(), 0)[5];
  EXPECT_EQ(dead["active"], 0);
  EXPECT_TRUE(dead["groups"].empty());
  EXPECT_TRUE(dead["coactive"].empty());

  const std::string script = read_file(folder.path() / "data/index.js");
  EXPECT_EQ(script.find('<'), std::string::npos);
  EXPECT_EQ(read_file(folder.path() / "data/features/0.js").find('<'), std::string::npos);

  const std::string page = read_file(folder.path() / "all.html");
  const auto element = [&](const std::string& id) {
    const std::string open = "id=\"" + id + "\">";
    const std::size_t begin = page.find(open) + open.size();
    return parse_json(
        detail::gunzip(text::decode_base64(page.substr(begin, page.find('<', begin) - begin)),
                       1 << 28),
        id);
  };
  EXPECT_EQ(element("drrik-index").dump(), index.dump());
  EXPECT_EQ(element("drrik-chunk-1").dump(), chunk.dump());
}

TEST(Dashboard, ReplacesItsOwnDataAndNothingElse) {
  const ScratchFolder folder;
  const Dashboard dashboard = Dashboard::make(inputs(), options());
  dashboard.write_folder(folder.path());
  write_file_atomic(folder.path() / "data/features/stale.js", std::string_view("old"));
  dashboard.write_folder(folder.path());
  EXPECT_FALSE(fs::exists(folder.path() / "data/features/stale.js"));
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 2);  // index.html, data
  fs::remove_all(folder.path() / "data");
  write_file_atomic(folder.path() / "data/mine.txt", std::string_view("precious"));
  EXPECT_THROW(dashboard.write_folder(folder.path()), Error);
  EXPECT_EQ(read_file(folder.path() / "data/mine.txt"), "precious");
}

TEST(Dashboard, SaysWhatDoesNotFit) {
  DashboardInputs in = inputs();
  const auto fails = [](const DashboardInputs& with, const DashboardOptions& how,
                        const std::string& what) {
    try {
      static_cast<void>(Dashboard::make(with, how));
      ADD_FAILURE() << "wanted: " << what;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  DashboardOptions how = options();
  how.tokens = 0;
  fails(in, how, "tokens is 0");
  how = options();
  how.examples.before = -1;
  fails(in, how, "before is -1");
  in.hook.point = HookPoint::kMlpPost;
  fails(in, options(), "reads 256 numbers");
  in.hook = {HookPoint::kMlpOut, 6};
  fails(in, options(), "layer 6 does not exist");
  in = inputs();
  in.output = Hook{HookPoint::kMlpPost, 3};
  fails(in, options(), "writes 256 numbers");
  in = inputs();
  in.texts = std::vector<std::string>{"", ""};
  fails(in, options(), "no token");
}

TEST(ScriptJson, IsSafeInAScript) {
  std::string out;
  detail::append_json_string(out, "a</b>\"\\\x01\xe2\x80\xa8\xe2\x80\xa6\n");
  EXPECT_EQ(out, R"("a\u003c/b>\"\\\u0001\u2028…\n")");
  EXPECT_EQ(detail::script_safe("\"</x>\xe2\x80\xa9\""), R"("\u003c/x>\u2029")");
  out.clear();
  detail::append_json_number(out, std::nan(""));
  detail::append_json_number(out, 1234567.0);
  EXPECT_EQ(out, "null1.23457e+06");
  const auto tokenizer = Tokenizer::from_folder(model_folder());
  bool broken = false;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string shown = detail::shown_token(tokenizer, id);
    EXPECT_FALSE(shown.empty());
    broken = broken || shown.starts_with("\\x");
  }
  EXPECT_TRUE(broken);  // single bytes are among the tokens
}

}  // namespace
}  // namespace drrik
