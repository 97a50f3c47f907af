"""Compares the base and the tuned model on later commits: exam, tasks, metrics, execution, memorisation.

items = exam_items(samples, tokenizer, max_length)
result = run_exam(items, [Arm("base", ...), Arm("tuned", ...)], answers)
result["delta_percent"], result["interval"]
"""
