"""The commands: one module a group; the only place that prints."""
