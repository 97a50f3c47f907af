"""Loads a language model and uses it: tokenizer, base model, adapter, precision, generation, likelihood.

config = model_config(recipe.model)
tokenizer, base = load_tokenizer(config), load_base(config, choose_precision(None, None))
"""
