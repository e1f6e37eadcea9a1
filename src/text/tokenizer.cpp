#include "drrik/text/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "drrik/base/error.h"
#include "drrik/base/threads.h"
#include "text/splitters.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace drrik {

using text::KnownPattern;

namespace {

constexpr std::pair<std::string_view, BosRule> kBosRules[] = {
    {"tokenizer", BosRule::kAsTokenizer}, {"never", BosRule::kNever}, {"always", BosRule::kAlways}};

EncodeOptions with_rule(EncodeOptions options, BosRule rule) {
  if (options.bos == BosRule::kAsTokenizer) options.bos = rule;
  return options;
}

}  // namespace

BosRule parse_bos_rule(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, rule] : kBosRules) {
    if (name == known) return rule;
    names.emplace_back(known);
  }
  throw_usage("BOS '", name, "': wanted ", join(names), did_you_mean(name, names));
}

std::string_view bos_rule_name(BosRule rule) {
  for (const auto& [name, known] : kBosRules) {
    if (rule == known) return name;
  }
  return "";
}

std::optional<std::int32_t> Tokenizer::Impl::find_token(std::string_view token) const {
  if (const text::AddedToken* found = added.find(token)) return found->id;
  const std::int32_t id = model->vocabulary().find(token);
  if (id < 0) return std::nullopt;
  return id;
}

std::unique_ptr<Tokenizer::Impl::Workspace> Tokenizer::Impl::borrow() const {
  {
    const std::lock_guard lock(pool_mutex_);
    if (!pool_.empty()) {
      std::unique_ptr<Workspace> out = std::move(pool_.back());
      pool_.pop_back();
      return out;
    }
  }
  auto out = std::make_unique<Workspace>();
  out->model = model->make_workspace();
  return out;
}

void Tokenizer::Impl::give_back(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(pool_mutex_);
  pool_.push_back(std::move(workspace));
}

void Tokenizer::Impl::encode(std::string_view text, const EncodeOptions& options, Workspace& work,
                             std::vector<std::int32_t>& out) const {
  const std::size_t start = out.size();
  if (options.add_special_tokens) out.insert(out.end(), post.prefix.begin(), post.prefix.end());
  const bool begins = out.size() > start && bos && out[start] == *bos;
  const auto at = out.begin() + static_cast<std::ptrdiff_t>(start);
  if (options.bos == BosRule::kNever && begins) out.erase(at);
  if (options.bos == BosRule::kAlways && !begins) {
    if (!bos) throw_usage("BOS is wanted before every text, but the tokenizer has none");
    out.insert(at, *bos);
  }
  const std::size_t begin = out.size();
  const std::size_t suffix = options.add_special_tokens ? post.suffix.size() : 0;
  std::size_t room = std::numeric_limits<std::size_t>::max();
  if (options.max_length > 0) {
    room = static_cast<std::size_t>(options.max_length);
    room -= std::min(room, begin - start + suffix);
  }
  encode_text(text, work, out);
  if (out.size() - begin > room) out.resize(begin + room);
  if (suffix > 0) out.insert(out.end(), post.suffix.begin(), post.suffix.end());
}

void Tokenizer::Impl::encode_text(std::string_view text, Workspace& work,
                                  std::vector<std::int32_t>& out) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 2) {
    throw_data("tokenizer: a text of ", text.size(), " bytes; at most 1 GiB fits one call");
  }
  if (!is_valid_utf8(text)) {
    work.repaired.clear();
    append_mended(text, work.repaired);
    text = work.repaired;
  }
  if (!added.any(false)) {
    encode_stretch(text, true, work, out);
  } else {
    added.cut(text, false, work.raw_cuts);
    for (const auto& cut : work.raw_cuts) {
      if (cut.id >= 0) {
        out.push_back(cut.id);
      } else {
        encode_stretch(text.substr(cut.begin, cut.end - cut.begin), cut.begin == 0, work, out);
      }
    }
  }
}

void Tokenizer::Impl::encode_stretch(std::string_view text, bool at_start, Workspace& work,
                                     std::vector<std::int32_t>& out) const {
  if (text.empty()) return;
  if (normalizer) {
    work.normalized.assign(text);
    normalizer->apply(work.normalized, at_start);
    text = work.normalized;
  }
  if (!added.any(true)) {
    encode_piece(text, at_start, work, out);
    return;
  }
  added.cut(text, true, work.normal_cuts);
  for (const auto& cut : work.normal_cuts) {
    if (cut.id >= 0) {
      out.push_back(cut.id);
    } else {
      encode_piece(text.substr(cut.begin, cut.end - cut.begin), at_start && cut.begin == 0, work,
                   out);
    }
  }
}

void Tokenizer::Impl::encode_piece(std::string_view text, bool at_start, Workspace& work,
                                   std::vector<std::int32_t>& out) const {
  if (text.empty()) return;
  const auto encode_known = [&](auto match) {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = match(text, at);
      model->encode_bytes(text.substr(at, end - at), *work.model, out);
      at = end;
    }
  };
  switch (pre_tokenizer.fast_pattern()) {
    case KnownPattern::kGpt2:
      encode_known(text::match_gpt2);
      return;
    case KnownPattern::kLlama3:
      encode_known([](std::string_view t, std::size_t at) { return text::match_llama3(t, at, 3); });
      return;
    case KnownPattern::kQwen2:
      encode_known([](std::string_view t, std::size_t at) { return text::match_llama3(t, at, 1); });
      return;
    case KnownPattern::kNone:
      break;
  }
  if (pre_tokenizer.empty()) {
    model->encode(text, *work.model, out);
    return;
  }
  text::PreText& pre = work.pre;
  pre.text.assign(text);
  pre.pieces.assign(1, {0, text.size(), at_start});
  pre_tokenizer.apply(pre);
  for (const auto& piece : pre.pieces) {
    const auto bytes = std::string_view(pre.text).substr(piece.begin, piece.end - piece.begin);
    if (pre_tokenizer.yields_bytes()) {
      model->encode_bytes(bytes, *work.model, out);
    } else {
      model->encode(bytes, *work.model, out);
    }
  }
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

void Tokenizer::set_bos_rule(BosRule rule) {
  if (rule == BosRule::kAlways && !impl_->bos) {
    throw_usage("BOS is wanted before every text, but the tokenizer has none");
  }
  bos_rule_ = rule;
}

void Tokenizer::encode_to(std::string_view text, const EncodeOptions& options,
                          std::vector<std::int32_t>& out) const {
  Impl::Borrowed work(*impl_);
  impl_->encode(text, with_rule(options, bos_rule_), *work, out);
}

std::vector<std::vector<std::int32_t>> Tokenizer::encode_batch(
    std::span<const std::string_view> texts, const EncodeOptions& options) const {
  std::vector<std::vector<std::int32_t>> out(texts.size());
  // Texts differ in length, so the threads take them as they come, a few at a time.
  constexpr std::size_t kTogether = 8;
  const auto workers = static_cast<std::int64_t>(
      std::min<std::size_t>(texts.size(), static_cast<std::size_t>(num_threads())));
  std::atomic<std::size_t> next = 0;
  parallel_for(workers, 1, [&](std::int64_t, std::int64_t) {
    Impl::Borrowed work(*impl_);
    std::vector<std::int32_t> ids;
    for (;;) {
      const std::size_t begin = next.fetch_add(kTogether);
      if (begin >= texts.size()) return;
      for (std::size_t i = begin; i < std::min(begin + kTogether, texts.size()); ++i) {
        ids.clear();
        impl_->encode(texts[i], with_rule(options, bos_rule_), *work, ids);
        out[i].assign(ids.begin(), ids.end());  // without the slack of growing
      }
    }
  });
  return out;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text,
                                            const EncodeOptions& options) const {
  std::vector<std::int32_t> out;
  encode_to(text, options, out);
  return out;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids,
                              const DecodeOptions& options) const {
  std::vector<std::string_view> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) continue;
    const Impl::Decoded& entry = impl_->decoded[static_cast<std::size_t>(id)];
    if (!entry.present || (options.skip_special_tokens && entry.special)) continue;
    tokens.push_back(entry.text);
  }
  std::string text = impl_->decoder.decode(tokens);
  return impl_->clean_up ? text::clean_up_spaces(std::move(text), false) : text;
}

std::int32_t Tokenizer::vocab_size() const {
  return static_cast<std::int32_t>(impl_->decoded.size());
}

std::string_view Tokenizer::token_text(std::int32_t id) const {
  if (const text::AddedToken* token = impl_->added.find_id(id)) return token->content;
  return impl_->model->vocabulary().token(id);
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return impl_->decoder.piece(impl_->decoded[static_cast<std::size_t>(id)].text);
}

std::string Tokenizer::token_display(std::int32_t id) const {
  std::string out;
  append_mended(token_bytes(id), out);
  return out;
}

std::optional<std::int32_t> Tokenizer::find_token(std::string_view token) const {
  return impl_->find_token(token);
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && impl_->decoded[static_cast<std::size_t>(id)].special;
}

std::optional<std::int32_t> Tokenizer::bos_id() const { return impl_->bos; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return impl_->eos; }
std::optional<std::int32_t> Tokenizer::pad_id() const { return impl_->pad; }
std::optional<std::int32_t> Tokenizer::unk_id() const { return impl_->unk; }

}  // namespace drrik
