#pragma once
// The plug-in for Parquet and Arrow, loaded when first asked for.

#include "data/arrow/plugin.h"

namespace drrik {

/// The plug-in; loads it in the first call. Throws Error(data) saying what is missing and what can
/// be done. Thread-safe.
const ColumnarPlugin& arrow_plugin();

}  // namespace drrik
