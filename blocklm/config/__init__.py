"""What a user may set, and the strict reading of it, in under a second and without torch.

A recipe is a flat YAML file. Its keys are those of TRL's `SFTConfig` and `ModelConfig`, by their own names, and ours,
with one module for each group.

    recipe = parse_recipe(["recipes/quickstart.yaml", "--repo", "~/src/project"])
    recipe.mining.repo, recipe.training["learning_rate"]
"""
