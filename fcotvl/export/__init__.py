"""Students as folders that transformers loads, with a model card."""
