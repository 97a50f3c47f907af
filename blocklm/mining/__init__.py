"""Turns commits into the changes dataset: one row per changed file, with a drop reason, and without secrets.

changes = mine(repositories, recipe.mining)
changes.dataset, changes.report["funnel"]
"""
