r"""Disentangled attention as a layer: two trained readings of one table of relative positions.

The offset is $t = i - j$, query position minus key position, in tokens.
"""

import numpy as np
import torch
from torch import nn

from posenc._checks import check_choice, check_count, check_multiple
from posenc.equations.deberta import log_bucket, row, scale
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Deberta"]


class Deberta(PositionEncoding):
    r"""Logits door: content looks at position, position looks at content.

    $$e_{ij} = \frac{q_i k_j^\top + q_i K^r_{\delta(i - j)}{}^\top
    + Q^r_{\delta(i - j)} k_j^\top}{\sqrt{3 d_{head}}},
    \qquad K^r = P W^{K,r}, \quad Q^r = P W^{Q,r}$$

    `Attention` multiplies contents, with the `scale` of this layer; the layer adds the other two
    terms. Several layers share one table by sharing `table` (and `norm`).

    Parameters
    ----------
    d_model
        Width of the tokens and of the table, a multiple of `n_heads`.
    n_heads
        Number of heads.
    max_distance
        Distance from which on offsets share a row: half the number $2k$ of rows, unless there
        are buckets.
    n_buckets
        Buckets $B$ per direction, a multiple of 2; the table then has $2B$ rows, and the buckets
        end at `max_distance`. `None` gives every offset its own row.
    p2c
        Row that the position-to-content term reads. `"code"`: that of $i - j$, as released
        checkpoints need; `"paper"`: that of $j - i$.
    normalize
        Pass the table through a layer normalisation before it is projected.
    eps
        Added to the variance by that normalisation.
    device, dtype
        Of the parameters, as in `torch.nn.Linear`.

    Attributes
    ----------
    scale : float
        $1 / \sqrt{3 d_{head}}$.
    table : torch.nn.Embedding
        $P$, of shape `(2 * max_distance, d_model)` or `(2 * n_buckets, d_model)`.
    norm : torch.nn.LayerNorm or torch.nn.Identity
        What happens to the table first.
    key, query : torch.nn.Linear
        $W^{K,r}$ and $W^{Q,r}$, with biases. A checkpoint that shares them with the contents sets
        them to the `key` and the `query` of its `Attention`.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1, if `d_model` is not a multiple of `n_heads` or `n_buckets` of
        2, if `max_distance` is less than `n_buckets / 2 + 2`, or if `p2c` is unknown.

    Examples
    --------
    >>> from posenc.layers.attention import Attention
    >>> layer = Attention(8, n_heads=2, encoding=Deberta(8, n_heads=2, max_distance=16))
    >>> x = torch.ones(1, 5, 8)
    >>> layer(x).shape
    torch.Size([1, 5, 8])

    Only offsets matter, so that all positions may move together.

    >>> torch.allclose(layer(x), layer(x, torch.arange(1000, 1005)), atol=1e-6)
    True

    Buckets reach farther with fewer rows.

    >>> Deberta(8, n_heads=2, max_distance=512, n_buckets=256).table.weight.shape
    torch.Size([512, 8])

    >>> Deberta(8, n_heads=2, max_distance=16, p2c="both")
    Traceback (most recent call last):
        ...
    ValueError: p2c must be 'code' or 'paper', got 'both'

    See Also
    --------
    posenc.equations.deberta.disentangled : The equation of one head.

    References
    ----------
    He et al. *DeBERTa: Decoding-enhanced BERT with Disentangled Attention*. 2020,
    arXiv:2006.03654, Section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        max_distance: int,
        *,
        n_buckets: int | None = None,
        p2c: str = "code",
        normalize: bool = False,
        eps: float = 1e-7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_heads = check_count("n_heads", n_heads)
        self.d_head = check_multiple("d_model", d_model, n_heads) // n_heads
        self.max_distance = check_count("max_distance", max_distance)
        self.p2c = check_choice("p2c", p2c, ("code", "paper"))
        self.scale = self._factor = scale(self.d_head)
        half, self._rows = max_distance, None
        if n_buckets is not None:
            half, reach = n_buckets, np.arange(-max_distance, max_distance + 1)
            self._rows = row(log_bucket(reach, n_buckets, max_distance), half).tolist()
        where = {"device": device, "dtype": dtype}
        self.table = nn.Embedding(2 * half, d_model, **where)
        nn.init.normal_(self.table.weight, std=0.02)
        self.norm = nn.LayerNorm(d_model, eps, **where) if normalize else nn.Identity()
        self.key = nn.Linear(d_model, d_model, **where)
        self.query = nn.Linear(d_model, d_model, **where)

    def rows(self, q_positions: torch.Tensor, k_positions: torch.Tensor) -> torch.Tensor:
        r"""Row of the table for every pair of positions.

        $$\delta(i - j)$$

        Parameters
        ----------
        q_positions, k_positions
            Positions of queries and keys, int64 or int32, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor
            Rows, int64, `(n_q, n_k)` or `(batch, n_q, n_k)`.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32.

        Examples
        --------
        >>> Deberta(2, 1, max_distance=2).rows(torch.arange(4), torch.arange(4))
        tensor([[2, 1, 0, 0],
                [3, 2, 1, 0],
                [3, 3, 2, 1],
                [3, 3, 3, 2]])

        With buckets, 5 and 6 tokens away are the same.

        >>> layer = Deberta(2, 1, max_distance=16, n_buckets=8)
        >>> layer.rows(torch.tensor([100]), torch.tensor([101, 100, 97, 96, 95, 94, 93]))
        tensor([[ 7,  8, 11, 12, 13, 13, 14]])
        """
        check.integers("q_positions", q_positions)
        check.integers("k_positions", k_positions)
        i, j = q_positions.long().unsqueeze(-1), k_positions.long().unsqueeze(-2)
        t = i + self.max_distance - j
        if self._rows is None:
            return t.clamp_(0, 2 * self.max_distance - 1)
        t.clamp_(0, 2 * self.max_distance)
        return torch.tensor(self._rows, device=t.device).take(t)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Sum of the two terms with a position, scaled.

        $$b_{ij} = \frac{q_i K^r_{\delta(i - j)}{}^\top + Q^r_{\delta(i - j)} k_j^\top}
        {\sqrt{3 d_{head}}}$$

        Contents are multiplied with all $2k$ rows first and read afterwards, so that no row is
        stored per pair of tokens.

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`.
        q_positions, k_positions
            Their positions, int64 or int32, `(n,)` or `(batch, n)` each, of any offset.

        Returns
        -------
        torch.Tensor
            Bias of shape `(batch, n_heads, n_q, n_k)`.

        Raises
        ------
        TypeError
            If `q` or `k` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.

        Examples
        --------
        >>> layer = Deberta(3, 1, max_distance=2)
        >>> for part in (layer.key, layer.query):
        ...     part.weight, part.bias = nn.Parameter(torch.eye(3)), nn.Parameter(torch.zeros(3))
        >>> layer.table.weight = nn.Parameter(torch.arange(4.0)[:, None] * torch.ones(3))
        >>> q, at = torch.full((1, 1, 3, 3), 0.5), torch.arange(3)
        >>> layer.bias(q, q, at, at).detach()
        tensor([[[[2., 1., 0.],
                  [3., 2., 1.],
                  [3., 3., 2.]]]])

        The paper's second term reads the row of the opposite offset.

        >>> layer.p2c = "paper"
        >>> layer.bias(q, q, at, at).detach()
        tensor([[[[2.0000, 2.0000, 1.5000],
                  [2.0000, 2.0000, 2.0000],
                  [1.5000, 2.0000, 2.0000]]]])
        """
        self._check(q, k, q_positions, k_positions)
        keys, queries = self._tables()
        rows = self.rows(q_positions, k_positions)
        back = rows if self.p2c == "code" else self.rows(k_positions, q_positions).mT
        parts = self._factor * q, self._factor * k, keys, queries
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or q.device.type != "cpu":
            return _read(*parts, rows, back)
        # A head at a time, into its place: the products of one head are all that is held.
        out = q.new_empty(*q.shape[:-1], k.shape[-2])
        for head in zip(*(x.split(1, -3) for x in (*parts, out)), strict=True):
            _read(*head[:-1], rows=rows, back=back, out=head[-1])
        return out

    def _tables(self) -> list[torch.Tensor]:
        """Positions as keys and as queries, `(n_heads, rows, d_head)` each."""
        p = self.norm(self.table.weight)
        return [
            f(p).unflatten(-1, (self.n_heads, -1)).transpose(0, 1) for f in (self.key, self.query)
        ]

    def _check(self, q, k, q_positions, k_positions) -> None:
        for name, x, at in (("q", q, q_positions), ("k", k, k_positions)):
            check.heads(name, x, self.d_head)
            if x.shape[1] != self.n_heads:
                raise ValueError(
                    f"{name} must have n_heads = {self.n_heads} heads, got {x.shape[1]}"
                )
            check.positions(f"{name}_positions", at, x.transpose(1, 2))


def _read(q, k, keys, queries, rows, back, out=None) -> torch.Tensor:
    """Multiply contents with all rows, then read the row of every pair."""
    shape = (*q.shape[:-1], k.shape[-2])
    rows, back = (x.unsqueeze(-3).expand(shape) for x in (rows, back))
    content_position = torch.gather(q @ keys.mT, -1, rows, out=out)
    return content_position.add_(torch.gather(queries @ k.mT, -2, back))
