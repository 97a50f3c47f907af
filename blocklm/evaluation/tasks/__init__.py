"""What a developer asks of a model, asked of commits it has not seen: each task a function from a commit's hunks to items."""
