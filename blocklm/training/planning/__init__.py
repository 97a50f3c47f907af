"""Whether a run fits its device: counted on fake tensors beforehand, proved by its largest steps before step 0.

plan = make_plan(Steps(config, keys, args, precision, gpu=True), args, gpu_of("6GiB"))
"""
