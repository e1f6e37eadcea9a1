#pragma once
// Patterns of tokenizer files, written for Oniguruma and run by PCRE2.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace drrik::text {

/// `pattern` in PCRE2's syntax with the same meaning: `\s \w \d`, properties and nested or
/// intersected classes become explicit where the two engines or their Unicode versions differ.
/// Throws Error(data) for what has no counterpart.
std::string translate_oniguruma(std::string_view pattern);

class Regex {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  /// Throws Error(data) with the position when the pattern is malformed.
  explicit Regex(std::string_view pattern);
  static Regex literal(std::string_view text);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  /// One pass over a text; not shared between threads.
  class Scan {
   public:
    Scan(const Regex& regex, std::string_view text);
    ~Scan();
    Scan(const Scan&) = delete;
    Scan& operator=(const Scan&) = delete;
    /// The next match as Oniguruma's Rust binding iterates: leftmost, not overlapping, an empty one
    /// not directly after another. Throws Error(data) when the pattern backtracks without end.
    bool next(Match& match);

   private:
    const Regex* regex_;
    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t last_end_ = static_cast<std::size_t>(-1);
    void* data_ = nullptr;  // pcre2_match_data
    bool exhausted_ = false;
  };

 private:
  Regex() = default;
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace drrik::text
