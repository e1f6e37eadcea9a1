#include "drrik/viz/report.h"

#include <algorithm>
#include <charconv>

#include "drrik/base/error.h"
#include "drrik/base/file.h"
#include "viz/text_layout.h"
#include "viz/ticks.h"

namespace drrik {
namespace {

constexpr std::int64_t kContext = 240;  // Columns of an example's text.

constexpr const char* kStyle = R"css(
:root{--bg:#f6f7f9;--card:#fff;--text:#1c2430;--muted:#5d6978;--line:#e2e6eb;--accent:#2f6fae;
--mark:255,176,72;--mark-text:#1c2430;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#101419;--card:#181d24;--text:#e8ebef;--muted:#9aa6b4;
--line:#2b323c;--accent:#6fb1ec;--mark:214,142,52;--mark-text:#fff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);line-height:1.5;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 6px}
h2{font-size:19px;margin:44px 0 14px}
h3{font-size:14px;margin:0 0 10px}
p.lead{margin:0;color:var(--muted);font-size:16px;max-width:70ch}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;
min-width:0}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.wide{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr))}
.facts{margin-top:28px}
table{border-collapse:collapse;width:100%;font-size:14px}
td{padding:5px 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
tr:first-child td{border-top:0}
td:first-child{color:var(--muted);padding-right:16px;width:44%}
td:last-child{font-variant-numeric:tabular-nums;text-align:right}
figure{margin:0}
.full{grid-column:1/-1}
figure img{display:block;width:100%;height:auto;border-radius:6px;background:#fff}
figcaption{color:var(--muted);font-size:13px;margin-top:10px}
.head{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;margin-bottom:10px}
.head h3{margin:0;font-size:15px}
.head span{color:var(--muted);font-size:13px}
ol.examples{list-style:none;margin:0;padding:0;font-size:13.5px}
ol.examples li{display:grid;grid-template-columns:58px 1fr;gap:12px;padding:7px 0;
border-top:1px solid var(--line)}
ol.examples li:first-child{border-top:0}
.value{color:var(--muted);font-variant-numeric:tabular-nums;font-size:12.5px;padding-top:1px}
.value i{display:block;height:4px;border-radius:2px;background:var(--accent);margin-top:4px}
.text{overflow-wrap:anywhere;unicode-bidi:plaintext}
mark{color:var(--mark-text);border-radius:3px;padding:1px 0;white-space:pre-wrap}
.steer{display:grid;grid-template-columns:132px minmax(0,1fr);gap:4px 18px;padding:14px 0;
border-top:1px solid var(--line)}
.steer:first-of-type{border-top:0}
.steer b{font-size:13px;font-weight:600;color:var(--accent);padding-top:1px;overflow-wrap:anywhere}
.steer p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
.steer .prompt{color:var(--muted)}
.none{color:var(--muted)}
footer{margin-top:48px;color:var(--muted);font-size:13px;overflow-wrap:anywhere}
@media (max-width:560px){.steer{grid-template-columns:1fr}main{padding:24px 14px 48px}}
@media print{body{background:#fff}.card{break-inside:avoid}}
)css";

// Escapes, so that the text can stand in an element or a quoted attribute. Line ends stay when
// `lines` (steered texts keep their paragraphs).
std::string escape(std::string_view text, bool lines = false) {
  std::string clean;
  if (lines) {
    for (;;) {
      const std::size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      clean += detail::clean_text(line, std::size_t{1} << 20U);
      if (end == std::string_view::npos) break;
      clean += '\n';
      text.remove_prefix(end + 1);
    }
  } else {
    clean = detail::clean_text(text, std::size_t{1} << 20U);
  }
  std::string out;
  out.reserve(clean.size());
  for (const char c : clean) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      word = word << 8U | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      out += i + j > bytes.size() ? '=' : kDigits[word >> (18U - 6U * j) & 63U];
    }
  }
  return out;
}

std::string data_uri(const std::filesystem::path& path, const std::string& bytes) {
  const char* type = nullptr;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) type = "image/png";
  if (bytes.starts_with("<?xml") || bytes.starts_with("<svg")) type = "image/svg+xml";
  if (type == nullptr) throw_data(path.string(), ": wanted a PNG or SVG picture");
  return str("data:", type, ";base64,", base64(bytes));
}

std::string table_html(const ReportTable& table) {
  std::string out = "<section class=\"card\"><h3>" + escape(table.title) + "</h3><table>\n";
  for (const auto& [name, value] : table.rows) {
    out += "<tr><td>" + escape(name) + "</td><td>" + escape(value) + "</td></tr>\n";
  }
  return out + "</table></section>\n";
}

// The value of an attribute of the tag that starts at `tag`, or "".
std::string_view attribute(std::string_view tag, std::string_view name) {
  for (std::size_t at = tag.find(name); at != std::string_view::npos; at = tag.find(name, at + 1)) {
    const std::size_t quote = at + name.size() + 1;
    if (quote >= tag.size()) break;
    const bool whole = std::string_view(" \t\r\n").find(tag[at - 1]) != std::string_view::npos;
    if (!whole || tag[quote - 1] != '=' || (tag[quote] != '"' && tag[quote] != '\'')) continue;
    const std::string_view rest = tag.substr(quote + 1);
    return rest.substr(0, rest.find(tag[quote]));
  }
  return {};
}

// The numbers a text starts with, blanks or commas between them.
std::vector<double> leading_numbers(std::string_view text) {
  std::vector<double> values;
  for (;;) {
    while (!text.empty() && (text.front() == ' ' || text.front() == ',')) text.remove_prefix(1);
    double value = 0.0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end.ec != std::errc()) return values;
    values.push_back(value);
    text.remove_prefix(static_cast<std::size_t>(end.ptr - text.data()));
  }
}

// Of an SVG, from its size or else its view box; 0 when it has neither.
double svg_aspect(std::string_view svg) {
  const std::size_t begin = svg.find("<svg");
  if (begin == std::string_view::npos) return 0.0;
  const std::string_view tag = svg.substr(begin, svg.find('>', begin) - begin);
  const std::string_view width_text = attribute(tag, "width");
  const auto width = leading_numbers(width_text);
  const auto height = leading_numbers(attribute(tag, "height"));
  if (width.size() == 1 && height.size() == 1 && !width_text.ends_with('%')) {
    return height[0] > 0 ? width[0] / height[0] : 0.0;
  }
  const auto box = leading_numbers(attribute(tag, "viewBox"));
  return box.size() == 4 && box[3] > 0 ? box[2] / box[3] : 0.0;
}

// Width over height of a PNG, whose header has them, or an SVG; 0 when it is not known.
double aspect(std::string_view picture) {
  if (!picture.starts_with('\x89')) return svg_aspect(picture);
  if (picture.size() < 24) return 0.0;
  const auto word = [&](std::size_t at) {
    double value = 0.0;
    for (std::size_t i = at; i < at + 4; ++i) {
      value = value * 256 + static_cast<unsigned char>(picture[i]);
    }
    return value;
  };
  return word(20) > 0 ? word(16) / word(20) : 0.0;
}

std::string figure_html(const ReportFigure& figure) {
  const std::string bytes = read_file(figure.path, std::uint64_t{64} << 20U);
  std::string out =
      str("<figure class=\"card", aspect(bytes) > 1.7 ? " full" : "", "\"><img alt=\"",
          escape(figure.title), "\" src=\"", data_uri(figure.path, bytes), "\">");
  if (!figure.caption.empty()) out += "<figcaption>" + escape(figure.caption) + "</figcaption>";
  return out + "</figure>\n";
}

std::string example_html(const LabelledExample& row, double strongest) {
  const double part = strongest > 0
                          ? std::clamp(static_cast<double>(row.example.value) / strongest, 0.0, 1.0)
                          : 0.0;
  const auto hundredths = static_cast<int>(part * 100);
  const RowLabel label = detail::fit_label(row.label, kContext);
  // Blanks around the token stay outside the colour, unless there is nothing else.
  const std::string& token = label.token;
  const std::size_t begin = token.find_first_not_of(' ');
  const std::size_t end =
      begin == std::string::npos ? token.size() : token.find_last_not_of(' ') + 1;
  const std::size_t start = begin == std::string::npos ? 0 : begin;
  std::string text = escape(label.before + token.substr(0, start));
  if (!token.empty()) {
    // The stronger the activation, the stronger the colour.
    text += str("<mark style=\"background:rgba(var(--mark),", 0.25 + 0.0065 * hundredths, ")\">",
                escape(token.substr(start, end - start)), "</mark>", escape(token.substr(end)));
  }
  text += escape(label.after);
  if (text.empty()) text = "<span class=\"none\">(no text)</span>";
  return str("<li title=\"row ", row.example.row, "\"><span class=\"value\">",
             detail::short_number(static_cast<double>(row.example.value)),
             "<i style=\"width:", hundredths, "%\"></i></span><span class=\"text\" dir=\"auto\">",
             text, "</span></li>\n");
}

std::string feature_html(const ReportFeature& feature) {
  std::string out =
      str("<section class=\"card\" id=\"feature-", feature.feature,
          "\"><div class=\"head\"><h3>Feature ", feature.feature, "</h3><span>fires on ",
          detail::percent(feature.density), " of rows</span><span>max ",
          detail::short_number(feature.max_activation), "</span>");
  if (!feature.note.empty()) out += "<span>" + escape(feature.note) + "</span>";
  out += "</div>\n";
  if (feature.examples.empty()) {
    return out + "<p class=\"none\">It never fires on these rows.</p></section>\n";
  }
  out += "<ol class=\"examples\">\n";
  const auto strongest = static_cast<double>(feature.examples.front().example.value);
  for (const LabelledExample& row : feature.examples) out += example_html(row, strongest);
  return out + "</ol></section>\n";
}

// "strength_1.0" as people write it, and to three digits when it is long.
std::string strength_title(const std::string& label) {
  constexpr std::string_view kPrefix = "strength_";
  constexpr std::size_t kLong = 6;
  if (!label.starts_with(kPrefix)) return label;
  std::string number = label.substr(kPrefix.size());
  double value = 0.0;
  const char* const last = number.data() + number.size();
  const auto end = std::from_chars(number.data(), last, value);
  if (number.size() > kLong && end.ec == std::errc() && end.ptr == last) {
    number = detail::short_number(value);
  }
  return "strength " + number;
}

std::string steering_html(const ReportSteering& steering) {
  std::string out = "<section class=\"card\"><div class=\"head\"><h3>" + escape(steering.feature) +
                    "</h3></div>\n";
  for (const auto& [label, text] : steering.texts) {
    std::string_view rest = text;
    std::string prompt;
    if (!steering.prompt.empty() && rest.starts_with(steering.prompt)) {
      prompt = "<span class=\"prompt\">" + escape(steering.prompt, true) + "</span>";
      rest.remove_prefix(steering.prompt.size());
    }
    out += "<div class=\"steer\"><b title=\"" + escape(label) + "\">" +
           escape(strength_title(label)) + "</b><p dir=\"auto\">" + prompt + escape(rest, true) +
           "</p></div>\n";
  }
  return out + "</section>\n";
}

}  // namespace

ReportFeature report_feature(FeatureVisualizer& visualizer, std::int64_t feature, std::int64_t k,
                             std::string note) {
  ReportFeature out;
  out.feature = feature;
  out.examples = visualizer.examples(feature, k);
  out.density = visualizer.stats().density(feature);
  out.max_activation = static_cast<double>(visualizer.stats().max(feature));
  out.note = std::move(note);
  return out;
}

std::string render_report(const Report& report) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
      escape(report.title) + "</title>\n<style>" + kStyle +
      "</style>\n</head>\n<body><main>\n<h1>" + escape(report.title) + "</h1>\n";
  if (!report.summary.empty()) out += "<p class=\"lead\">" + escape(report.summary) + "</p>\n";
  if (!report.tables.empty()) {
    out += "<div class=\"grid facts\">\n";
    for (const ReportTable& table : report.tables) out += table_html(table);
    out += "</div>\n";
  }
  if (!report.features.empty()) {
    out += "<h2>Features</h2>\n<div class=\"wide\">\n";
    for (const ReportFeature& feature : report.features) out += feature_html(feature);
    out += "</div>\n";
  }
  if (!report.steering.empty()) {
    out += "<h2>Steering</h2>\n<div class=\"grid\" style=\"grid-template-columns:1fr\">\n";
    for (const ReportSteering& steering : report.steering) out += steering_html(steering);
    out += "</div>\n";
  }
  if (!report.figures.empty()) {
    out += "<h2>Figures</h2>\n<div class=\"wide\">\n";
    for (const ReportFigure& figure : report.figures) out += figure_html(figure);
    out += "</div>\n";
  }
  if (!report.footer.empty()) out += "<footer>" + escape(report.footer) + "</footer>\n";
  return out + "</main></body>\n</html>\n";
}

std::filesystem::path write_report(const Report& report, const std::filesystem::path& path) {
  write_file_atomic(path, std::string_view(render_report(report)));
  return path;
}

}  // namespace drrik
