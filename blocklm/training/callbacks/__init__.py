"""Callbacks of a training run, one `TrainerCallback` per file."""
