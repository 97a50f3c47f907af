"""Runs the largest steps of a recipe on this device with random weights: memory by part, speed, and whether they fit.

measured = measure(Trial(recipe, config, source, plan), meter_of_device())
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch is loaded: its profiler writes each start to stderr
