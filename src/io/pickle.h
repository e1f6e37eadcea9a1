#pragma once
// A pickle interpreter that can only make data.
//
// It knows the opcodes of PyTorch's own restricted loader and protocol 4's; values are nodes in an
// arena, so that what a pickle shares or makes circular stays finite here, and the caller turns
// nodes into its own tree. Each opcode makes at most one node and strings are views of the input,
// so memory is bounded by a multiple of the pickle's length. Globals are kept as names; calling
// one goes through the caller's function, which knows an allow-list, and so does giving a state to
// what the caller made.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace drrik {

struct PickleNode {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kText,
    kBytes,
    kList,  ///< A set too.
    kTuple,
    kDict,    ///< items: key, value, key, value, …
    kGlobal,  ///< text: "module name"
    kCaller   ///< Something the caller made; `number` is its own.
  };
  Kind kind = Kind::kNone;
  bool ordered = false;  ///< kDict: an OrderedDict.
  union {
    std::int64_t number = 0;
    double real;
  };
  std::string_view text;
  std::vector<std::uint32_t> items;
};

class Pickle {
 public:
  using Id = std::uint32_t;
  /// Called for REDUCE and NEWOBJ with the global's "module name" and the argument tuple, and for
  /// a persistent id with "" and the id. Returns the new node; throws Error(data) to refuse.
  using Caller = std::function<Id(Pickle&, std::string_view global, Id arguments)>;

  /// Called for BUILD on a kCaller node. Throws Error(data) to refuse.
  using Builder = std::function<void(const Pickle&, Id object, Id state)>;

  /// Runs the pickle. `input` must outlive this object. Throws Error(data) naming the byte.
  Pickle(std::span<const std::byte> input, Caller caller, Builder builder);

  Id root() const { return root_; }
  /// Bytes up to the end of the pickle; what follows in the input was not looked at.
  std::size_t input_used() const { return at_; }
  const PickleNode& node(Id id) const { return nodes_[id]; }
  std::size_t size() const { return nodes_.size(); }
  Id make(PickleNode node);
  /// The items of a tuple node; throws Error(data) when it is none or has fewer than `at_least`.
  const std::vector<Id>& tuple(Id id, std::size_t at_least, std::string_view what) const;
  std::int64_t integer(Id id, std::string_view what) const;
  std::string_view text(Id id, std::string_view what) const;
  /// A string the input does not hold as such; the view lives as long as this object.
  std::string_view intern(std::string text);

 private:
  void run();
  bool step(unsigned char opcode);
  void step_long(std::size_t size);
  void set_items(Id target, std::span<const Id> items);
  void append_items(Id target, std::span<const Id> items);
  std::span<const std::byte> bytes(std::uint64_t size);
  std::uint64_t number(std::size_t size);
  std::string_view line();
  void push(PickleNode node) { stack_.push_back(make(std::move(node))); }
  void push_int(std::int64_t value);
  void push_text(PickleNode::Kind kind, std::uint64_t size);
  void push_container(PickleNode::Kind kind, std::size_t from);
  void push_global(std::string_view module, std::string_view name);
  Id pop();
  Id top() const;
  /// Removes the last mark and returns its place: the items above stay on the stack.
  std::size_t take_mark();
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void build(Id state);
  [[noreturn]] void fail(std::string_view why) const;

  std::span<const std::byte> input_;
  Caller caller_;
  Builder builder_;
  std::size_t at_ = 0;
  std::vector<PickleNode> nodes_;
  std::vector<Id> stack_;
  std::vector<std::size_t> marks_;
  std::vector<std::optional<Id>> memo_;
  std::deque<std::string> interned_;
  Id root_ = 0;
};

}  // namespace drrik
