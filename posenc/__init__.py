"""Transformer position encodings: every formula proved by code that runs.

`posenc.equations` says what the papers say, in NumPy and float64; `posenc.layers` holds the torch
modules that a model trains with. Both have one module per key: `posenc.equations.attention` and
`posenc.layers.attention` belong together, to one page and to one test file.
"""

__version__ = "0.1.0"
