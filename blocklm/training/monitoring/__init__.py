"""What the machine does while a model trains: GPU by NVML, processor, memory, disk and network.

gpus = Gpus()          # raises NoGpus where there is no driver
"""
