#include "io/zip.h"

#include "io/io_testing.h"

namespace drrik {
namespace {

using testing::bytes_of;
using testing::expect_data_error;

std::string archive(std::size_t alignment = 1) {
  const testing::TempFolder folder;
  AtomicFile file(folder / "a.zip");
  ZipWriter zip(file);
  zip.add("one", bytes_of("hello"), alignment);
  zip.add("dir/two", bytes_of(""), alignment);
  zip.add("three", bytes_of("world!"), alignment);
  zip.finish();
  file.commit();
  return read_file(folder / "a.zip");
}

std::string content(const ZipReader& zip, std::string_view name) {
  const auto bytes = zip.read(*zip.find(name));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Zip, RoundTripsWithAlignment) {
  for (const std::size_t alignment : {1U, 64U}) {
    const std::string bytes = archive(alignment);
    const ZipReader zip(bytes_of(bytes));
    EXPECT_EQ(zip.entries().size(), 3U);
    EXPECT_EQ(content(zip, "one"), "hello");
    EXPECT_EQ(content(zip, "dir/two"), "");
    EXPECT_EQ(content(zip, "three"), "world!");
    EXPECT_EQ(zip.find("four"), nullptr);
    const auto at = zip.raw(*zip.find("three")).data() - bytes_of(bytes).data();
    EXPECT_EQ(at % static_cast<std::ptrdiff_t>(alignment), 0);
  }
}

TEST(Zip, RefusesEveryTruncation) {
  const std::string whole = archive();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    expect_data_error("zip", [&] { ZipReader(bytes_of(std::string_view(whole).substr(0, n))); });
  }
}

TEST(Zip, EveryFlippedBitIsNoticedOrHarmless) {
  const std::string whole = archive();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
      const auto outcome = testing::outcome_of([&] {
        const ZipReader zip(bytes_of(bytes));
        for (const ZipEntry& entry : zip.entries()) zip.read(entry);
        for (const char* name : {"one", "three"}) {
          if (zip.find(name) != nullptr) {
            EXPECT_EQ(content(zip, name), name[0] == 'o' ? "hello" : "world!");
          }
        }
      });
      EXPECT_TRUE(!outcome.threw || outcome.kind == ErrorKind::kData) << i;
    }
  }
}

TEST(Zip, RefusesRepeatedNamesAndTooManyEntries) {
  const testing::TempFolder folder;
  AtomicFile file(folder / "a.zip");
  ZipWriter zip(file);
  zip.add("x", bytes_of("1"));
  zip.add("x", bytes_of("2"));
  zip.finish();
  file.commit();
  const std::string bytes = read_file(folder / "a.zip");
  expect_data_error("'x' occurs twice", [&] { ZipReader(bytes_of(bytes)); });
  const std::string three = archive();
  expect_data_error("3 entries, wanted at most 2", [&] { ZipReader(bytes_of(three), 2); });
}

TEST(Zip, RefusesACompressionBomb) {
  // An entry that claims a terabyte in a few bytes is refused before anything is allocated.
  std::string bytes = archive();
  const auto central = bytes.find("PK\x01\x02");
  ASSERT_NE(central, std::string::npos);
  bytes[central + 10] = 8;
  for (std::size_t i = 24; i < 28; ++i) bytes[central + i] = '\x7F';
  const ZipReader zip(bytes_of(bytes));
  expect_data_error("claims", [&] { zip.read(*zip.find("one")); });
}

}  // namespace
}  // namespace drrik
