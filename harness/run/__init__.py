"""Runs: the identity of jobs, the scheduler, the results store and the files written from it."""
