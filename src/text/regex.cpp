#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "drrik/base/error.h"
#include "text/utf8.h"

namespace drrik::text {
namespace {

// Backtracking steps PCRE2 may take for one match before the pattern counts as runaway. A sane
// pattern takes a few; a run of n spaces takes n. One step is a few nanoseconds.
constexpr std::uint32_t kMatchLimit = 50'000'000;
constexpr std::uint32_t kDepthLimit = 1'000'000;
constexpr std::uint32_t kHeapLimitKib = 256 * 1024;
constexpr std::size_t kJitStackMax = std::size_t{8} << 20;
constexpr std::size_t kPatternMax = std::size_t{1} << 16;

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  std::string source;
  ~Compiled() { pcre2_code_free(code); }
};

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex::Regex(std::string_view pattern) : compiled_(std::make_unique<Compiled>()) {
  if (pattern.size() > kPatternMax) {
    throw_data("split pattern: ", pattern.size(), " bytes, at most ", kPatternMax, " are read");
  }
  const std::string translated = translate_oniguruma(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Oniguruma's ^ and $ match at every line.
  compiled_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    char message[256];
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    throw_data("split pattern '", pattern, "': ", message, " at ", offset, " of '", translated,
               "'");
  }
  compiled_->source = std::string(pattern);
  // Without JIT support matching still works, more slowly.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
}

Regex Regex::literal(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') ||
                       (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (c == '\0') {
      escaped += "\\x00";
      continue;
    }
    if (!plain) escaped += '\\';
    escaped += c;
  }
  return Regex(escaped);
}

namespace {

/// Per-thread limits and JIT stack: making them for every scan would cost more than most scans.
struct Context {
  pcre2_match_context* match = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, kJitStackMax, nullptr);
  Context() {
    pcre2_set_match_limit(match, kMatchLimit);
    pcre2_set_depth_limit(match, kDepthLimit);
    pcre2_set_heap_limit(match, kHeapLimitKib);
    pcre2_jit_stack_assign(match, nullptr, stack);
  }
  ~Context() {
    pcre2_match_context_free(match);
    pcre2_jit_stack_free(stack);
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

Context& context() {
  static thread_local Context instance;
  return instance;
}

}  // namespace

Regex::Scan::Scan(const Regex& regex, std::string_view text)
    : regex_(&regex),
      text_(text),
      data_(pcre2_match_data_create_from_pattern(regex.compiled_->code, nullptr)) {
  if (data_ == nullptr) throw_data("split pattern: out of memory");
}

Regex::Scan::~Scan() { pcre2_match_data_free(static_cast<pcre2_match_data*>(data_)); }

bool Regex::Scan::next(Match& match) {
  auto* data = static_cast<pcre2_match_data*>(data_);
  const Context& limits = context();
  while (!exhausted_ && at_ <= text_.size()) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    constexpr std::uint32_t kOptions = PCRE2_NO_UTF_CHECK;
    int count = pcre2_match(regex_->compiled_->code, subject, text_.size(), at_, kOptions, data,
                            limits.match);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
      count = pcre2_match(regex_->compiled_->code, subject, text_.size(), at_,
                          kOptions | PCRE2_NO_JIT, data, limits.match);
    }
    if (count == PCRE2_ERROR_NOMATCH) {
      exhausted_ = true;
      return false;
    }
    if (count < 0) {
      char message[256];
      pcre2_get_error_message(count, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
      throw_data("split pattern '", regex_->compiled_->source, "' at byte ", at_,
                 " of the text: ", message);
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
    // \K in a look-behind could move the start before the search position.
    const std::size_t begin = std::max<std::size_t>(bounds[0], at_);
    const std::size_t end = std::max<std::size_t>(bounds[1], begin);
    if (begin == end && end == last_end_) {
      at_ += at_ < text_.size() ? char_length(text_[at_]) : 1;
      continue;
    }
    at_ = end;
    last_end_ = end;
    match = {begin, end};
    return true;
  }
  return false;
}

}  // namespace drrik::text
