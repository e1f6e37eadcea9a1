#include <algorithm>

#include "drrik/text/tokenizer.h"

namespace drrik {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// Enough for decoders that look at neighbours (leading spaces, clean-up).
constexpr std::size_t kPrimeIds = 16;
// So many ids without one that ends a character are garbage, or one endless broken run: they are
// released, but for the last few, which may still be completed.
constexpr std::size_t kMaxHeldBack = 256;
constexpr std::size_t kKept = 8;

/// Bytes of `text` that later ids cannot change: all but the broken characters at its end.
std::size_t settled_bytes(std::string_view text) {
  while (text.ends_with(kReplacement)) text.remove_suffix(kReplacement.size());
  return text.size();
}

/// What follows the first `returned` bytes. When later ids have broken what was returned (see the
/// header), those bytes may end inside a character of the new text: then from the next one on.
std::string rest_of(std::string_view text, std::size_t returned) {
  while (returned < text.size() && (static_cast<unsigned char>(text[returned]) & 0xC0u) == 0x80u) {
    ++returned;
  }
  return returned < text.size() ? std::string(text.substr(returned)) : std::string();
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, DecodeOptions options)
    : tokenizer_(&tokenizer), options_(options) {}

void StreamDecoder::prime(std::span<const std::int32_t> ids) {
  if (ids.size() > kPrimeIds) ids = ids.subspan(ids.size() - kPrimeIds);
  window_.assign(ids.begin(), ids.end());
  settled_ = window_.size();
  returned_ = tokenizer_->decode(window_, options_).size();
}

std::string StreamDecoder::push(std::int32_t id) {
  window_.push_back(id);
  const std::string now = tokenizer_->decode(window_, options_);
  const bool release = window_.size() - settled_ > kMaxHeldBack;
  const std::size_t sure = release ? now.size() : settled_bytes(now);
  std::string out = rest_of(std::string_view(now).substr(0, sure), returned_);
  returned_ = std::max(returned_, sure);
  if (sure < now.size()) return out;
  // These ids become the context of the next ones, unless they leave no text to compare with: then
  // a decoder that drops a leading space would drop one in the middle.
  const std::size_t from = release ? window_.size() - kKept : settled_;
  const std::string context =
      tokenizer_->decode(std::span<const std::int32_t>(window_).subspan(from), options_);
  if (!context.empty()) {
    window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(from));
    returned_ = context.size();
  }
  settled_ = window_.size();
  return out;
}

std::string StreamDecoder::finish() {
  const std::string now = tokenizer_->decode(window_, options_);
  std::string out = rest_of(now, returned_);
  window_.clear();
  settled_ = 0;
  returned_ = 0;
  return out;
}

}  // namespace drrik
