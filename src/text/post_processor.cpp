#include "text/post_processor.h"

#include "drrik/base/error.h"
#include "text/normalizer.h"

namespace drrik::text {
namespace {

// Special tokens around a text; templates of real models have one or two.
constexpr std::size_t kMaxSpecial = 1024;

void add(const Node& node, int depth, PostProcessor& out);

/// The id in ["token", id].
std::int32_t pair_id(const Node& node) {
  const std::vector<Node> items = node.items();
  if (items.size() != 2) node.fail("[token, id] is wanted");
  return items[1].id();
}

void wrap(const std::vector<std::int32_t>& before, const std::vector<std::int32_t>& after,
          PostProcessor& out) {
  out.prefix.insert(out.prefix.begin(), before.begin(), before.end());
  out.suffix.insert(out.suffix.end(), after.begin(), after.end());
}

void add_nothing(const Node&, int, PostProcessor&) {}

void add_around(const Node& node, int, PostProcessor& out) {
  wrap({pair_id(node.get("cls"))}, {pair_id(node.get("sep"))}, out);
}

void add_template(const Node& node, int, PostProcessor& out) {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
  bool seen = false;
  const Node single = node.get("single");
  for (const Node& item : single.items()) {
    if (const auto sequence = item.find("Sequence")) {
      if (sequence->get("id").string() != "A" || seen) {
        item.fail("a template for one text holds sequence A once");
      }
      seen = true;
      continue;
    }
    const Node special = item.get("SpecialToken");
    const Node ids = node.get("special_tokens").get(special.get("id").string()).get("ids");
    for (const Node& id : ids.items()) (seen ? after : before).push_back(id.id());
    if (before.size() + after.size() > kMaxSpecial) node.fail("too many special tokens");
  }
  if (!seen) single.fail("a template without the text itself");
  wrap(before, after, out);
}

void add_sequence(const Node& node, int depth, PostProcessor& out) {
  for (const Node& item : node.get("processors").items()) add(item, depth + 1, out);
}

struct Entry {
  const char* type;
  void (*add)(const Node&, int depth, PostProcessor&);
};

constexpr Entry kProcessors[] = {
    {"BertProcessing", add_around},       {"ByteLevel", add_nothing},
    {"RobertaProcessing", add_around},    {"Sequence", add_sequence},
    {"TemplateProcessing", add_template},
};

void add(const Node& node, int depth, PostProcessor& out) {
  if (depth > kMaxSequenceDepth) node.fail("sequences nested too deeply");
  const std::string_view type = node.get("type").string();
  std::vector<std::string> known;
  for (const Entry& entry : kProcessors) {
    if (type == entry.type) {
      entry.add(node, depth, out);
      if (out.prefix.size() + out.suffix.size() > kMaxSpecial) node.fail("too many special tokens");
      return;
    }
    known.emplace_back(entry.type);
  }
  node.fail(str("post-processor type '", type, "' is not known; known: ", join(known)));
}

}  // namespace

PostProcessor make_post_processor(const Node& node) {
  PostProcessor out;
  add(node, 0, out);
  return out;
}

}  // namespace drrik::text
