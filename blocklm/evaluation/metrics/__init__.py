"""Offers `blocklm.evaluation.text_metrics` as modules of `evaluate`: `evaluate.load(PATH)` needs no network."""
