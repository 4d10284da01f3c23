"""One file per stage of the chain: read, call a room, write. The only place that sees paths."""
