"""Where records come from: sources, the renderer, mixing and collation."""
