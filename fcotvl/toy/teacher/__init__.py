"""The tiny teacher's training, from nothing but the renderer."""
