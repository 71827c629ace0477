r"""The chapter's tool as code for layers: the offset between positions in tensors.

The offset is $t = j - i$, key position minus query position, in tokens.
"""

import torch

from posenc.layers import _checks as check

__all__ = ["offsets"]


def offsets(q_positions: torch.Tensor, k_positions: torch.Tensor) -> torch.Tensor:
    r"""Offset from every query to every key, in tokens.

    $$t_{ij} = j - i$$

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, int64 or int32, `(n,)` or `(batch, n)` each.

    Returns
    -------
    torch.Tensor
        Offsets of shape `(n_q, n_k)` or `(batch, n_q, n_k)`, int64 or int32; negative where the
        key comes first.

    Raises
    ------
    TypeError
        If positions are neither int64 nor int32.

    Examples
    --------
    >>> offsets(torch.arange(3), torch.arange(3))
    tensor([[ 0,  1,  2],
            [-1,  0,  1],
            [-2, -1,  0]])

    Left padding: every row of a batch has positions of its own.

    >>> offsets(torch.tensor([[0], [7]]), torch.tensor([[0, 1], [7, 8]]))
    tensor([[[0, 1]],
    <BLANKLINE>
            [[0, 1]]])

    >>> offsets(torch.tensor([0.5]), torch.tensor([0]))
    Traceback (most recent call last):
        ...
    TypeError: q_positions must be int64 or int32, got torch.float32

    See Also
    --------
    posenc.equations.relative.offsets : The same in NumPy.
    """
    check.integers("q_positions", q_positions)
    check.integers("k_positions", k_positions)
    return k_positions.unsqueeze(-2) - q_positions.unsqueeze(-1)
