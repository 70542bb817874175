"""lg-bench: neural-network verification with and without linearity grafting."""
