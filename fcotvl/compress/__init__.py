"""The paper's model: InternVL with a visual-token compressor, its processor and checkpoints."""
