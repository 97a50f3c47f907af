"""Training samples from changes: deduplicated, split by time, decontaminated, weighted, rendered as prompts.

curated = curate(changes, recipe.mining)                      # one verdict per hunk
prompts = ModelPrompts(prompts_for(special_tokens, "auto"), special_tokens)
corpus = build_corpus(recipe, repositories, changes, prompts)
corpus.splits["train"], corpus.report["splits"]
"""
