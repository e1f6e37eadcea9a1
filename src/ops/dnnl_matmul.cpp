#include "ops/dnnl_matmul.h"

#include <dnnl.hpp>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "drrik/base/error.h"
#include "drrik/tensor/tensor.h"

namespace drrik::detail {
namespace {

struct Compiled {
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul primitive;
};

struct KeyHash {
  std::size_t operator()(const MatmulKey& key) const {
    std::uint64_t h = 1469598103934665603U;
    const auto mix = [&h](std::int64_t v) {
      h ^= static_cast<std::uint64_t>(v);
      h *= 1099511628211U;
      h ^= h >> 29;
    };
    for (const std::int64_t v : {key.m, key.n, key.k, key.a_row, key.a_col, key.b_row, key.b_col,
                                 key.c_row, static_cast<std::int64_t>(key.dtype),
                                 std::int64_t{key.accumulate} * 4 + std::int64_t{key.bias} * 2}) {
      mix(v);
    }
    return static_cast<std::size_t>(h);
  }
};

const dnnl::engine& engine() {
  static const dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

Compiled compile(const MatmulKey& key) {
  using dt = dnnl::memory::data_type;
  const dt type = key.dtype == DType::kBF16 ? dt::bf16 : dt::f32;
  const dnnl::memory::desc a({key.m, key.k}, type, dnnl::memory::dims{key.a_row, key.a_col});
  const dnnl::memory::desc b({key.k, key.n}, type, dnnl::memory::dims{key.b_row, key.b_col});
  const dnnl::memory::desc c({key.m, key.n}, dt::f32, dnnl::memory::dims{key.c_row, 1});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.accumulate) {
    dnnl::post_ops ops;
    ops.append_sum(1.0F);
    attr.set_post_ops(ops);
  }
  const auto desc =
      key.bias ? dnnl::matmul::desc(
                     a, b, dnnl::memory::desc({1, key.n}, dt::f32, dnnl::memory::dims{key.n, 1}), c)
               : dnnl::matmul::desc(a, b, c);
  Compiled compiled;
  compiled.desc = dnnl::matmul::primitive_desc(desc, attr, engine());
  compiled.primitive = dnnl::matmul(compiled.desc);
  return compiled;
}

// The least recently used of kCapacity primitives makes room for a new one.
class Cache {
 public:
  std::shared_ptr<const Compiled> get(const MatmulKey& key) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = index_.find(key);
      if (found != index_.end()) {
        order_.splice(order_.begin(), order_, found->second);
        return found->second->second;
      }
    }
    // Compiled outside the lock: it takes milliseconds.
    auto compiled = std::make_shared<const Compiled>(compile(key));
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(key);
    if (found != index_.end()) return found->second->second;
    order_.emplace_front(key, compiled);
    index_[key] = order_.begin();
    if (order_.size() > kCapacity) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return compiled;
  }

 private:
  static constexpr std::size_t kCapacity = 512;
  using Entry = std::pair<MatmulKey, std::shared_ptr<const Compiled>>;
  std::mutex mutex_;
  std::list<Entry> order_;
  std::unordered_map<MatmulKey, std::list<Entry>::iterator, KeyHash> index_;
};

}  // namespace

void dnnl_matmul(const MatmulKey& key, const void* a, const void* b, const float* bias, float* c) {
  static Cache cache;
  // oneDNN's own scratch memory is not safe when one primitive runs in two threads.
  static thread_local AlignedBuffer scratch;
  static thread_local dnnl::stream stream(engine());
  try {
    const auto compiled = cache.get(key);
    const auto& desc = compiled->desc;
    const std::size_t wanted = desc.scratchpad_desc().get_size();
    if (scratch.size() < wanted) {
      scratch = AlignedBuffer();
      scratch = AlignedBuffer(wanted, AlignedBuffer::Init::kNone);
    }
    const auto memory = [](const dnnl::memory::desc& d, const void* data) {
      return dnnl::memory(d, engine(), const_cast<void*>(data));
    };
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, memory(desc.src_desc(), a)},
        {DNNL_ARG_WEIGHTS, memory(desc.weights_desc(), b)},
        {DNNL_ARG_DST, memory(desc.dst_desc(), c)},
        {DNNL_ARG_SCRATCHPAD, memory(desc.scratchpad_desc(), scratch.data())}};
    if (key.bias) arguments.emplace(DNNL_ARG_BIAS, memory(desc.bias_desc(), bias));
    compiled->primitive.execute(stream, arguments);
    stream.wait();
  } catch (const dnnl::error& e) {
    throw_data("matrix product [", key.m, ", ", key.k, "] · [", key.k, ", ", key.n,
               "]: oneDNN: ", e.what(), " (status ", static_cast<int>(e.status), ")");
  }
}

}  // namespace drrik::detail
