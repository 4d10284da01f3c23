"""What stands in for a model hub: the tiny InternVL, its recipe and the renderer it learns from."""
