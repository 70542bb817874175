"""The engine's words: what it writes is read as it was, and what no engine of ours writes is refused, not believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.domain import EngineRecord
from harness.formats.engine_protocol import decode_record, encode_record

MASKS = {"relu": np.array([True, False, True] * 5), "empty": np.zeros(0, np.bool_)}
RECORD = EngineRecord(
    np.array([0.5, -1.0]), 2**40, MASKS, entered_bab=True, neurons=15, unstable_nonlinear=3, seconds={"bab": 0.25}
)


def test_a_record_is_read_as_it_was_written() -> None:
    found = decode_record(encode_record(RECORD))
    assert found.root_margins is not None
    assert found.unstable is not None
    assert found.root_margins.tolist() == [0.5, -1.0]
    assert {name: mask.tolist() for name, mask in found.unstable.items()} == {
        name: mask.tolist() for name, mask in MASKS.items()
    }
    assert (found.domains, found.neurons, found.unstable_nonlinear) == (2**40, 15, 3)
    assert (found.entered_bab, found.seconds) == (True, {"bab": 0.25})


@pytest.mark.parametrize(
    "lie",
    [
        {"domains": 10**30},
        {"domains": -1},
        {"neurons": 1e300},
        {"neurons": float("inf")},
        {"unstable_nonlinear": 2**63},
        # 93 GiB of zeros if numpy is asked for them.
        {"unstable": {"relu": [10**11, ""]}},
        {"unstable": {"relu": [-3, "/w=="]}},
        {"unstable": {"relu": [8, "//8="]}},
        {"unstable": {"\ud800": [8, "/w=="]}},
    ],
)
def test_numbers_and_names_that_cannot_be_stored_are_refused(lie: dict[str, Any]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        decode_record(encode_record(RECORD) | lie)
