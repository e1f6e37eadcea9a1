// Uses an installed drrik as another project would: public headers, one library.
#include <drrik/base/rng.h>
#include <drrik/base/system.h>
#include <drrik/data/source.h>
#include <drrik/tensor/tensor.h>

#include <cstdio>
#include <span>
#include <vector>

int main(int argc, char** argv) {
  if (argc > 1) {
    // Through the plug-in, where the installed package says it lies.
    drrik::DatasetOptions dataset;
    dataset.path = argv[1];
    return drrik::open_dataset(dataset)->next().has_value() ? 0 : 1;
  }
  drrik::Rng rng(42);
  std::vector<float> values(12);
  for (float& value : values) value = rng.normal();
  const auto tensor = drrik::Tensor::from(std::span<const float>(values), {3, 4});
  std::printf("drrik %s: %lld values\n", drrik::version(),
              static_cast<long long>(tensor.elements()));
  return tensor.elements() == 12 ? 0 : 1;
}
