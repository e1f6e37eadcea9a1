#include <array>

#include "drrik/base/error.h"
#include "drrik/io/torch_file.h"

namespace drrik {
namespace {

constexpr std::array<std::string_view, 10> kKindNames = {
    "None", "bool", "int", "float", "string", "bytes", "list", "tuple", "dict", "tensor"};

}  // namespace

PtValue::PtValue(std::string value)
    : kind_(Kind::kString), value_(std::make_shared<const std::string>(std::move(value))) {}

PtValue::PtValue(Tensor tensor)
    : kind_(Kind::kTensor), value_(std::make_shared<const Tensor>(std::move(tensor))) {}

PtValue::PtValue(std::shared_ptr<const Tensor> tensor)
    : kind_(Kind::kTensor), value_(std::move(tensor)) {}

PtValue PtValue::bytes(std::string value) {
  PtValue out(std::move(value));
  out.kind_ = Kind::kBytes;
  return out;
}

PtValue PtValue::list(std::vector<PtValue> items) {
  PtValue out;
  out.kind_ = Kind::kList;
  out.value_ = std::make_shared<Items>(std::move(items));
  return out;
}

PtValue PtValue::tuple(std::vector<PtValue> items) {
  PtValue out = list(std::move(items));
  out.kind_ = Kind::kTuple;
  return out;
}

PtValue PtValue::dict(bool ordered, std::vector<Member> members) {
  PtValue out;
  out.kind_ = Kind::kDict;
  out.ordered_ = ordered;
  out.value_ = std::make_shared<Members>(std::move(members));
  return out;
}

std::string_view PtValue::kind_name() const {
  return kKindNames.at(static_cast<std::size_t>(kind_));
}

void PtValue::throw_kind(std::string_view wanted) const {
  throw_data("got a ", kind_name(), ", wanted a ", wanted);
}

template <typename T>
const T& PtValue::held(Kind kind) const {
  if (kind_ != kind) throw_kind(kKindNames.at(static_cast<std::size_t>(kind)));
  return std::get<T>(value_);
}

bool PtValue::as_bool() const { return held<bool>(Kind::kBool); }
std::int64_t PtValue::as_int() const { return held<std::int64_t>(Kind::kInt); }

double PtValue::as_double() const {
  if (kind_ == Kind::kInt) return static_cast<double>(as_int());
  return held<double>(Kind::kFloat);
}

const std::string& PtValue::as_string() const {
  const Kind kind = kind_ == Kind::kBytes ? Kind::kBytes : Kind::kString;
  return *held<std::shared_ptr<const std::string>>(kind);
}

const std::vector<PtValue>& PtValue::items() const {
  const Kind kind = kind_ == Kind::kTuple ? Kind::kTuple : Kind::kList;
  return *held<std::shared_ptr<Items>>(kind);
}

const std::vector<PtValue::Member>& PtValue::members() const {
  return *held<std::shared_ptr<Members>>(Kind::kDict);
}

bool PtValue::ordered() const {
  members();
  return ordered_;
}

const Tensor& PtValue::as_tensor() const { return *shared_tensor(); }

std::shared_ptr<const Tensor> PtValue::shared_tensor() const {
  return held<std::shared_ptr<const Tensor>>(Kind::kTensor);
}

const PtValue* PtValue::find(std::string_view key) const {
  for (const Member& member : members()) {
    if (member.first.kind_ == Kind::kString && member.first.as_string() == key) {
      return &member.second;
    }
  }
  return nullptr;
}

const PtValue& PtValue::get(std::string_view key) const {
  if (const PtValue* found = find(key)) return *found;
  std::vector<std::string> keys;
  for (const Member& member : members()) {
    if (member.first.kind_ == Kind::kString) keys.push_back(member.first.as_string());
  }
  throw_data("no member '", key, "'", did_you_mean(key, keys));
}

void PtValue::set(PtValue key, PtValue value) {
  auto& to = *held<std::shared_ptr<Members>>(Kind::kDict);
  if (key.kind_ == Kind::kString) {
    for (Member& member : to) {
      if (member.first.kind_ == Kind::kString && member.first.as_string() == key.as_string()) {
        member.second = std::move(value);
        return;
      }
    }
  }
  to.emplace_back(std::move(key), std::move(value));
}

void PtValue::add(PtValue item) {
  held<std::shared_ptr<Items>>(Kind::kList)->push_back(std::move(item));
}

}  // namespace drrik
