"""The inner loop of branch and bound: bounds of many domains of one folded network at once.

A *lane* is one domain. All arrays have the lanes last, so that a fixed number of lanes fills SIMD registers and a row
of the sparse matrix is read once for all of them. What a kernel computes (names as in the package's docstring):

    A   = C[:, spec] + M' lam                         backward over the unstable neurons, last to first
    lam = f A - s p                                   free neuron: f = p (alpha) where A >= 0, else the upper slope
                                                      split neuron: s = +1: f = 1; s = -1: f = 0; p is its beta
    lb  = e[spec] + lam . E + sum over free neurons with A < 0 of A * upper offset - sum |A of t|

Any alpha in [0, 1] and any beta >= 0 gives a valid bound (Wang et al. 2021, beta-CROWN, theorem 3.1).
"""

from __future__ import annotations

from pathlib import Path

from harness.verifier.kernels.cache import use_keyed_cache
from harness.verifier.kernels.choice import has_numba

# Numba looks up where to keep a function's code when it is decorated: before any module of this package is read.
if has_numba():
    use_keyed_cache(Path(__file__).parent)
