"""Measures speed and memory for developers, as ratios to named baselines within one run; no package imports it.

python scripts/benchmark.py mining --repo ~/src/project
"""
