#include "drrik/text/tokenizer.h"

#include <gtest/gtest.h>

#include "drrik/base/error.h"

namespace drrik {
namespace {

TEST(Tokenizer, RefusesWhatIsNotJson) { EXPECT_THROW(Tokenizer::from_json("{"), Error); }

}  // namespace
}  // namespace drrik
