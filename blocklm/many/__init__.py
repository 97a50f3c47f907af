"""Many repositories, one task each: a list of them is mined or trained on, and each task has its own outcome.

for outcome in run_tasks(mining_tasks(recipe, read_sources(path)), workers=2):
    outcome.name, outcome.state
"""
