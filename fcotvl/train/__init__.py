"""Training: the teacher's recipe, distillation, rejection sampling and fine-tuning."""
