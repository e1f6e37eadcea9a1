#pragma once
// Whether a text is well-formed enough for an XML reader: tags nest, attributes are quoted,
// references are known, no control characters.

#include <string>
#include <string_view>
#include <vector>

namespace drrik::testing {

/// "" or what is wrong.
inline std::string xml_error(std::string_view text) {
  std::vector<std::string> open;
  std::size_t at = 0;
  const auto bad_text = [](std::string_view part) -> std::string {
    if (part.find("]]>") != std::string_view::npos) return "']]>' in text";
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto c = static_cast<unsigned char>(part[i]);
      if (c < 0x20 && c != '\n' && c != '\t' && c != '\r') return "control character";
      if (c != '&') continue;
      const std::size_t end = part.find(';', i);
      if (end == std::string_view::npos) return "reference without end";
      const std::string_view name = part.substr(i + 1, end - i - 1);
      if (name != "amp" && name != "lt" && name != "gt" && name != "quot" && name != "apos" &&
          !name.starts_with("#")) {
        return "unknown reference " + std::string(name);
      }
    }
    return "";
  };
  while (at < text.size()) {
    const std::size_t tag = text.find('<', at);
    const std::string_view between =
        text.substr(at, tag == std::string_view::npos ? tag : tag - at);
    if (std::string error = bad_text(between); !error.empty()) return error;
    if (tag == std::string_view::npos) break;
    if (text.substr(tag).starts_with("<!--")) {
      at = text.find("-->", tag);
      if (at == std::string_view::npos) return "comment without end";
      at += 3;
      continue;
    }
    if (text.substr(tag).starts_with("<![CDATA[")) {
      at = text.find("]]>", tag);
      if (at == std::string_view::npos) return "CDATA without end";
      at += 3;
      continue;
    }
    // To the '>' outside quotes.
    std::size_t end = tag + 1;
    char quote = 0;
    for (; end < text.size(); ++end) {
      const char c = text[end];
      if (quote != 0) {
        if (c == quote) quote = 0;
        if (c == '<') return "'<' in an attribute";
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else if (c == '>') {
        break;
      } else if (c == '<') {
        return "'<' in a tag";
      }
    }
    if (end >= text.size()) return "tag without end";
    const std::string_view inside = text.substr(tag + 1, end - tag - 1);
    at = end + 1;
    if (inside.empty()) return "empty tag";
    if (inside.front() == '?' || inside.front() == '!') continue;
    const std::string name(
        inside.substr(inside.front() == '/' ? 1 : 0)
            .substr(0, inside.substr(inside.front() == '/' ? 1 : 0).find_first_of(" \t\r\n/")));
    if (inside.front() == '/') {
      if (open.empty() || open.back() != name) return "</" + name + "> closes nothing";
      open.pop_back();
    } else if (inside.back() != '/') {
      open.push_back(name);
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

}  // namespace drrik::testing
