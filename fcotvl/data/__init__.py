"""Where records come from: readers, decoding, prefetching, mixing and the audit."""
