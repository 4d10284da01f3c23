"""Where records come from: readers, the renderer, intake, mixing and the audit."""
