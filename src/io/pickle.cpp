// Opcodes: Lib/pickletools.py of CPython; the accepted set follows PyTorch's
// torch/_weights_only_unpickler.py and adds protocol 4's.

#include "io/pickle.h"

#include <bit>

#include "drrik/base/error.h"

namespace drrik {
namespace {

// 64 bytes each: a hostile pickle is refused at half a gigabyte.
constexpr std::size_t kMaxNodes = std::size_t{1} << 23;

using Kind = PickleNode::Kind;

PickleNode simple(Kind kind) {
  PickleNode node;
  node.kind = kind;
  return node;
}

}  // namespace

Pickle::Pickle(std::span<const std::byte> input, Caller caller, Builder builder)
    : input_(input), caller_(std::move(caller)), builder_(std::move(builder)) {
  run();
}

void Pickle::fail(std::string_view why) const { throw_data("pickle: ", why, " at byte ", at_); }

Pickle::Id Pickle::make(PickleNode node) {
  if (nodes_.size() >= kMaxNodes) fail("too many values");
  nodes_.push_back(std::move(node));
  return static_cast<Id>(nodes_.size() - 1);
}

const std::vector<Pickle::Id>& Pickle::tuple(Id id, std::size_t at_least,
                                             std::string_view what) const {
  const PickleNode& found = node(id);
  if (found.kind != Kind::kTuple || found.items.size() < at_least) {
    throw_data("pickle: ", what, ": wanted a tuple of at least ", at_least, " values");
  }
  return found.items;
}

std::int64_t Pickle::integer(Id id, std::string_view what) const {
  if (node(id).kind != Kind::kInt) throw_data("pickle: ", what, ": wanted an integer");
  return node(id).number;
}

std::string_view Pickle::text(Id id, std::string_view what) const {
  if (node(id).kind != Kind::kText) throw_data("pickle: ", what, ": wanted a string");
  return node(id).text;
}

std::string_view Pickle::intern(std::string text) {
  return interned_.emplace_back(std::move(text));
}

std::span<const std::byte> Pickle::bytes(std::uint64_t size) {
  if (size > input_.size() - at_) fail("the pickle ends in the middle");
  const auto out = input_.subspan(at_, static_cast<std::size_t>(size));
  at_ += static_cast<std::size_t>(size);
  return out;
}

std::uint64_t Pickle::number(std::size_t size) {
  const auto from = bytes(size);
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

std::string_view Pickle::line() {
  const std::string_view rest(reinterpret_cast<const char*>(input_.data()) + at_,
                              input_.size() - at_);
  const auto end = rest.find('\n');
  if (end == std::string_view::npos) fail("a line has no end");
  at_ += end + 1;
  return rest.substr(0, end);
}

void Pickle::push_int(std::int64_t value) {
  PickleNode node = simple(Kind::kInt);
  node.number = value;
  push(std::move(node));
}

void Pickle::push_text(Kind kind, std::uint64_t size) {
  const auto from = bytes(size);
  PickleNode node = simple(kind);
  node.text = {reinterpret_cast<const char*>(from.data()), from.size()};
  push(std::move(node));
}

void Pickle::push_container(Kind kind, std::size_t from) {
  PickleNode node = simple(kind);
  node.items.assign(stack_.begin() + static_cast<std::ptrdiff_t>(from), stack_.end());
  stack_.resize(from);
  push(std::move(node));
}

void Pickle::push_global(std::string_view module, std::string_view name) {
  PickleNode node = simple(Kind::kGlobal);
  // GLOBAL's two lines lie side by side in the input but for a newline; a copy is simpler.
  node.text = intern(str(module, ' ', name));
  push(std::move(node));
}

Pickle::Id Pickle::top() const {
  if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) {
    fail("a value is missing");
  }
  return stack_.back();
}

Pickle::Id Pickle::pop() {
  const Id id = top();
  stack_.pop_back();
  return id;
}

std::size_t Pickle::take_mark() {
  if (marks_.empty()) fail("a mark is missing");
  const std::size_t mark = marks_.back();
  marks_.pop_back();
  return mark;
}

void Pickle::remember(std::uint64_t index) {
  // Every memo entry takes an opcode, so honest indices are below the pickle's length.
  if (index > input_.size()) fail("a memo index is out of range");
  const auto i = static_cast<std::size_t>(index);
  if (i >= memo_.size()) memo_.resize(i + 1);
  memo_[i] = top();
}

void Pickle::recall(std::uint64_t index) {
  if (index >= memo_.size() || !memo_[static_cast<std::size_t>(index)]) {
    fail("a memo entry is missing");
  }
  stack_.push_back(*memo_[static_cast<std::size_t>(index)]);
}

void Pickle::append_items(Id target, std::span<const Id> items) {
  PickleNode& list = nodes_[target];
  if (list.kind != Kind::kList) fail("values are appended to what is no list");
  list.items.insert(list.items.end(), items.begin(), items.end());
}

void Pickle::set_items(Id target, std::span<const Id> items) {
  PickleNode& dict = nodes_[target];
  if (dict.kind != Kind::kDict) fail("members are set in what is no dict");
  if (items.size() % 2 != 0) fail("a key has no value");
  dict.items.insert(dict.items.end(), items.begin(), items.end());
}

void Pickle::build(Id state) {
  const PickleNode& target = node(top());
  if (target.kind == Kind::kCaller) return builder_(*this, top(), state);
  // OrderedDict carries attributes (a state dict's _metadata); nothing else may have a state.
  if (target.kind != Kind::kDict || !target.ordered) fail("an object's state is not supported");
}

void Pickle::step_long(std::size_t size) {
  const auto from = bytes(size);
  if (size > 8) fail("an integer has more than 64 bits");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  // Two's complement of `size` bytes: the top bit fills what is above.
  if (size > 0 && size < 8 && (value >> (8 * size - 1)) != 0)
    value |= ~std::uint64_t{0} << (8 * size);
  push_int(static_cast<std::int64_t>(value));
}

void Pickle::run() {
  while (step(static_cast<unsigned char>(number(1)))) {
  }
}

bool Pickle::step(unsigned char opcode) {
  switch (opcode) {
    case 0x80: {  // PROTO
      const auto version = number(1);
      if (version < 2 || version > 5) fail("unknown protocol");
      return true;
    }
    case 0x95:  // FRAME: the length is a hint for buffering
      number(8);
      return true;
    case '.':  // STOP
      root_ = pop();
      return false;
    case '(':  // MARK
      marks_.push_back(stack_.size());
      return true;
    case '0':  // POP
      pop();
      return true;
    case 'N':
      push(simple(Kind::kNone));
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
    {
      PickleNode node = simple(Kind::kBool);
      node.number = opcode == 0x88 ? 1 : 0;
      push(std::move(node));
      return true;
    }
    case 'J':  // BININT
      push_int(static_cast<std::int32_t>(static_cast<std::uint32_t>(number(4))));
      return true;
    case 'K':  // BININT1
      push_int(static_cast<std::int64_t>(number(1)));
      return true;
    case 'M':  // BININT2
      push_int(static_cast<std::int64_t>(number(2)));
      return true;
    case 0x8a:  // LONG1
      step_long(static_cast<std::size_t>(number(1)));
      return true;
    case 'G': {  // BINFLOAT, big-endian
      std::uint64_t bits = 0;
      for (const std::byte b : bytes(8)) bits = bits << 8 | std::to_integer<std::uint64_t>(b);
      PickleNode node = simple(Kind::kFloat);
      node.real = std::bit_cast<double>(bits);
      push(std::move(node));
      return true;
    }
    case 'X':  // BINUNICODE
      push_text(Kind::kText, number(4));
      return true;
    case 0x8c:  // SHORT_BINUNICODE
    case 'U':   // SHORT_BINSTRING: Python 2's str
      push_text(Kind::kText, number(1));
      return true;
    case 'T':  // BINSTRING
      push_text(Kind::kText, number(4));
      return true;
    case 0x8d:  // BINUNICODE8
      push_text(Kind::kText, number(8));
      return true;
    case 'C':  // SHORT_BINBYTES
      push_text(Kind::kBytes, number(1));
      return true;
    case 'B':  // BINBYTES
      push_text(Kind::kBytes, number(4));
      return true;
    case 0x8e:  // BINBYTES8
      push_text(Kind::kBytes, number(8));
      return true;
    case ')':  // EMPTY_TUPLE
      push(simple(Kind::kTuple));
      return true;
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
    {
      const std::size_t count = opcode - 0x84U;
      const std::size_t floor = marks_.empty() ? 0 : marks_.back();
      if (stack_.size() - floor < count) fail("a value is missing");
      push_container(Kind::kTuple, stack_.size() - count);
      return true;
    }
    case 't':  // TUPLE
      push_container(Kind::kTuple, take_mark());
      return true;
    case ']':   // EMPTY_LIST
    case 0x8f:  // EMPTY_SET
      push(simple(Kind::kList));
      return true;
    case 0x91:  // FROZENSET
    case 'l':   // LIST
      push_container(Kind::kList, take_mark());
      return true;
    case 'a': {  // APPEND
      const Id item = pop();
      append_items(top(), {&item, 1});
      return true;
    }
    case 'e':   // APPENDS
    case 0x90:  // ADDITEMS
    case 'u':   // SETITEMS
    {
      const std::size_t mark = take_mark();
      const std::vector<Id> items(stack_.begin() + static_cast<std::ptrdiff_t>(mark), stack_.end());
      stack_.resize(mark);
      if (opcode == 'u') {
        set_items(top(), items);
      } else {
        append_items(top(), items);
      }
      return true;
    }
    case '}':  // EMPTY_DICT
      push(simple(Kind::kDict));
      return true;
    case 's': {  // SETITEM
      const Id value = pop();
      const Id key = pop();
      const Id pair[] = {key, value};
      set_items(top(), pair);
      return true;
    }
    case 'c': {  // GLOBAL
      const std::string_view module = line();
      push_global(module, line());
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const Id name = pop();
      const Id module = pop();
      push_global(text(module, "a global's module"), text(name, "a global's name"));
      return true;
    }
    case 'q':  // BINPUT
      remember(number(1));
      return true;
    case 'r':  // LONG_BINPUT
      remember(number(4));
      return true;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      return true;
    case 'h':  // BINGET
      recall(number(1));
      return true;
    case 'j':  // LONG_BINGET
      recall(number(4));
      return true;
    case 'Q': {  // BINPERSID
      const Id id = pop();
      stack_.push_back(caller_(*this, "", id));
      return true;
    }
    case 'R':   // REDUCE
    case 0x81:  // NEWOBJ
    {
      const Id arguments = pop();
      const Id callee = pop();
      if (node(callee).kind != Kind::kGlobal) fail("what is called is no global");
      stack_.push_back(caller_(*this, node(callee).text, arguments));
      return true;
    }
    case 'b':  // BUILD
      build(pop());
      return true;
    default:
      fail(str("opcode ", static_cast<unsigned>(opcode), " is not allowed or damaged"));
  }
}

}  // namespace drrik
