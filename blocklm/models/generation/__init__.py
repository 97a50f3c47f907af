"""Lets a model write: answers to prompts in batches, which may begin within a token.

(output,) = generate(loaded, [tokens], Decoding(max_new_tokens=64))
"""
