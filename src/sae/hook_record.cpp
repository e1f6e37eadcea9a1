// Where an autoencoder belongs, as the names of files and folders tell it.

#include <charconv>
#include <cmath>

#include "io/lens_names.h"
#include "sae/format.h"

namespace drrik {

// SAELens speaks TransformerLens's names. What one means can depend on the model, which is not
// here: the record keeps the name as it stands beside our nearest point.
std::string lens_hook_name(const SaeRecord& record) {
  if (!record.foreign_hook_name.empty()) return record.foreign_hook_name;
  const std::string_view place = detail::find_lens_place(record.hook_name);
  return place.empty() || record.layer < 0 ? record.hook_name
                                           : detail::make_lens_name(record.layer, place);
}

void set_hook(const std::string& name, SaeRecord& record) {
  record.hook_name = name;
  record.foreign_hook_name = name;
  const auto parts = detail::split_lens_name(name);
  if (!parts) return;
  record.layer = parts->layer;
  const std::string_view own = detail::find_own_place(parts->place);
  if (!own.empty()) record.hook_name = own;
}

std::optional<std::int64_t> number_after(std::string_view text, std::string_view prefix) {
  for (std::size_t at = text.find(prefix); at != std::string_view::npos;
       at = text.find(prefix, at + 1)) {
    const std::string_view rest = text.substr(at + prefix.size());
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error == std::errc{} && number >= 0) return number;
  }
  return std::nullopt;
}

}  // namespace drrik
