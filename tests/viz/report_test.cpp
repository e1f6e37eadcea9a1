// The report: well-formed, escaped, complete.

#include "drrik/viz/report.h"

#include <gtest/gtest.h>

#include <fstream>

#include "drrik/base/error.h"
#include "viz/fixtures.h"
#include "viz/xml.h"

namespace drrik {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;
using testing::xml_error;

// Void elements closed and the style left out, so that the XML check can read HTML.
std::string as_xml(std::string html) {
  const std::size_t style = html.find("<style>");
  html.erase(style, html.find("</style>") + 8 - style);
  for (const char* tag : {"<meta", "<img"}) {
    for (std::size_t at = html.find(tag); at != std::string::npos; at = html.find(tag, at + 1)) {
      html.insert(html.find('>', at), "/");
    }
  }
  return html;
}

Report sample_report(const fs::path& folder) {
  const fs::path picture = folder / "picture.svg";
  std::ofstream(picture) << "<svg xmlns='http://www.w3.org/2000/svg'/>";
  Report report;
  report.title = "A <title> & more";
  report.summary = "One sentence.";
  report.tables = {{"Model", {{"model", "demo"}, {"a<b", "\"quoted\" & 'single'"}}}};
  report.figures = {{"Density", picture, "How often \x01 features <fire>."}};
  ReportFeature feature;
  feature.feature = 12;
  feature.density = 0.25;
  feature.max_activation = 4.5;
  feature.note = "densest";
  feature.examples = {{{4.5F, 3}, {"the old", " sea", " was <calm>\n\xff"}},
                      {{1.5F, 9}, {"<script>alert(1)</script>", "", ""}},
                      {{0.5F, 1}, {"", "", ""}}};
  report.features = {feature, {}};
  report.steering = {{"Once",
                      "Feature 12",
                      {{"baseline", "Once upon <b>"}, {"strength_2.0", "Once\nsea\r\nsea"}}}};
  report.footer = "drrik run";
  return report;
}

TEST(Report, IsWellFormedAndEscaped) {
  const ScratchFolder folder;
  const std::string html = render_report(sample_report(folder.path()));
  EXPECT_EQ(xml_error(as_xml(html)), "");
  EXPECT_EQ(html.find("<script>"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;"), std::string::npos);
  EXPECT_NE(html.find("<title>A &lt;title&gt; &amp; more</title>"), std::string::npos);
  EXPECT_NE(html.find("&quot;quoted&quot; &amp; &#39;single&#39;"), std::string::npos);
}

TEST(Report, ShowsWhatItIsGiven) {
  const ScratchFolder folder;
  const std::string html = render_report(sample_report(folder.path()));
  // The token is marked without the blank before it.
  EXPECT_NE(html.find("the old <mark"), std::string::npos);
  EXPECT_NE(html.find(">sea</mark>"), std::string::npos);
  EXPECT_NE(html.find("(no text)"), std::string::npos);
  EXPECT_NE(html.find("It never fires on these rows."), std::string::npos);
  EXPECT_NE(html.find("fires on 25.0 % of rows"), std::string::npos);
  EXPECT_NE(html.find("strength 2.0"), std::string::npos);
  EXPECT_NE(html.find("<span class=\"prompt\">Once</span>\nsea\nsea"), std::string::npos);
  // "<svg xmlns='http://www.w3.org/2000/svg'/>" in base 64.
  EXPECT_NE(html.find("data:image/svg+xml;base64,"
                      "PHN2ZyB4bWxucz0naHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmcnLz4="),
            std::string::npos);
}

TEST(Report, GivesWidePicturesTheWholeWidth) {
  const ScratchFolder folder;
  const auto wide = [&](const std::string& bytes) {
    Report report;
    report.figures = {{"picture", folder.path() / "picture", ""}};
    std::ofstream(report.figures[0].path, std::ios::binary) << bytes;
    return render_report(report).find("class=\"card full\"") != std::string::npos;
  };
  const auto png = [](char width, char height) {
    std::string bytes = "\x89PNG\r\n\x1a\n....IHDR";
    for (const char side : {width, height}) bytes += std::string(3, '\0') + side;
    return bytes;
  };
  EXPECT_TRUE(wide(png(20, 10)));
  EXPECT_FALSE(wide(png(10, 10)));
  // As gnuplot writes it, and as others may.
  EXPECT_TRUE(
      wide("<?xml version=\"1.0\" encoding=\"utf-8\"  standalone=\"no\"?>\n<svg \n "
           "width=\"1248\" height=\"725\"\n viewBox=\"0 0 1248 725\">\n</svg>"));
  EXPECT_FALSE(wide("<svg width='500' height='400'></svg>"));
  EXPECT_TRUE(wide("<svg stroke-width='1' height='20.5pt' width='60pt'></svg>"));
  EXPECT_TRUE(wide("<svg width='100%' height='100%' viewBox='0,0, 20 10'></svg>"));
  EXPECT_FALSE(wide("<svg width='9' height='0'></svg>"));
  EXPECT_FALSE(wide("<svg><rect width='9' height='2'/></svg>"));
  for (const char* broken : {"<svg", "<svg width", "<svg width=", "<svg width='", "<svg width='x'",
                             "<svg viewBox='1 2 3'>", "<?xml"}) {
    EXPECT_FALSE(wide(broken)) << broken;
  }
}

TEST(Report, KeepsStrengthsShort) {
  const auto title = [](const std::string& label) {
    Report report;
    report.steering = {{"", "Feature 1", {{label, "text"}}}};
    const std::string html = render_report(report);
    const std::size_t begin = html.find("class=\"steer\"><b") + 15;
    return html.substr(html.find('>', begin) + 1,
                       html.find("</b>", begin) - html.find('>', begin) - 1);
  };
  EXPECT_EQ(title("baseline"), "baseline");
  EXPECT_EQ(title("strength_1.0"), "strength 1.0");
  EXPECT_EQ(title("strength_-0.25"), "strength -0.25");
  EXPECT_EQ(title("strength_30.03185272216797"), "strength 30.0");
  EXPECT_EQ(title("strength_0.012345"), "strength 0.0123");
  EXPECT_EQ(title("strength_1234.56"), "strength 1,235");
  EXPECT_EQ(title("strength_100.0"), "strength 100.0");
  EXPECT_EQ(title("strength_1e+20"), "strength 1e+20");
  EXPECT_EQ(title("strength_strong"), "strength strong");
  EXPECT_EQ(title("strength_1.234567x"), "strength 1.234567x");
  EXPECT_EQ(title("strength_"), "strength ");
  // The whole one is kept.
  Report report;
  report.steering = {{"", "", {{"strength_30.03185272216797", "text"}}}};
  EXPECT_NE(render_report(report).find("title=\"strength_30.03185272216797\""), std::string::npos);
}

TEST(Report, LoadsNothingFromElsewhere) {
  const ScratchFolder folder;
  const std::string html = render_report(sample_report(folder.path()));
  for (const char* sign : {"http:", "https:", "src=\"/", "@import", "url("}) {
    EXPECT_EQ(html.find(sign), std::string::npos) << sign;
  }
}

TEST(Report, IsWritten) {
  const ScratchFolder folder;
  const fs::path path = folder.path() / "new" / "report.html";
  EXPECT_EQ(write_report(sample_report(folder.path()), path), path);
  EXPECT_GT(fs::file_size(path), 3000U);
  EXPECT_NE(render_report({}).find("</html>"), std::string::npos);
}

TEST(Report, RefusesWhatIsNoPicture) {
  const ScratchFolder folder;
  Report report = sample_report(folder.path());
  std::ofstream(folder.path() / "picture.svg") << "text";
  EXPECT_THROW(render_report(report), Error);
  report.figures[0].path = folder.path() / "missing.png";
  EXPECT_THROW(render_report(report), Error);
}

}  // namespace
}  // namespace drrik
