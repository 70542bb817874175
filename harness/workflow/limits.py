"""Limits as a user asks for them. Apart from planning, so that deciding one instance loads no specification reader."""

from __future__ import annotations

from harness.domain import Limits, UsageError


def make_limits(timeout_s: float, max_domains: int | None, on: str = "work") -> Limits:
    """Returns the limits that the user asked for, in batch mode unless `on` is `wall`.

    Raises:
        UsageError: a value is out of range.
    """
    try:
        return Limits(timeout_s, on, max_domains)
    except ValueError as error:
        raise UsageError(f"{error}; correct --timeout or --max-domains") from error
