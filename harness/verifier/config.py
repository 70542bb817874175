"""Settings of the engine, as one frozen value that is passed down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttackConfig:
    """One round of projected gradient descent."""

    restarts: int
    steps: int
    step_size: float = 0.3
    """First step, as a share of the box's radius."""
    decay: float = 0.95
    """What the step is multiplied by after each step."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything that determines the engine's answers beside network, property and limits."""

    seed: int = 0
    device: str = "cpu"
    """`cpu` or `cuda`."""
    arithmetic: str = "float32"
    """What `unsat` speaks of: `float32`, every float32 evaluation of the network and its exact values; or `real`, its
    exact values alone, which is what verifiers commonly mean."""
    first_attack: AttackConfig = AttackConfig(restarts=1, steps=10)
    """On every input, against all violation regions at once, before any bound."""
    second_attack: AttackConfig = AttackConfig(restarts=3, steps=20)
    """On the regions that root bounds leave open, each for itself."""
    last_attack: AttackConfig = AttackConfig(restarts=64, steps=150, step_size=2.0, decay=0.97)
    """On the open regions of an input whose tree is not small, before it is searched at length."""
    last_attack_work: float = 6e10
    """Multiply-adds that it may take, a few seconds: with a large network or many regions it has fewer restarts."""
    last_attack_share: float = 0.05
    """And the share of the time left that it may take; the search behind it must not wait for long."""
    refining_share: float = 0.15
    """Share of the time left for better hidden bounds of a large tree."""
    attack_batch: int = 256
    """Points of one attack batch."""
    root_iterations: int = 10
    """Steps on alpha at the root of branch and bound."""
    iterations: int = 2
    """Steps on alpha and beta in every other domain."""
    sift_every: int = 6
    """Splits after which a domain is looked at for having no point; it grows where few are found."""
    look_ahead: bool = True
    """Whether candidates for a split are tried before one is chosen."""
    leaf_iterations: int = 100
    """Steps where every neuron is split and only the multipliers are left to improve."""
    alpha_step: float = 0.4
    beta_step: float = 0.5
    """Relative to the size of the neuron's coefficient."""
    workers: int = 2
    """Inputs in branch and bound at the same time, each in its own thread."""
    tiny_slices: int = 2
    """Slices of work (0.05 to 0.1 s) that an input's search gets before those of the other inputs have had theirs."""
    small_slices: int = 12
    """Slices before a tree counts as large, which is worth a longer attack and better bounds."""
    held_bytes: int = 1 << 29
    """Memory for searches that wait for their next turn; those that do not fit start over."""
    short_search: int = 2000
    """Limits on domains up to which the search begins at once: nothing that prepares a long one would pay."""
    max_open_domains: int = 40_000
    """Open domains of one input; more than that is `unknown` (memory)."""
    split_inputs_up_to: int = 16
    """Networks with at most so many inputs are split by input instead of by neuron."""
    first_group: int = 8
    """Inputs of the first group: a small one, so that the workers do not wait for many properties to be read."""
    group: int = 32
    """Inputs of every other group: those that are attacked together first; meanwhile earlier groups are bounded."""
    sparse_entries: int = 30_000_000
    """Networks with at most so many weights, convolutions written out, are bounded in sparse form on a CPU."""
    light_entries: int = 3_000_000
    """On the wall clock, networks with at most so many weights are bounded by torch first: what that proves needs no
    compiled code, which takes a second to load."""
