r"""Transformer-XL's positions as a layer: it opens the logits door, with offsets instead of places.

Queries stand at position $i$, keys at $j$, and the offset is $o = i - j$: positive if the key comes
first. Angles are computed in float64 and rounded once.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from posenc._checks import check_above, check_count, check_multiple
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding
from posenc.layers.rope import Rope

__all__ = ["TransformerXL", "from_xlnet", "shift"]


def shift(scores: torch.Tensor) -> torch.Tensor:
    r"""Bring scores from the columns of their offsets to the columns of their keys.

    $$Y_{ij} = S_{i,\; n_q - i + j}$$

    Nothing is copied if the last two axes of `scores` lie in memory without gaps: the result is
    a view of them. Gradients flow through it.

    Parameters
    ----------
    scores
        Scores $S$ of every query with every offset, `(..., n_q, n_q + n_k)`; column $c$ has the
        offset $s + n_q - c$ if the first query stands $s$ positions after the first key.
        Column 0 is never read.

    Returns
    -------
    torch.Tensor
        Scores $Y$ of every query with every key, `(..., n_q, n_k)`.

    Raises
    ------
    ValueError
        If `scores` have fewer than two axes, or no more columns than rows.

    Examples
    --------
    Three queries after two tokens of memory; every row holds the offsets themselves.

    >>> scores = torch.arange(5, -3, -1).expand(3, 8).contiguous()
    >>> shift(scores)
    tensor([[ 2,  1,  0, -1, -2],
            [ 3,  2,  1,  0, -1],
            [ 4,  3,  2,  1,  0]])
    >>> shift(scores).data_ptr() == scores[:, 3:].data_ptr()
    True

    >>> shift(torch.ones(2, 2))
    Traceback (most recent call last):
        ...
    ValueError: scores must have shape (..., n_q, more than n_q), got (2, 2)

    See Also
    --------
    posenc.equations.xlnet.shift_loop : The same, one pair at a time.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Appendix B.
    """
    if scores.ndim < 2 or scores.shape[-1] <= scores.shape[-2]:
        wanted = "(..., n_q, more than n_q)"
        raise ValueError(f"scores must have shape {wanted}, got {tuple(scores.shape)}")
    n_q, n = scores.shape[-2:]
    flat = scores.flatten(-2)[..., n_q:]
    return flat.unflatten(-1, (n_q, n - 1))[..., : n - n_q]


class TransformerXL(PositionEncoding):
    r"""Logits door: three terms with the offset, a key matrix of its own, and two vectors per head.

    $$\begin{aligned}
    b_{ij} &= \frac{q_i r_{ij}^\top + u\, k_j^\top + v\, r_{ij}^\top}{\sqrt{d_{head}}} \\
    r_{ij} &= R_{i-j} W^{K,R}
    \end{aligned}$$

    Attention itself has the fourth term, $q_i k_j^\top$. The sinusoids $R$ are not trained, and
    offsets of any size have one. Any integers will do as positions, in any order: packed or
    padded sequences, a memory with gaps.

    With `consecutive` the layer computes every score of a query and an *offset* once and `shift`
    does the rest. Without the projections, that is twice the multiplications of $q k^\top$;
    positions in any order take $H$ times those of $q k^\top$, or $(2c + 1) / n_k$ times with a
    limit $c$. Sequences that are padded on the left or packed need no positions of their own
    here, only a mask, since all offsets within a text are right anyway.

    Parameters
    ----------
    d_model
        Width $d$ of the tokens, even and a multiple of `n_heads`.
    n_heads
        Number of heads $H \ge 1$.
    base
        Base $b > 1$ of the frequencies.
    clamp
        Greatest offset that is told from a greater one, on either side; `None` is no limit.
    consecutive
        Promise that positions of queries are $p, p + 1, p + 2, \dots$, and those of keys as well,
        from a start of their own. Where the promise is broken, the logits are NaN.
    std
        Standard deviation above 0 of the first values of $u$ and $v$, which are normal with mean
        0.
    device, dtype
        Of the parameters, as in `torch.nn.Linear`.

    Raises
    ------
    TypeError
        If `d_model`, `n_heads` or `clamp` is not an integer, or `base` or `std` not a real
        number.
    ValueError
        If `n_heads` or `clamp` is less than 1, if `d_model` is odd or not a multiple of
        `n_heads`, if `base` is not finite or not above 1, or if `std` is not finite or not above
        0.

    Examples
    --------
    >>> from posenc.layers.attention import Attention
    >>> layer = Attention(8, n_heads=2, encoding=TransformerXL(8, n_heads=2), causal=True)
    >>> x = torch.ones(1, 5, 8)
    >>> layer(x).shape
    torch.Size([1, 5, 8])
    >>> {name: tuple(p.shape) for name, p in layer.encoding.named_parameters()}
    {'u': (2, 4), 'v': (2, 4), 'relative.weight': (8, 8)}

    Two segments of a text: the first is the memory of the second.

    >>> memory, new = x[:, :3], x[:, 3:]
    >>> got = layer(new, torch.tensor([3, 4]), context=x)
    >>> torch.allclose(got, layer(x)[:, 3:], atol=1e-6)
    True

    A broken promise is not silent.

    >>> layer.encoding.consecutive = True
    >>> bool(layer(x, torch.tensor([0, 1, 2, 7, 8])).isnan().any())
    True

    >>> TransformerXL(8, n_heads=3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 3, got 8

    See Also
    --------
    posenc.equations.xlnet.logits : The equation.
    from_xlnet : Weights of XLNet.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Section 3.3.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        base: float = 10000.0,
        *,
        clamp: int | None = None,
        consecutive: bool = False,
        std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_heads = check_count("n_heads", n_heads)
        self.d_model = check_multiple("d_model", check_multiple("d_model", d_model, 2), n_heads)
        self.d_head = self.d_model // self.n_heads
        self.clamp = None if clamp is None else check_count("clamp", clamp)
        self.consecutive = consecutive
        self.std = check_above("std", std, 0)
        self.turn = Rope(self.d_model, base, layout="halves")
        self.relative = nn.Linear(d_model, d_model, bias=False, device=device, dtype=dtype)
        self.u, self.v = (
            nn.Parameter(torch.empty(n_heads, self.d_head, device=device, dtype=dtype))
            for _ in range(2)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw all parameters anew, the matrix as `torch.nn.Linear` does.

        $$u, v \sim \mathcal{N}\left(0, \sigma^2\right), \qquad \sigma = \mathrm{std}$$

        Examples
        --------
        >>> layer = TransformerXL(4, 2, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> bool((layer.u.abs() < 0.2).all())
        True

        >>> layer = TransformerXL(4, 2, std=1e-9)
        >>> bool((layer.v.abs() < 1e-7).all())
        True
        """
        self.relative.reset_parameters()
        for vector in (self.u, self.v):
            nn.init.normal_(vector, std=self.std)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Compute what to add to the scaled logits.

        $$b_{ij} = \frac{(q_i + v)\, r_{ij}^\top + u\, k_j^\top}{\sqrt{d_{head}}}$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`, of
            the layer's dtype.
        q_positions, k_positions
            int64 or int32, `(n,)` or `(batch, n)` each, in tokens.

        Returns
        -------
        torch.Tensor
            Bias of shape `(batch, n_heads, n_q, n_k)`.

        Raises
        ------
        TypeError
            If `q` or `k` are not of the layer's dtype, or positions neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or is on another device.

        Examples
        --------
        Only offsets count: all positions may move together.

        >>> layer, q, k = TransformerXL(4, 1), torch.randn(1, 1, 2, 4), torch.randn(1, 1, 3, 4)
        >>> here = layer.bias(q, k, torch.tensor([1, 2]), torch.tensor([0, 1, 2]))
        >>> there = layer.bias(q, k, torch.tensor([901, 902]), torch.tensor([900, 901, 902]))
        >>> torch.equal(here, there)
        True

        >>> layer.bias(q, k, torch.tensor([1.0, 2.0]), torch.tensor([0, 1, 2]))
        Traceback (most recent call last):
            ...
        TypeError: q_positions must be int64 or int32, got torch.float32
        """
        self._check(q, k, q_positions, k_positions)
        scale = 1 / math.sqrt(self.d_head)
        wanted, constant = scale * (q + self.v[:, None]), scale * self.u[:, None] @ k.mT
        q_at, k_at = q_positions.long(), k_positions.long()
        if self.consecutive:
            wanted = wanted.masked_fill(_broken(q_at)[..., None, :, None], math.nan)
            constant = constant.masked_fill(_broken(k_at)[..., None, None, :], math.nan)
            return self._by_shift(wanted, q_at, k_at) + constant
        if self.clamp is None:
            return self._by_turn(wanted, q_at, k_at) + constant
        return self._by_gather(wanted, q_at, k_at, self.clamp) + constant

    def _by_shift(self, wanted, q_at, k_at) -> torch.Tensor:
        """Score every offset of a block once."""
        n_q, n_k = q_at.shape[-1], k_at.shape[-1]
        columns = torch.arange(n_q + n_k, device=q_at.device)
        keys = self._keys(q_at[..., :1] - k_at[..., :1] + n_q - columns)
        return shift(wanted @ keys.mT)

    def _by_gather(self, wanted, q_at, k_at, limit: int) -> torch.Tensor:
        """Score every offset up to the limit, and pick."""
        keys = self._keys(torch.arange(-limit, limit + 1, device=q_at.device))
        picked = (q_at[..., :, None] - k_at[..., None, :]).clamp(-limit, limit) + limit
        index = picked.unsqueeze(-3).expand(*wanted.shape[:-1], -1)
        return (wanted @ keys.mT).gather(-1, index)

    def _by_turn(self, wanted, q_at, k_at) -> torch.Tensor:
        """Turn what is wanted by the query's place, and the vector of offset 0 by the key's."""
        g = wanted @ self.relative.weight.unflatten(0, (self.n_heads, -1))
        zero = torch.arange(self.d_model, device=g.device) >= self.d_model // 2
        zero = zero.to(g.dtype).expand(len(g), 1, k_at.shape[-1], -1)
        first = k_at[..., :1]  # small angles, and the same for all that moves together
        g, turned = self.turn.rotate(g, zero, q_at - first, k_at - first)
        return g @ turned.mT

    def _keys(self, offsets: torch.Tensor) -> torch.Tensor:
        """Project the vectors of offsets, for each head."""
        if self.clamp is not None:
            offsets = offsets.clamp(-self.clamp, self.clamp)
        weight = self.relative.weight
        cos, sin = self.turn.tables(offsets, torch.promote_types(weight.dtype, torch.float32))
        r = self.relative(torch.cat([sin, cos], dim=-1).to(weight.dtype))
        return r.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3).flatten(0, 1)

    def _check(self, q, k, q_positions, k_positions) -> None:
        for name, x, at in (("q", q, q_positions), ("k", k, k_positions)):
            check.heads(name, x, self.d_head)
            if x.shape[:2] != (len(q), self.n_heads):
                wanted = f"(batch, heads) = {(len(q), self.n_heads)}"
                raise ValueError(f"{name} must have {wanted}, got {tuple(x.shape[:2])}")
            # Under autocast the products cast what they get.
            if x.dtype != self.u.dtype and not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"{name} must have the layer's dtype {self.u.dtype}, got {x.dtype}")
            check.positions(f"{name}_positions", at, x.transpose(1, 2))


def _broken(at: torch.Tensor) -> torch.Tensor:
    """Where positions do not go up by one."""
    return at != at[..., :1] + torch.arange(at.shape[-1], device=at.device)


def from_xlnet(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    r"""Rename and reshape one attention layer of XLNet for `Attention` with `TransformerXL`.

    $$W_{h d_{head} + c,\, a} = w_{a h c} \qquad \text{for } q, k, v, r$$

    XLNet keeps its matrices with axes for heads; `torch.nn.Linear` keeps them flat, and has the
    outputs first. The output matrix `o` has its axes the other way round already.

    Parameters
    ----------
    weights
        State dict of the attention of one layer in the transformers library, `layer.rel_attn`.
        What belongs to segments, `r_s_bias` and `seg_embed`, and the layer normalisation are
        left out.

    Returns
    -------
    dict of str to torch.Tensor
        State dict of an `Attention` whose encoding is a `TransformerXL`.

    Raises
    ------
    ValueError
        If a tensor is missing or has the wrong number of axes.

    Examples
    --------
    >>> from posenc.layers.attention import Attention
    >>> matrices = {name: torch.randn(8, 2, 4) for name in "qkvor"}
    >>> vectors = {name: torch.randn(2, 4) for name in ("r_w_bias", "r_r_bias")}
    >>> layer = Attention(8, 2, TransformerXL(8, 2))
    >>> layer.load_state_dict(from_xlnet(matrices | vectors))
    <All keys matched successfully>

    >>> from_xlnet(matrices)
    Traceback (most recent call last):
        ...
    ValueError: weights must hold r_w_bias with 2 axes, got none

    See Also
    --------
    TransformerXL : The encoding.
    """
    for name in (*"qkvor", "r_w_bias", "r_r_bias"):
        axes, found = 2 if "bias" in name else 3, weights.get(name)
        if found is None or found.ndim != axes:
            got = "none" if found is None else f"shape {tuple(found.shape)}"
            raise ValueError(f"weights must hold {name} with {axes} axes, got {got}")
    parts = {"query": "q", "key": "k", "value": "v", "encoding.relative": "r"}
    state = {f"{part}.weight": weights[name].flatten(1).T for part, name in parts.items()}
    state["output.weight"] = weights["o"].flatten(1)
    return state | {"encoding.u": weights["r_w_bias"], "encoding.v": weights["r_r_bias"]}
