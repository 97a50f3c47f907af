"""Patterns of secrets and people, and a memory of secrets found before, which never stores their values."""
