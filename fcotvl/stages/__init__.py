"""One file per stage of the chain: read, call a package, write. The only place that sees paths."""
