"""The paper's training: distillation (section 3.1), rationales and resampled fine-tuning (3.2)."""
