"""The exam: bits per byte of the lines that later commits added, by arm, with intervals over commits.

result = compare(items, {"base": base_bits, "tuned": tuned_bits})
"""
