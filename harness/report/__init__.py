"""A run as people read it: tables, figures, and one self-contained page."""

from harness.report.page import write_report

__all__ = ["write_report"]
