// .env files.

#include <algorithm>
#include <cctype>

#include "drrik/base/error.h"
#include "drrik/base/log.h"
#include "drrik/config/environment.h"

namespace drrik {
namespace {

class Parser {
 public:
  Parser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  Environment run() {
    if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
    Environment out;
    while (at_ < text_.size()) entry(out);
    return out;
  }

 private:
  bool end() const { return at_ >= text_.size(); }
  char peek() const { return end() ? '\n' : text_[at_]; }
  void skip_blanks() {
    while (!end() && (peek() == ' ' || peek() == '\t' || peek() == '\r')) ++at_;
  }
  void next_line() {
    while (!end() && peek() != '\n') ++at_;
    if (!end()) ++at_;
    ++line_;
  }

  std::string name() {
    const std::size_t begin = at_;
    while (!end() && (std::isalnum(static_cast<unsigned char>(peek())) != 0 || peek() == '_' ||
                      peek() == '.' || peek() == '-')) {
      ++at_;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  void entry(Environment& out) {
    skip_blanks();
    if (peek() == '\n' || peek() == '#') return next_line();
    std::string key = name();
    if (key == "export" && (peek() == ' ' || peek() == '\t')) {
      skip_blanks();
      key = name();
    }
    skip_blanks();
    if (key.empty() || peek() != '=') {
      log_warning(where_, ":", line_, ": not of the form NAME=value; ignored");
      return next_line();
    }
    ++at_;
    skip_blanks();
    out[key] = peek() == '"' || peek() == '\'' ? quoted() : plain();
  }

  std::string quoted() {
    const char quote = peek();
    const int first = line_;
    ++at_;
    std::string value;
    for (;; ++at_) {
      if (end()) throw_data(where_, ":", first, ": the quote is not closed");
      const char c = peek();
      if (c == quote) break;
      if (c == '\n') ++line_;
      if (c == '\\' && quote == '"' && at_ + 1 < text_.size()) {
        ++at_;
        const char e = peek();
        if (e == 'n') {
          value += '\n';
        } else if (e == 'r') {
          value += '\r';
        } else if (e == 't') {
          value += '\t';
        } else if (e == '"' || e == '\\' || e == '$') {
          value += e;
        } else {
          if (e == '\n') ++line_;
          value += '\\';
          value += e;
        }
      } else {
        value += c;
      }
    }
    ++at_;
    skip_blanks();
    if (peek() != '\n' && peek() != '#') {
      log_warning(where_, ":", line_, ": text after the closing quote is ignored");
    }
    next_line();
    return value;
  }

  // Up to the end of the line or a '#' after a blank, without blanks at the end.
  std::string plain() {
    const std::size_t begin = at_;
    std::size_t last = at_;
    while (!end() && peek() != '\n') {
      const bool comment =
          peek() == '#' && (at_ == begin || text_[at_ - 1] == ' ' || text_[at_ - 1] == '\t');
      if (comment) break;
      ++at_;
      if (std::isspace(static_cast<unsigned char>(text_[at_ - 1])) == 0) last = at_;
    }
    next_line();
    return std::string(text_.substr(begin, last - begin));
  }

  std::string_view text_;
  std::string_view where_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

Environment parse_dotenv(std::string_view text, std::string_view where) {
  if (text.find('\0') != std::string_view::npos) throw_data(where, ": holds NUL bytes");
  return Parser(text, where).run();
}

}  // namespace drrik
