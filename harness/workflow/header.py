"""The header of a run that is planned: what is recorded of it before its first result."""

from __future__ import annotations

from collections.abc import Mapping

from harness.analysis.summary import RunHeader
from harness.config import REPOSITORY
from harness.tools.contract import Tool
from harness.workflow.finish import now
from harness.workflow.options import RunPlan
from harness.workflow.provenance import provenance


def planned_header(plan: RunPlan, networks: Mapping[str, str], tool: Tool, earlier: RunHeader | None) -> RunHeader:
    """Returns what a plan says of its run, and what the run is made with; what only one kind of run has is not in it.

    Args:
        plan: the run.
        networks: variant to the SHA-256 of its network, as far as they are known.
        tool: the verifier.
        earlier: header of the run that is resumed, whose beginning counts; None where there is none.
    """
    return RunHeader(
        benchmark=plan.benchmark,
        variants=plan.variants,
        inputs=plan.inputs,
        timeout_s=plan.limits.timeout_s,
        device=plan.device.words,
        timeout_on=plan.limits.timeout_on,
        max_domains=plan.limits.max_domains,
        title=plan.title,
        protocol=plan.protocol,
        command=plan.command,
        started_at=earlier.started_at if earlier is not None and earlier.started_at else now(),
        seed=plan.seed,
        tool=plan.tool,
        rules=plan.rules.value,
        arithmetic=plan.arithmetic,
        provenance=provenance(plan, networks, tool.identity(), REPOSITORY),
    )
