"""A language model: tokenizer, base model, adapter, precision, tokenisation, generation, likelihood.

config = model_config(recipe.model)
tokenizer, base = load_tokenizer(config), load_base(config, choose_precision(None, None))
"""
