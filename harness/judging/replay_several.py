"""The replay of a counterexample to a property of several networks: every network on its part of the assignment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.domain import Counterexample, LgBenchError, WitnessCheck, WitnessVerdict
from harness.formats.assignment import parse_assignment
from harness.formats.compressed import read_text
from harness.formats.counterexample import CounterexampleError, without_verdict
from harness.formats.onnx_file import open_session
from harness.formats.several import Joiner
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib2_query import parse_query
from harness.judging.judge import one_line, text_verdict
from harness.judging.replay import INPUT_TOLERANCE, Replay, Rules, replay_with_outputs


def replay_several(
    networks: Sequence[tuple[str, Path]],
    prop: Path,
    text: str,
    rules: Rules = Rules.Y2026,
    joiner: Joiner | None = None,
) -> Replay:
    """Returns the replay of a VNN-LIB 2.0 witness to a property of several networks; never raises for bad input.

    The networks have to share their whole input. A witness that gives them inputs further apart than the tolerance
    violates nothing; one within it is `unsupported`.

    Args:
        networks: declared name and file of each.
        prop: the property.
        text: the witness; a first line that only says `sat` is passed over.
        rules: whose.
        joiner: keeps networks that were joined before.
    """
    try:
        joined = (joiner or Joiner()).join(networks, prop)
        declared = parse_query(read_text(prop), str(prop)).networks
        tensors = [tensor for network in declared for tensor in (*network.inputs, *network.outputs)]
        values = parse_assignment(without_verdict(text), [(tensor.name, tensor.shape) for tensor in tensors])
        session = open_session(joined.model)
        x, *others = (value.astype(session.input.dtype) for value in values[::2])
        apart = max((float(np.abs(x.astype(np.float64) - other).max(initial=0.0)) for other in others), default=0.0)
        if apart > INPUT_TOLERANCE:
            message = f"the networks' inputs are apart by {apart:.3g}"
            return Replay(WitnessCheck(WitnessVerdict.SPEC_NOT_VIOLATED, message), None)
        if apart:
            message = f"the networks' inputs are apart by {apart:.3g}, which is not replayed"
            return Replay(WitnessCheck(WitnessVerdict.UNSUPPORTED, message), None)
        point = Counterexample(values[0], np.concatenate(values[1::2]))
        return replay_with_outputs(session, parse_property(joined.text, str(prop)), point, rules)
    except CounterexampleError as error:
        return Replay(text_verdict(error), None)
    except LgBenchError as error:
        return Replay(WitnessCheck(WitnessVerdict.UNSUPPORTED, one_line(str(error))), None)
