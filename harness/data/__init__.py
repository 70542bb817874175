"""Data sets: the embedded samples, folders that a user already has, downloads, and the study's splits."""
