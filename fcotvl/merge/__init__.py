"""Merging checkpoints: what each contributes, what it weighs, and the weighted average."""
