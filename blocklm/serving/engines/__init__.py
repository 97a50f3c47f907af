"""Continues prompts: in this process, or on another server of the same model."""
