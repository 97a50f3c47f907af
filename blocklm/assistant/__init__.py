"""A completed run put to use: generate, answer in batches, attribute an answer to commits, review a change.

assistant = Assistant(finished_run(run_dir), Decoding(max_new_tokens=64))
(output,) = assistant.answers([assistant.prompt_builder.text("fn main() {")])
"""
