"""Fits a run to its device: memory is counted on fake tensors beforehand and proved by the largest steps before step 0.

plan = make_plan(Steps(config, keys, args, precision, gpu=True), args, gpu_of("6GiB"))
"""
