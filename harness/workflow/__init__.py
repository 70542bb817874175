"""The main job as idempotent steps: plan and check, fill the run folder, decide what is open, write what was found.

No algorithm is here and nothing is printed: a `Reporter` is told of the progress.
"""
