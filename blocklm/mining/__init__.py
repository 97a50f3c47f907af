"""Commits become the changes dataset: one row per changed file, filtered with a reason, its secrets redacted.

changes = mine(repositories, recipe.mining)
changes.dataset, changes.report["funnel"]
"""
