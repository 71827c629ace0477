r"""T5's bias as a layer, and attention with any bias that depends on the offset alone.

The offset is $t = j - i$, key position minus query position, in tokens.
"""

import torch
from torch import nn

from posenc._checks import check_above, check_count
from posenc.equations.t5 import first_distances
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding
from posenc.layers.relative import offsets

__all__ = ["T5", "attend_by_offset"]

BLOCKS, BLOCK = 16, 256  # causal queries: at most so many blocks, none but the last smaller


def attend_by_offset(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    *,
    scale: float,
    causal: bool = False,
    start: int = 0,
) -> torch.Tensor:
    r"""Fused attention with a bias that depends on the offset alone, handed over as a view.

    $$z_i = \sum_j \operatorname{softmax}_j\left(\lambda\, q_i k_j^\top + b_{j - i}\right) v_j$$

    Keys stand at $0 \dots n_k - 1$, queries at `start` and the positions after it. A matrix with
    one number along each diagonal cannot be a view of its numbers, because a stride would have
    to be negative; with the queries in reverse order it can. So queries and outputs are
    reversed, which costs $n d$, and the bias is a view of $n_q + n_k - 1$ numbers per head.

    On the CPU no matrix of $n_q n_k$ numbers is stored, and gradients for `q`, `k` and `v` need
    none either. If `bias` needs a gradient, then PyTorch leaves its fast kernel and stores logits
    and weights, and the gradient of the bias is summed along the diagonals: nothing is lost but
    memory and time. Other devices have other kernels; memory was measured on the CPU alone.

    Parameters
    ----------
    q, k, v
        Queries `(batch, n_heads, n_q, d_head)`, keys and values `(batch, n_heads, n_k, d_head)`.
    bias
        Numbers $b_t$ by offset, `(n_heads, n_q + n_k - 1)`, floating: the first for the last
        query and the first key, the last for the first query and the last key. Cast to the
        dtype of `q`. `-inf` forbids an offset.
    scale
        Factor $\lambda$ of the dot products.
    causal
        Leave out the keys after the query. Queries go in blocks, and a block does not even
        read the keys after all of its queries.
    start
        Position of the first query, at least 0.

    Returns
    -------
    torch.Tensor
        Outputs of the shape of `q`.

    Raises
    ------
    TypeError
        If `q` or `bias` is not floating, or `start` not an integer.
    ValueError
        If `bias` does not have the shape that `q` and `k` ask for, or if `start` is negative.

    Examples
    --------
    Two tokens and one head that sees only the token itself, offset 0.

    >>> q = k = torch.zeros(1, 1, 2, 1)
    >>> v = torch.tensor([[[[1.0], [2.0]]]])
    >>> alone = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    >>> attend_by_offset(q, k, v, alone, scale=1.0).flatten()
    tensor([1., 2.])

    On the CPU a query that sees no key gets zeros, as in `Attention`: here the first.

    >>> before = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    >>> attend_by_offset(q, k, v, before, scale=1.0).flatten()
    tensor([0., 1.])

    A causal mask needs no matrix either: it is $-\infty$ at the offsets above 0.

    >>> attend_by_offset(q, k, v, torch.zeros(1, 3), scale=1.0, causal=True).flatten()
    tensor([1.0000, 1.5000])

    One query behind a cache of two keys: the offsets are -1 and 0.

    >>> attend_by_offset(q[:, :, :1], k, v, alone[:, :2], scale=1.0, start=1).flatten()
    tensor([2.])

    >>> attend_by_offset(q, k, v, alone[0], scale=1.0)
    Traceback (most recent call last):
        ...
    ValueError: bias must have shape (1, 3), got (3,)

    See Also
    --------
    posenc.equations.t5.hankel : The view.
    """
    check.floating("q", q)
    check.floating("bias", bias)
    after = check_count("start", start, at_least=0) + q.shape[2]  # the position after all queries
    wanted = q.shape[1], q.shape[2] + k.shape[2] - 1
    if bias.shape != wanted:
        raise ValueError(f"bias must have shape {wanted}, got {tuple(bias.shape)}")
    bias = bias.to(q.dtype)
    if not causal:
        # Four axes: with fewer, PyTorch leaves its fast kernel.
        windows = bias.unfold(-1, k.shape[2], 1)[None]
        fused = nn.functional.scaled_dot_product_attention
        return fused(q.flip(-2), k, v, windows, scale=scale).flip(-2)
    parts, seen = [], start
    for part in q.split(max(BLOCK, -(-q.shape[2] // BLOCKS)), dim=2):
        seen += part.shape[2]  # keys from here on are after the whole block
        near_k, near_v = k[:, :, :seen], v[:, :, :seen]
        b = bias[:, after - seen :][:, : part.shape[2] + near_k.shape[2] - 1]
        b = torch.cat([b[:, :seen], torch.full_like(b[:, seen:], -torch.inf)], dim=1)
        parts.append(attend_by_offset(part, near_k, near_v, b, scale=scale))
    return torch.cat(parts, dim=2)


class T5(PositionEncoding):
    r"""Logits door: add one trained number per head and bucket of offsets, and do not scale.

    $$e^{(h)}_{ij} = q^{(h)}_i k^{(h)\top}_j + \beta_{\operatorname{bucket}(j - i),\, h}$$

    The table is the parameter `weight`, `(n_buckets, n_heads)`. T5 has one for all layers of its
    encoder and one for all layers of its decoder: give the same instance to every `Attention`
    of a stack. Its cross-attention has none, but lacks the scale as well.

    Weights of T5 in the Transformers library, without the prefix up to `SelfAttention.`:
    `q.weight`, `k.weight`, `v.weight` and `o.weight` are `query.weight`, `key.weight`,
    `value.weight` and `output.weight` of `Attention`, and `relative_attention_bias.weight` of the
    first block is `encoding.weight`.

    Parameters
    ----------
    n_heads
        Number of heads $H \ge 1$.
    n_buckets
        Number of buckets in all: at least 4 and even, or at least 2 if not `bidirectional`.
    max_distance
        Distance $M$ up to which the ranges grow.
    bidirectional
        Give the keys after the query buckets of their own: right for an encoder. A decoder,
        whose mask hides them, has `bidirectional=False`.
    std
        Standard deviation above 0 of the first values, which are normal with mean 0. The
        Transformers library has $1 / \sqrt{d_{model}}$.
    device, dtype
        Of the table, as in `torch.nn.Embedding`.

    Raises
    ------
    TypeError
        If a number is not an integer, or `std` not a real number.
    ValueError
        If `n_heads` is less than 1, if the numbers do not fit
        `posenc.equations.t5.first_distances`, or if `std` is not finite or not above 0.

    Examples
    --------
    >>> from posenc.layers.attention import Attention
    >>> shared = T5(n_heads=2)
    >>> stack = [Attention(8, 2, shared), Attention(8, 2, shared)]
    >>> stack[1](stack[0](torch.ones(1, 5, 8))).shape
    torch.Size([1, 5, 8])
    >>> sum(p.numel() for p in shared.parameters())
    64

    There is no scale: T5 starts with smaller queries instead.

    >>> shared.scale
    1.0

    Fused attention makes no $n^2$ bias. On the CPU it stores nothing of that size at all, as long
    as the table needs no gradient: inside `torch.no_grad()`, or with a frozen table.

    >>> x = torch.ones(1, 5, 8)
    >>> fused = Attention(8, 2, shared, fused=True)
    >>> torch.allclose(fused(x), fused(x, torch.arange(5)), atol=1e-6)
    True

    >>> T5(n_heads=2, n_buckets=7)
    Traceback (most recent call last):
        ...
    ValueError: n_buckets must be a multiple of 2, got 7

    See Also
    --------
    posenc.equations.t5.position_bias : The equation.
    attend_by_offset : The fused attention.

    References
    ----------
    Raffel et al. *Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer*. 2019, arXiv:1910.10683, Section 2.1.
    """

    scale = 1.0

    def __init__(
        self,
        n_heads: int,
        n_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        *,
        std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        first = first_distances(n_buckets, max_distance, bidirectional=bidirectional)
        self._first = first.tolist()  # numbers, not a tensor: nothing for a cast to touch
        self.bidirectional, self.std = bidirectional, check_above("std", std, 0)
        size = n_buckets, check_count("n_heads", n_heads)
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw the whole table anew.

        $$\beta_{bh} \sim \mathcal{N}\left(0, \sigma^2\right), \qquad \sigma = \mathrm{std}$$

        Examples
        --------
        >>> layer = T5(n_heads=2, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> bool(layer.weight.any())
        True

        >>> _ = torch.manual_seed(0)
        >>> float(T5(n_heads=1000, std=0.5).weight.std().round(decimals=1).detach())
        0.5
        """
        self.weight.normal_(std=self.std)

    def buckets(self, offsets: torch.Tensor) -> torch.Tensor:
        r"""Number of the bucket of every offset, the row of the table that it reads.

        $$\operatorname{bucket}(t) = B\,[t > 0] + r(|t|)$$

        Parameters
        ----------
        offsets
            Offsets $t = j - i$, int64 or int32, of any shape.

        Returns
        -------
        torch.Tensor
            Buckets of the same shape, int64.

        Raises
        ------
        TypeError
            If `offsets` are neither int64 nor int32.

        Examples
        --------
        >>> T5(n_heads=1).buckets(torch.tensor([-200, -91, -90, -1, 0, 1, 200]))
        tensor([15, 15, 14,  1,  0, 17, 31])

        A decoder does not tell apart what comes after the query.

        >>> T5(n_heads=1, bidirectional=False).buckets(torch.tensor([-200, -1, 0, 200]))
        tensor([31,  1,  0,  0])
        """
        check.integers("offsets", offsets)
        t = offsets.long()
        distance = t.abs() if self.bidirectional else (-t).clamp(min=0)
        rank = torch.bucketize(distance, t.new_tensor(self._first), right=True) - 1
        return rank + len(self._first) * (t > 0) if self.bidirectional else rank

    def by_offset(self, n_queries: int, n_keys: int, start: int = 0) -> torch.Tensor:
        r"""Bias of every head by offset: all that there is to know, without a matrix.

        $$b^{(h)}_t = \beta_{\operatorname{bucket}(t),\, h}, \qquad
        t = 1 - n_q - s \dots n_k - 1 - s$$

        Parameters
        ----------
        n_queries, n_keys
            Numbers $n_q$ and $n_k$ of queries and keys.
        start
            Position $s$ of the first query; the first key stands at 0.

        Returns
        -------
        torch.Tensor
            Numbers of shape `(n_heads, n_queries + n_keys - 1)`, as `attend_by_offset` takes them.

        Examples
        --------
        >>> layer = T5(n_heads=1, n_buckets=4, max_distance=2)
        >>> layer.weight = nn.Parameter(torch.tensor([[0.0], [2.0], [9.0], [-4.0]]))
        >>> layer.by_offset(3, 3).detach()
        tensor([[ 2.,  2.,  0., -4., -4.]])

        One query behind a cache of two keys.

        >>> layer.by_offset(1, 3, start=2).detach()
        tensor([[2., 2., 0.]])
        """
        low = 1 - n_queries - start
        t = torch.arange(low, low + n_queries + n_keys - 1, device=self.weight.device)
        return self._read(t)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Look up the bias of every pair, at any positions.

        $$b^{(h)}_{ij} = \beta_{\operatorname{bucket}(j - i),\, h}$$

        Parameters
        ----------
        q, k
            Not used: position does not touch the content.
        q_positions, k_positions
            Their positions, `(n,)` or `(batch, n)` each, int64 or int32.

        Returns
        -------
        torch.Tensor
            Bias of shape `(n_heads, n_q, n_k)` or `(batch, n_heads, n_q, n_k)`, of the dtype of
            the table.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32.

        Examples
        --------
        >>> layer = T5(n_heads=1, n_buckets=4, max_distance=2)
        >>> layer.weight = nn.Parameter(torch.tensor([[0.0], [2.0], [9.0], [-4.0]]))
        >>> q = k = torch.zeros(1, 1, 3, 2)
        >>> layer.bias(q, k, torch.arange(3), torch.arange(3)).detach()
        tensor([[[ 0., -4., -4.],
                 [ 2.,  0., -4.],
                 [ 2.,  2.,  0.]]])

        Left padding: every row has positions of its own.

        >>> at = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> layer.bias(q, k, at, at).shape
        torch.Size([2, 1, 3, 3])
        """
        return self._read(offsets(q_positions, k_positions)).movedim(0, -3)

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool
    ) -> torch.Tensor | None:
        r"""Do the fused attention with the bias by offset, for positions from 0 up.

        $$z_i = \sum_j \operatorname{softmax}_j\left(\lambda\, q_i k_j^\top +
        \beta_{\operatorname{bucket}(j - i)}\right) v_j$$

        Parameters
        ----------
        q, k, v
            Queries, keys and values `(batch, n_heads, n, d_head)`.
        scale
            Factor $\lambda$ of the dot products.
        causal
            Leave out the keys after the query.

        Returns
        -------
        torch.Tensor or None
            Outputs of shape `(batch, n_heads, n, d_head)`; `None` if a derived class has a bias
            of its own.

        Examples
        --------
        >>> layer = T5(n_heads=1)
        >>> q = k = torch.zeros(1, 1, 2, 1)
        >>> v = torch.tensor([[[[1.0], [2.0]]]])
        >>> layer.attend(q, k, v, 1.0, True)[0, 0, 0].detach()
        tensor([1.])

        A class that says otherwise what the bias is goes through the door.

        >>> class Doubled(T5):
        ...     def bias(self, *args):
        ...         return 2 * super().bias(*args)
        >>> Doubled(n_heads=1).attend(q, k, v, 1.0, True) is None
        True
        """
        if type(self).bias is not T5.bias:
            return None
        bias = self.by_offset(q.shape[2], k.shape[2])
        return attend_by_offset(q, k, v, bias, scale=scale, causal=causal)

    def _read(self, t: torch.Tensor) -> torch.Tensor:
        """Bias `(n_heads, *t.shape)` at the offsets."""
        rows = self.buckets(t).flatten()
        return self.weight.T.index_select(1, rows).unflatten(1, t.shape)
