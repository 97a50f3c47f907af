"""`blocklm.evaluation.text_metrics` as modules of `evaluate`: `evaluate.load(PATH_OF_ONE)` reads them without a network."""
