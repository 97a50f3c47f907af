"""Changes become training samples: deduplicated, split by time, decontaminated, weighted, rendered in a model's prompts.

curated = curate(changes, recipe.mining)                      # a verdict per hunk
corpus = build_corpus(recipe, repositories, changes, prompts_for(special_tokens, "auto"), special_tokens)
corpus.splits["train"], corpus.report["splits"]
"""
