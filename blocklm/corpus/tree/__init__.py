"""The files at the end of training: what they define and use, and the samples that teach it."""
