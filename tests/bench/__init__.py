"""How fast is the gateway? `python -m tests.bench [--peers] [--quick]`, or `make bench`.

A mock provider in C and the load run on CPU 0, the gateway on CPU 1. Each cell is measured three times and the
medians are shown. CPU per call comes first, because it hardly depends on what else the machine does; calls per
second and latencies do. *Added* means: minus the same cell against the bare mock.

Cells: `n<c>` calls that are not streamed, `s<c>` streams of 20 chunks without a pause, `L<c>` calls of a provider
that takes 200 ms, `P<c>` streams of 50 tokens with 20 ms between two; `<c>` is the number of clients.
"""
