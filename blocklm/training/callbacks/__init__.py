"""What watches a training run: one `TrainerCallback` per file."""
