"""The exam: bits per byte of what later commits added, by arm, with intervals over commits.

result = compare(items, {"base": base_bits, "tuned": tuned_bits})
"""
