// Broken model folders and impossible requests: an error that says what, never a crash.

#include <unistd.h>

#include <fstream>

#include "drrik/model/kv_cache.h"
#include "io/json.h"
#include "model/compare.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using test::data_folder;
using test::error_of;

/// A copy of a reference model that a test may damage.
class Folder {
 public:
  explicit Folder(const std::string& name) {
    static int count = 0;
    path_ = fs::temp_directory_path() / str("drrik_hostile_", ::getpid(), "_", count++);
    fs::remove_all(path_);
    fs::copy(data_folder(name), path_, fs::copy_options::recursive);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

  void set(const std::string& key, const Json& value) const {
    const fs::path file = path_ / "config.json";
    Json json = read_json_file(file);
    json[key] = value;
    std::ofstream(file) << json_text(json);
  }
  /// Rewrites the weights without `leave_out` and with `rename` under another name.
  void rewrite(const std::string& leave_out, const std::string& rename = "",
               const std::string& to = "") const {
    const fs::path file = path_ / "model.safetensors";
    std::vector<Tensor> tensors;
    std::vector<std::string> names;
    {
      const SafetensorsFile stored = SafetensorsFile::open(file);
      for (const auto& entry : stored.entries()) {
        if (entry.name == leave_out) continue;
        names.push_back(entry.name == rename ? to : entry.name);
        tensors.push_back(stored.get(entry.name).clone());
      }
    }
    std::vector<NamedTensor> named;
    for (std::size_t i = 0; i < names.size(); ++i) named.push_back({names[i], &tensors[i]});
    write_safetensors(file, named);
  }
  std::pair<ErrorKind, std::string> load_error() const {
    return error_of([&] { Model::load(path_); });
  }

 private:
  fs::path path_;
};

void expect_data(const std::pair<ErrorKind, std::string>& error,
                 std::initializer_list<const char*> parts) {
  EXPECT_EQ(error.first, ErrorKind::kData) << error.second;
  for (const char* part : parts) {
    EXPECT_NE(error.second.find(part), std::string::npos) << error.second;
  }
}

TEST(HostileModel, MissingFiles) {
  EXPECT_EQ(error_of([] { Model::load("/nonexistent/model"); }).first, ErrorKind::kIo);
  const Folder folder("llama-plain");
  fs::remove(folder.path() / "model.safetensors");
  const auto [kind, text] = folder.load_error();
  EXPECT_TRUE(kind == ErrorKind::kIo || kind == ErrorKind::kData);
  EXPECT_NE(text.find("model.safetensors"), std::string::npos) << text;
  fs::remove(folder.path() / "config.json");
  EXPECT_EQ(folder.load_error().first, ErrorKind::kIo);
}

TEST(HostileModel, MissingTensor) {
  const Folder folder("llama-plain");
  folder.rewrite("model.layers.1.mlp.up_proj.weight");
  expect_data(folder.load_error(),
              {"tensor 'model.layers.1.mlp.up_proj.weight'", "absent", "[40, 24]"});
  const Folder head("llama-plain");
  head.rewrite("lm_head.weight");
  expect_data(head.load_error(), {"tensor 'lm_head.weight'"});
  // Without the head it is not needed.
  ModelOptions options;
  options.skip_head = true;
  EXPECT_NO_THROW(Model::load(head.path(), options));
  const Folder renamed("gpt2-plain");
  renamed.rewrite("", "transformer.h.0.mlp.c_fc.bias", "transformer.h.0.mlp.c_fc.bia");
  expect_data(renamed.load_error(), {"tensor 'transformer.h.0.mlp.c_fc.bias'", "did you mean",
                                     "'transformer.h.0.mlp.c_fc.bia'"});
}

TEST(HostileModel, WrongShapes) {
  struct Case {
    const char* model;
    const char* key;
    std::int64_t value;
    const char* tensor;
  };
  const Case cases[] = {
      {"llama-plain", "vocab_size", 68, "model.embed_tokens.weight"},
      {"llama-plain", "hidden_size", 28, "model.embed_tokens.weight"},
      {"llama-plain", "num_key_value_heads", 4, "k_proj.weight"},
      {"llama-plain", "intermediate_size", 41, "gate_proj.weight"},
      {"llama-plain", "head_dim", 8, "q_proj.weight"},
      {"llama-plain", "num_hidden_layers", 3, "model.layers.2.input_layernorm.weight"},
      // Sizes that the file cannot hold are found before anything of that size is allocated.
      {"llama-plain", "vocab_size", std::int64_t{1} << 28, "model.embed_tokens.weight"},
      {"llama-plain", "intermediate_size", std::int64_t{1} << 22, "gate_proj.weight"},
      {"llama-plain", "num_hidden_layers", std::int64_t{1} << 14, "model.layers.2."},
      {"gpt2-plain", "n_positions", std::int64_t{2147483647}, "transformer.wpe.weight"},
      {"gpt2-plain", "n_inner", 95, "mlp.c_fc.weight"},
      {"neox-parallel", "intermediate_size", 53, "dense_h_to_4h.weight"},
      {"opt-plain", "max_position_embeddings", 41, "model.decoder.embed_positions.weight"},
      {"opt-plain", "word_embed_proj_dim", 1 << 22, "model.decoder.embed_tokens.weight"},
      {"opt-post-norm", "word_embed_proj_dim", 16, "model.decoder.embed_tokens.weight"},
      {"falcon-grouped", "num_kv_heads", 1, "query_key_value.weight"},
      {"phi3-window", "num_key_value_heads", 4, "qkv_proj.weight"},
      {"phi3-window", "intermediate_size", 27, "gate_up_proj.weight"},
      {"qwen3-plain", "head_dim", 10, "self_attn.q_norm.weight"},
  };
  for (const Case& c : cases) {
    const Folder folder(c.model);
    folder.set(c.key, c.value);
    expect_data(folder.load_error(), {c.tensor});
  }
  // A huge number of positions costs nothing with rotary positions until they are used.
  const Folder far("llama-plain");
  far.set("max_position_embeddings", std::int64_t{2147483647});
  const Model model = Model::load(far.path());
  EXPECT_EQ(error_of([&] { model.make_cache(std::int64_t{1} << 40); }).first, ErrorKind::kUsage);
}

TEST(HostileModel, MissingTensorsOfEveryWiring) {
  const std::pair<const char*, const char*> cases[] = {
      {"gemma2-plain", "model.layers.1.post_feedforward_layernorm.weight"},
      {"gemma3-plain", "model.layers.0.self_attn.k_norm.weight"},
      {"olmo2-plain", "model.layers.0.post_attention_layernorm.weight"},
      {"phi-plain", "lm_head.bias"},
      {"phi-qk-norm", "model.layers.2.self_attn.q_layernorm.bias"},
      {"phi3-window", "model.layers.0.mlp.gate_up_proj.weight"},
      {"opt-post-norm", "model.decoder.project_in.weight"},
      {"opt-post-norm", "model.decoder.project_out.weight"},
      {"bloom-plain", "transformer.word_embeddings_layernorm.bias"},
      {"falcon-grouped", "transformer.h.0.ln_mlp.weight"},
      {"falcon-grouped", "transformer.h.1.self_attention.query_key_value.bias"},
  };
  for (const auto& [model, tensor] : cases) {
    const Folder folder(model);
    folder.rewrite(tensor);
    expect_data(folder.load_error(), {tensor, "absent"});
  }
}

TEST(HostileModel, WrongDtype) {
  const Folder folder("llama-plain");
  const fs::path file = folder.path() / "model.safetensors";
  std::string text = read_file(file);
  const auto at = text.find("\"dtype\":\"F32\"");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 13, "\"dtype\":\"I32\"");
  std::ofstream(file, std::ios::binary) << text;
  expect_data(folder.load_error(), {"type I32"});
}

TEST(HostileModel, TruncatedFiles) {
  for (const char* name : {"model.safetensors", "config.json"}) {
    const std::string whole = read_file(data_folder("llama-plain") / name);
    for (const double part : {0.0, 0.001, 0.01, 0.5, 0.99}) {
      const Folder folder("llama-plain");
      const auto size = static_cast<std::size_t>(static_cast<double>(whole.size()) * part);
      std::ofstream(folder.path() / name, std::ios::binary) << whole.substr(0, size);
      expect_data(folder.load_error(), {name});
    }
  }
}

TEST(HostileModel, IncompleteShards) {
  const char* const shard = "model-00002-of-00003.safetensors";
  {
    const Folder folder("llama-bf16-sharded");
    fs::remove(folder.path() / shard);
    const auto [kind, text] = folder.load_error();
    EXPECT_TRUE(kind == ErrorKind::kIo || kind == ErrorKind::kData);
    EXPECT_NE(text.find(shard), std::string::npos) << text;
  }
  const Folder folder("llama-bf16-sharded");
  fs::resize_file(folder.path() / shard, fs::file_size(folder.path() / shard) - 1);
  expect_data(folder.load_error(), {shard});
}

TEST(HostileModel, ImpossibleRequests) {
  const Model model = Model::load(data_folder("llama-plain"));
  const auto forward_error = [&](std::vector<std::int32_t> ids, ForwardOptions options) {
    return error_of([&] {
      TokenBatch batch;
      batch.append(ids);
      model.forward(batch, options);
    });
  };
  const auto hook = [](HookPoint point, std::int64_t layer) {
    ForwardOptions options;
    options.hooks = {{point, layer}};
    options.on_hook = [](const Hook&, MatView<float>) { FAIL() << "hook called"; };
    return options;
  };
  ForwardOptions logits;
  logits.logits = ForwardOptions::Logits::kAll;

  auto [kind, text] = forward_error({1}, hook(HookPoint::kMlpOut, 2));
  EXPECT_EQ(kind, ErrorKind::kUsage);
  EXPECT_NE(text.find("2 layers"), std::string::npos) << text;
  EXPECT_EQ(forward_error({1}, hook(HookPoint::kMlpOut, -1)).first, ErrorKind::kUsage);
  expect_data(forward_error({1, 67}, logits), {"token 1 is 67", "0 to 66"});
  expect_data(forward_error({-1}, logits), {"token 0 is -1"});
  expect_data(forward_error(std::vector<std::int32_t>(65, 1), logits), {"65 tokens", "64"});
  EXPECT_NO_THROW([&] {
    TokenBatch batch;
    batch.append(std::vector<std::int32_t>(64, 1));
    model.forward(batch, logits);
  }());

  const auto batch_error = [&](std::vector<std::int64_t> boundaries) {
    return error_of([&] { model.forward(TokenBatch{{1, 2, 3}, boundaries}, logits); }).first;
  };
  EXPECT_EQ(batch_error({}), ErrorKind::kData);
  EXPECT_EQ(batch_error({0}), ErrorKind::kData);
  EXPECT_EQ(batch_error({0, 2}), ErrorKind::kData);
  EXPECT_EQ(batch_error({1, 3}), ErrorKind::kData);
  EXPECT_EQ(batch_error({0, 4, 3}), ErrorKind::kData);
  ForwardOptions last;
  last.logits = ForwardOptions::Logits::kLast;
  EXPECT_EQ(error_of([&] {
              model.forward(TokenBatch{{1}, {0, 0, 1}}, last);
            }).first,
            ErrorKind::kData);

  ForwardOptions no_function;
  no_function.hooks = {{HookPoint::kMlpOut, 0}};
  EXPECT_EQ(forward_error({1}, no_function).first, ErrorKind::kUsage);

  ModelOptions headless;
  headless.skip_head = true;
  const Model body = Model::load(data_folder("llama-plain"), headless);
  TokenBatch one;
  one.append(std::vector<std::int32_t>{1});
  EXPECT_EQ(error_of([&] { body.forward(one, logits); }).first, ErrorKind::kUsage);

  const Model parallel = Model::load(data_folder("neox-parallel"));
  const auto middle = error_of([&] { parallel.check_hook({HookPoint::kResidMid, 0}); });
  EXPECT_EQ(middle.first, ErrorKind::kUsage);
  EXPECT_NE(middle.second.find("resid_mid"), std::string::npos);

  for (const char* name : {"phi-plain", "falcon-multi-query"}) {
    const Model side_by_side = Model::load(data_folder(name));
    EXPECT_EQ(error_of([&] {
                side_by_side.check_hook({HookPoint::kResidMid, 0});
              }).first,
              ErrorKind::kUsage);
  }
  const auto table = error_of([&] { model.check_hook({HookPoint::kPosEmbed, 0}); });
  EXPECT_EQ(table.first, ErrorKind::kUsage);
  const auto late = error_of([&] { model.check_hook({HookPoint::kEmbed, 1}); });
  EXPECT_EQ(late.first, ErrorKind::kUsage);
  EXPECT_NE(late.second.find("in front of layer 0, and layer 1"), std::string::npos) << late.second;
  const auto add = error_of([&] { model.check_hook({HookPoint::kMlpAdd, 0}); });
  EXPECT_EQ(add.first, ErrorKind::kUsage);
  EXPECT_NE(add.second.find("use attn_out or mlp_out"), std::string::npos) << add.second;

  EXPECT_EQ(error_of([&] { model.make_cache(0); }).first, ErrorKind::kUsage);
  EXPECT_EQ(error_of([&] { model.make_cache(65); }).first, ErrorKind::kUsage);
  KvCache cache = model.make_cache(2);
  const std::vector<std::int32_t> three = {1, 2, 3};
  EXPECT_EQ(error_of([&] { model.forward(three, cache); }).first, ErrorKind::kData);
  EXPECT_EQ(cache.length(), 0);
  // An exception of the hook's own comes through and leaves the model usable.
  ForwardOptions thrower = hook(HookPoint::kResidPost, 0);
  thrower.on_hook = [](const Hook&, MatView<float>) { throw std::runtime_error("mine"); };
  EXPECT_THROW(model.forward(one, thrower), std::runtime_error);
  EXPECT_NO_THROW(model.forward(one, logits));
}

}  // namespace
}  // namespace drrik
