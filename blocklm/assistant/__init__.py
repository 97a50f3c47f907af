"""Uses a completed run: generates text, answers in batches, attributes answers to commits, reviews changes.

assistant = Assistant(finished_run(run_dir), Decoding(max_new_tokens=64))
(output,) = assistant.answers([assistant.prompt_builder.text("fn main() {")])
"""
