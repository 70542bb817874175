"""Verifiers behind one contract; nothing here imports a verifier, each runs in a process of its own."""
