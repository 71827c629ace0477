r"""ALiBi as a layer: one slope per head, nothing to train, nothing of size $n^2$ when fused.

The offset is $t = j - i$, key position minus query position, in tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch

from posenc._checks import check_shape
from posenc.equations.alibi import head_slopes, linear_bias
from posenc.layers.attention import PositionEncoding
from posenc.layers.relative import offsets
from posenc.layers.t5 import attend_by_offset

__all__ = ["Alibi"]


class Alibi(PositionEncoding):
    r"""Logits door: subtract a slope times the distance, and train nothing.

    $$e^{(h)}_{ij} = \frac{q^{(h)}_i k^{(h)\top}_j}{\sqrt{d_{head}}} - m_h (i - j), \qquad j \le i$$

    Keys after the query have the penalty $m_h' (j - i)$; a causal mask hides them. The slopes
    are numbers, not a tensor: no cast of the model rounds them, and a checkpoint has none.

    Parameters
    ----------
    n_heads
        Number of heads $H \ge 1$.
    exponent
        Number $c$ above 0 of `posenc.equations.alibi.head_slopes`; the paper has 8.
    slopes
        Slopes $m_h \ge 0$ of shape `(n_heads,)` in place of the paper's. A slope of 0 makes a
        head without position.
    after
        Slopes $m_h' \ge 0$ of shape `(n_heads,)` for keys after the query; `None` is those
        before it. Without a causal mask this is what tells the two sides apart.

    Raises
    ------
    TypeError
        If `n_heads` is not an integer, or another argument not real.
    ValueError
        If `n_heads` is less than 1, `exponent` not above 0, a slope negative or not finite, or if
        the slopes do not have the shape `(n_heads,)`.

    Examples
    --------
    >>> from posenc.layers.attention import Attention
    >>> layer = Attention(8, 4, Alibi(4), causal=True, fused=True)
    >>> x = torch.ones(1, 5, 8)
    >>> torch.allclose(layer(x), layer(x, torch.arange(5)), atol=1e-6)
    True
    >>> Alibi(4).slopes
    (0.25, 0.0625, 0.015625, 0.00390625)

    There is nothing to train and nothing to store.

    >>> len(list(Alibi(4).parameters())), len(Alibi(4).state_dict())
    (0, 0)

    An encoder whose second head looks ahead rather than back.

    >>> Alibi(2, slopes=[0.5, 4.0], after=[4.0, 0.5]).by_offset(2, 2)
    tensor([[-0.5000,  0.0000, -4.0000],
            [-4.0000,  0.0000, -0.5000]])

    >>> Alibi(2, slopes=[0.5])
    Traceback (most recent call last):
        ...
    ValueError: slopes must have shape (2,), got (1,)

    See Also
    --------
    posenc.equations.alibi.linear_bias : The equation.
    posenc.layers.t5.attend_by_offset : The fused attention.

    References
    ----------
    Press, Smith, Lewis. *Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation*. 2021, arXiv:2108.12409, Section 3.
    """

    def __init__(
        self,
        n_heads: int,
        *,
        exponent: float = 8.0,
        slopes: Sequence[float] | np.ndarray | None = None,
        after: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        super().__init__()
        paper = head_slopes(n_heads, exponent)
        before = paper if slopes is None else np.asarray(slopes)
        check_shape("slopes", before, paper.shape)
        behind = before if after is None else np.asarray(after)
        steps = -linear_bias(before, np.array([-1, 1]), behind).T
        self.slopes, self.after = (tuple(m) for m in steps.tolist())

    def by_offset(
        self,
        n_queries: int,
        n_keys: int,
        start: int = 0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        r"""Bias of every head by offset: all that there is to know, without a matrix.

        $$b^{(h)}_t = m_h \min(t, 0) - m_h' \max(t, 0), \qquad
        t = 1 - n_q - s \dots n_k - 1 - s$$

        Parameters
        ----------
        n_queries, n_keys
            Numbers $n_q$ and $n_k$ of queries and keys.
        start
            Position $s$ of the first query; the first key stands at 0.
        device, dtype
            Of the result.

        Returns
        -------
        torch.Tensor
            Numbers of shape `(n_heads, n_queries + n_keys - 1)`, as
            `posenc.layers.t5.attend_by_offset` takes them.

        Examples
        --------
        >>> Alibi(1, slopes=[0.5]).by_offset(3, 3)
        tensor([[-1.0000, -0.5000,  0.0000, -0.5000, -1.0000]])

        One query behind a cache of two keys.

        >>> Alibi(1, slopes=[0.5]).by_offset(1, 3, start=2)
        tensor([[-1.0000, -0.5000,  0.0000]])
        """
        low = 1 - n_queries - start
        t = torch.arange(low, low + n_queries + n_keys - 1, device=device)
        return self._penalty(t, dtype)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Compute the bias of every pair, at any positions.

        $$b^{(h)}_{ij} = m_h \min(j - i, 0) - m_h' \max(j - i, 0)$$

        Parameters
        ----------
        q, k
            Queries and keys; only the dtype of `q` is used.
        q_positions, k_positions
            Their positions, `(n,)` or `(batch, n)` each, int64 or int32.

        Returns
        -------
        torch.Tensor
            Bias of shape `(n_heads, n_q, n_k)` or `(batch, n_heads, n_q, n_k)`, of the dtype of
            `q` but at least float32.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32.

        Examples
        --------
        >>> layer = Alibi(1, slopes=[0.5])
        >>> q = k = torch.zeros(1, 1, 3, 2)
        >>> layer.bias(q, k, torch.arange(3), torch.arange(3))
        tensor([[[ 0.0000, -0.5000, -1.0000],
                 [-0.5000,  0.0000, -0.5000],
                 [-1.0000, -0.5000,  0.0000]]])

        Left padding: every row has positions of its own.

        >>> at = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> layer.bias(q, k, at, at).shape
        torch.Size([2, 1, 3, 3])
        """
        dtype = torch.promote_types(q.dtype, torch.float32)
        return self._penalty(offsets(q_positions, k_positions), dtype).movedim(0, -3)

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool
    ) -> torch.Tensor | None:
        r"""Do the fused attention with the bias by offset, for positions from 0 up.

        $$z_i = \sum_j \operatorname{softmax}_j\left(\lambda\, q_i k_j^\top + b_{j - i}\right) v_j$$

        Parameters
        ----------
        q, k, v
            Queries, keys and values `(batch, n_heads, n, d_head)`.
        scale
            Factor $\lambda$ of the dot products; the bias is not multiplied by it.
        causal
            Leave out the keys after the query.

        Returns
        -------
        torch.Tensor or None
            Outputs of shape `(batch, n_heads, n, d_head)`; `None` if a derived class has a bias
            of its own.

        Examples
        --------
        Equal contents, and a slope at which every step back halves the weight.

        >>> layer = Alibi(1, slopes=[0.6931471805599453])
        >>> q = k = torch.zeros(1, 1, 2, 1)
        >>> v = torch.tensor([[[[3.0], [6.0]]]])
        >>> layer.attend(q, k, v, 1.0, True).flatten()
        tensor([3., 5.])

        A class that says otherwise what the bias is goes through the door.

        >>> class Doubled(Alibi):
        ...     def bias(self, *args):
        ...         return 2 * super().bias(*args)
        >>> Doubled(1).attend(q, k, v, 1.0, True) is None
        True
        """
        if type(self).bias is not Alibi.bias:
            return None
        dtype = torch.promote_types(q.dtype, torch.float32)
        bias = self.by_offset(q.shape[2], k.shape[2], device=q.device, dtype=dtype)
        return attend_by_offset(q, k, v, bias, scale=scale, causal=causal)

    def _penalty(self, t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Bias `(n_heads, *t.shape)` at the offsets."""
        shape = (-1, *(1,) * t.ndim)
        before, after = (
            torch.tensor(m, device=t.device, dtype=dtype).view(shape)
            for m in (self.slopes, self.after)
        )
        if self.slopes == self.after:
            return before * -t.abs()
        return before * t.clamp(max=0) - after * t.clamp(min=0)
