"""Serves completed runs to editors, in the protocols of llama.cpp's `/infill` and OpenAI's `/v1/completions`.

A request is parsed into what is asked, worded as the run was taught, continued by its model, and shaped as its protocol
wants the answer.
"""
