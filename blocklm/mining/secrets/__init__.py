"""What secrets and people look like, where they stand, and which of them were seen before; values are never stored."""
