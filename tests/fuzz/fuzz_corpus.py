"""What the readers are given: small good files of every kind, and ways to damage them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "verifier"))

Random = np.random.Generator

PLAIN = """; a comment
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -0.5))
(assert (<= X_0 5e-1))
(assert (>= X_1 0.0))
(assert (<= X_1 1.0))
(assert (or
    (and (>= Y_0 Y_1) (<= Y_0 3.5))
    (and (< (+ Y_0 (* 2.0 Y_1)) 1.0))
    (and (<= X_0 0.25) (>= Y_1 1))
))
"""
QUERY = """; a comment
(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,2])
  (declare-output Y float32 [1,2])
)
(assert (>= X[0,0] -0.5))
(assert (<= X[0,0] 0.5))
(assert (>= X[0,1] 0.0))
(assert (<= X[0,1] 1.0))
(assert (or (>= Y[0,0] Y[0,1]) (and (< (+ Y[0,0] (* 2.0 Y[0,1])) 1.0) (!= Y[0,0] 0.5))))
"""
PAIR = """(vnnlib-version <2.0>)
(declare-network f (declare-input A float32 [1,2]) (declare-output P float32 [1]))
(declare-network g (isomorphic-to f) (declare-input B float32 [1,2]) (declare-output Q float32 [1]))
(assert (>= A[0,0] -0.1)) (assert (<= A[0,0] 0.1)) (assert (== A[0,0] B[0,0]))
(assert (or (> (- P[0] Q[0]) 0.25) (> (- Q[0] P[0]) 0.25)))
"""
LIST = b"""onnx/net.onnx,vnnlib/p.vnnlib,20
onnx/net.onnx,./vnnlib/q.vnnlib,2.5
"[('f', 'onnx/net.onnx'), ('g', 'onnx/net.onnx')]",vnnlib/q.vnnlib,5
"""
RESULTS = b"""toy,benchmarks/toy/onnx/net.onnx,benchmarks/toy/vnnlib/p.vnnlib,0.5,sat,1.25
toy,benchmarks/toy/onnx/net.onnx,benchmarks/toy/vnnlib/q.vnnlib,0.5,run_instance_timeout,20.0
"""
WITNESS = "sat\n((X_0 0.25)\n(X_1 0.5)\n(Y_0 -1.25e-3)\n(Y_1 3.5))\n"
ASSIGNMENT = "sat\nX float32 [1,2]\n0.25\n0.5\nY float32 [1,2]\n-1.25\n3.5\n"

_SPELLED = """
( ) ; and or not assert declare-const Real X_0 X_9 Y_0 Y_1 Y_99999999999999999999 <= >= < > = == != + - * 0 -0.0 1e999
-1e-999 1e308 nan inf 0x10 1_0 1e 99999999999999999999 declare-network declare-input declare-output float32 float16
int32 real X[0,0] X[0,9] X[-1,0] Y[0,0] [ ] [1,0] [1,2] [] [1000000,1000000] [4294967296] <2.0> <3.0> equal-to f g ..
/ \\ , ' " \0 \ufeff é ../../etc/passwd /etc/passwd onnx/net.onnx true false null {} [[ && $(touch${IFS}x) `id` &a *a
<< 2/255 1/0 !!python/object/apply:os.system .inf .nan 0o7 : | 2026-99-99
"""
WORDS = _SPELLED.split()
"""What text is damaged with; each is read by some reader, or would be dangerous if something ran it."""


def _member(family: str) -> bytes:
    from families import member

    return member(family, 0)


def _npz(arrays: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def _mask() -> bytes:
    return _npz(
        {
            "mask": np.array([1, 0, 0, 1, 1], np.uint8),
            "layer_sizes": np.array([2, 3], np.int64),
            "stage_picks": np.array([[0, 3], [4, -1]], np.int32),
            "names": json.dumps(["a", "b"]),
            "shapes": json.dumps([[2], [3]]),
            "provenance": json.dumps({"heuristic": "gradient"}),
        }
    )


def _scores() -> bytes:
    values = np.linspace(0, 1, 5, dtype=np.float32)
    return _npz(
        {
            "layer_sizes": np.array([2, 3], np.int64),
            "gradient": values,
            "instability": values,
            "names": json.dumps(["a", "b"]),
            "shapes": json.dumps([[2], [3]]),
            "provenance": json.dumps({}),
        }
    )


def _checkpoint() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.ones(3, 2), "fc.bias": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def _batch() -> bytes:
    return pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]}, protocol=2)


def _images() -> bytes:
    return _npz({"images": np.zeros((4, 3, 2, 2), np.uint8), "labels": np.arange(4), "exact": np.ones(4, np.bool_)})


def _idx() -> bytes:
    return bytes((0, 0, 8, 3)) + np.array([2, 3, 3], ">u4").tobytes() + bytes(18)


def _spec(name: str) -> bytes:
    return (Path(__file__).parents[2] / "specs" / name).read_bytes()


SEEDS: Mapping[str, tuple[Callable[[], bytes], ...]] = {
    "vnnlib": (PLAIN.encode, lambda: PLAIN.replace("; a comment\n", "").encode()),
    "query": (QUERY.encode, PAIR.encode),
    "vnnlib.gz": (lambda: gzip.compress(PLAIN.encode(), mtime=0),),
    "onnx": tuple(
        (lambda family=family: _member(family))  # type: ignore[misc]
        for family in ("fully connected", "grafted convolution", "normalised", "groups and axes", "joined", "bent")
    ),
    "instances": (lambda: LIST,),
    "results": (lambda: RESULTS,),
    "witness": (WITNESS.encode, ASSIGNMENT.encode),
    "spec": (lambda: _spec("mnist_convbig/benchmark.yaml"),),
    "sweep": (lambda: _spec("sweeps/mnist_convbig_ratios.yaml"),),
    "mask": (_mask,),
    "scores": (_scores,),
    "checkpoint": (_checkpoint,),
    "batch": (_batch,),
    "images": (_images,),
    "idx": (_idx,),
}
"""Kind of file to good ones of it."""
ARCHIVES = frozenset({"mask", "scores", "images"})
TEXTS = frozenset({"vnnlib", "query", "instances", "results", "witness", "spec", "sweep"})


def cut(data: bytes, random: Random) -> bytes:
    return data[: int(random.integers(len(data)))]


def flipped(data: bytes, random: Random) -> bytes:
    """Changes a few bytes anywhere."""
    found = bytearray(data)
    for place in random.integers(0, len(found), int(random.integers(1, 6))):
        found[place] = int(random.integers(256))
    return bytes(found)


def spliced(data: bytes, random: Random) -> bytes:
    """Takes a piece out, or puts one in twice."""
    first, last = sorted(random.integers(0, len(data), 2))
    return data[:first] + data[last:] if random.random() < 0.5 else data[:last] + data[first:]


def reworded(data: bytes, random: Random) -> bytes:
    """Replaces, adds or takes out words: what is left is nearly in the language."""
    parts = re.split(r"([\s(),\[\]:]+)", data.decode("utf-8", "replace"))
    for _ in range(int(random.integers(1, 5))):
        place = int(random.integers(len(parts)))
        word = WORDS[int(random.integers(len(WORDS)))]
        change = random.random()
        parts[place] = word if change < 0.5 else f"{parts[place]} {word} " if change < 0.9 else ""
    return "".join(parts).encode("utf-8", "replace")


def repeated(data: bytes, random: Random) -> bytes:
    """Writes a short piece many times: long lists, deep nesting."""
    first = int(random.integers(len(data)))
    piece = data[first : first + int(random.integers(1, 12))]
    return data[:first] + piece * int(random.integers(2, 3000)) + data[first:]


def exchanged(data: bytes, random: Random) -> bytes:
    """Exchanges words for others of the same sort, so that most files stay good and mean something else."""
    text = data.decode("utf-8", "replace")
    sorts = (r"[XY]_[0-9]+", r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?", r"[<>=!]=?", r"\b(?:and|or)\b", r"[a-z]{3,}")
    for _ in range(int(random.integers(1, 5))):
        found = list(re.finditer(sorts[int(random.integers(len(sorts)))], text))
        if found:
            here, other = (found[int(random.integers(len(found)))] for _ in range(2))
            text = text[: here.start()] + other[0] + text[here.end() :]
    return text.encode()


def rewrapped(data: bytes, random: Random) -> bytes:
    """Changes the arrays of an archive and packs them again: the checksums are right, the content is not."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = list(arrays)[int(random.integers(len(arrays)))]
    array = arrays[name]
    change = int(random.integers(8))
    if change == 0:
        del arrays[name]
    elif change == 1:
        arrays[name] = (
            array.astype(random.choice(["<f8", "<i2", "<U3", "?", "<c8", "S4"])) if array.dtype.kind != "U" else array
        )
    elif change == 2:
        arrays[name] = array.reshape(-1, 1) if random.random() < 0.5 else np.resize(array, int(random.integers(0, 9)))
    elif change == 3 and array.dtype.kind in "iuf" and array.size:
        arrays[name] = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
        edges = [np.nan, np.inf, -1.0, 1e39] if array.dtype.kind == "f" else [-1, 0, 2, 2**31, 2**62, -(2**63)]
        arrays[name].reshape(-1)[int(random.integers(array.size))] = edges[int(random.integers(len(edges)))]
    elif array.dtype.kind == "U":
        arrays[name] = np.array(reworded(str(array).encode(), random).decode())
    else:
        arrays[name] = np.array([])
    return _npz(arrays)


def overstated(data: bytes, random: Random) -> bytes:
    """Says of one array that it is of another shape or type than is stored, in its own header."""
    shapes = (b"(99999999999,)", b"(-1,)", b"(2,2)", b"()", b"(9**99,)", b"(True,)", b"'x'")
    plain = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(plain, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            found = re.search(rb"'shape': \([^)]*\), }", content)
            if found is not None and random.random() < 0.5:
                word = b"'shape': " + shapes[int(random.integers(len(shapes)))] + b", }"
                content = content[: found.start()] + word.ljust(len(found[0])) + content[found.end() :]
            new.writestr(entry.filename, content)
    return plain.getvalue()


def damaged(kind: str, number: int) -> bytes:
    """Returns the damaged file of that number: the same for the same kind and number, in every process."""
    random = np.random.default_rng([number, *kind.encode()])
    seeds = SEEDS[kind]
    data = seeds[number % len(seeds)]()
    changes = [cut, flipped, flipped, spliced]
    if kind in TEXTS:
        changes += [reworded, reworded, exchanged, exchanged, exchanged, repeated]
    if kind in ARCHIVES:
        changes += [rewrapped, rewrapped, rewrapped, overstated]
    if kind == "onnx":
        from test_reader_fuzz import rewired

        changes += [rewired, rewired, rewired]
    return changes[int(random.integers(len(changes)))](data, random)
