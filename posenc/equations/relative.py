r"""The chapter's tool: a score between two positions, split into four terms.

The offset is $t = j - i$, key position minus query position, in tokens. Everything but the offset
is computed in float64.
"""

import numpy as np

from posenc._checks import check_count

__all__ = ["offsets"]


def offsets(n_queries: int, n_keys: int, start: int = 0) -> np.ndarray:
    r"""Offset from every query to every key, in tokens.

    $$t_{ij} = j - i$$

    Keys stand at $0 \dots n_k - 1$, queries at `start` and the positions after it: a decoder that
    continues from a cache has fewer queries than keys.

    Parameters
    ----------
    n_queries, n_keys
        Numbers of queries and keys, at least 1 each.
    start
        Position of the first query, at least 0.

    Returns
    -------
    np.ndarray
        Offsets of shape `(n_queries, n_keys)`, int64; negative where the key comes first.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If there are no queries or no keys, or if `start` is negative.

    Examples
    --------
    >>> offsets(3, 3)
    array([[ 0,  1,  2],
           [-1,  0,  1],
           [-2, -1,  0]])

    One new query behind three keys, itself among them.

    >>> offsets(1, 3, start=2)
    array([[-2, -1,  0]])

    >>> offsets(0, 3)
    Traceback (most recent call last):
        ...
    ValueError: n_queries must be at least 1, got 0

    See Also
    --------
    posenc.layers.relative.offsets : The same for positions in a tensor.
    """
    n_q, n_k = check_count("n_queries", n_queries), check_count("n_keys", n_keys)
    i = check_count("start", start, at_least=0) + np.arange(n_q, dtype=np.int64)
    return np.arange(n_k, dtype=np.int64) - i[:, None]
