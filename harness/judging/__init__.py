"""The one place where a tool's answer becomes a result: witness replay, verdicts, conflicts."""
