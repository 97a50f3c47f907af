"""Developers' measurements against named baselines, as ratios within one run; nothing imports them.

python scripts/benchmark.py mining --repo ~/src/project
"""
