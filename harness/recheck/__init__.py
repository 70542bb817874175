"""A second verifier, which decides again what ours has proved: slower, in float64, on another path through the code.

It has the reader and the bounds of layers in common with the engine's form for GPUs (`verifier.graph`, `crown`,
`fold`), and nothing with what proves on a CPU: neither its compiled kernels, nor its sparse form of networks, nor its
float32 search. `lgbench audit` runs it, as a child process.
"""
