// Uses an installed drrik as another project would: public headers, one library.
#include <drrik/base/rng.h>
#include <drrik/base/system.h>
#include <drrik/tensor/tensor.h>

#include <cstdio>
#include <span>
#include <vector>

int main() {
  drrik::Rng rng(42);
  std::vector<float> values(12);
  for (float& value : values) value = rng.normal();
  const auto tensor = drrik::Tensor::from(std::span<const float>(values), {3, 4});
  std::printf("drrik %s: %lld values\n", drrik::version(),
              static_cast<long long>(tensor.elements()));
  return tensor.elements() == 12 ? 0 : 1;
}
