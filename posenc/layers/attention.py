r"""One attention with five doors, through which every position encoding acts.

An encoding derives from `PositionEncoding` and overrides the doors that it uses; `Attention`
opens all five. The base class overrides none of them: it is the model without positions (NoPE).
"""

import math

import torch
from torch import nn

from posenc._checks import check_count
from posenc.layers import _checks as check

__all__ = ["Attention", "PositionEncoding", "doors"]


class PositionEncoding(nn.Module):
    r"""Five doors, all shut: the position encoding that does nothing.

    $$\begin{aligned}
    x_i' &= \operatorname{embed}(x_i, i), \qquad
    (q_i, k_j) = \operatorname{rotate}(x_i' W^Q, x_j' W^K; i, j) \\
    e_{ij} &= \lambda\, q_i k_j^\top + \operatorname{bias}(q_i, k_j; i, j) \\
    \alpha_{ij} &= \operatorname{reweight}(\operatorname{softmax}_j(e_{ij}); i, j) \\
    z_i &= \operatorname{combine}(\alpha_{i \cdot}, v; i)
    \end{aligned}$$

    A scheme overrides the methods that it needs. Tensors have heads first: `q`, `k` and `v` are
    `(batch, n_heads, n, d_head)`, logits and weights are `(batch, n_heads, n_q, n_k)`. Positions
    are integers of shape `(n,)` or `(batch, n)`, of any offset, not only `0 .. n-1`. An encoding
    that knows several axes, such as rows and columns, also gets `(n, axes)` or `(batch, n, axes)`.

    Attributes
    ----------
    scale : float or None
        Factor $\lambda$ of the dot products; `None` is $1 / \sqrt{d_{head}}$.
    axes : int or None
        How many numbers a position may have; `None` is one.

    Examples
    --------
    The base class opens no door; a scheme that adds to the logits opens one.

    >>> doors(PositionEncoding)
    ()

    >>> class NoSelf(PositionEncoding):
    ...     def bias(self, q, k, q_positions, k_positions):
    ...         same = q_positions[..., :, None] == k_positions[..., None, :]
    ...         return torch.where(same, -torch.inf, 0.0).unsqueeze(-3)
    >>> doors(NoSelf)
    ('logits',)
    >>> layer = Attention(2, n_heads=1, encoding=NoSelf())

    Two tokens that must not look at themselves swap places.

    >>> for part in (layer.value, layer.output):
    ...     part.weight = nn.Parameter(torch.eye(2))
    >>> layer(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])).detach()
    tensor([[[0., 2.],
             [1., 0.]]])

    See Also
    --------
    Attention : The layer that calls the doors.
    doors : Which doors a class overrides.
    """

    scale: float | None = None
    axes: int | None = None

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Input door: change the tokens before the first layer.

        $$x_i' = x_i$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`.
        positions
            Positions of the tokens, `(n,)` or `(batch, n)`.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Examples
        --------
        >>> PositionEncoding().embed(torch.tensor([[[0.5, 2.0]]]), torch.tensor([7]))
        tensor([[[0.5000, 2.0000]]])

        >>> class Count(PositionEncoding):
        ...     def embed(self, x, positions):
        ...         return x + positions.unsqueeze(-1)
        >>> Count().embed(torch.zeros(1, 2, 2), torch.tensor([7, 8]))
        tensor([[[7., 7.],
                 [8., 8.]]])
        """
        return x

    def rotate(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Query/key door: change queries and keys after their projection, in every layer.

        $$(q_i', k_j') = (q_i, k_j)$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`.
        q_positions, k_positions
            Their positions, `(n,)` or `(batch, n)` each.

        Returns
        -------
        tuple of torch.Tensor
            Queries and keys of the same shapes and dtype.

        Examples
        --------
        >>> q, k, at = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.tensor([7])
        >>> PositionEncoding().rotate(q, k, at, at)[0]
        tensor([[[[1., 1.]]]])
        >>> PositionEncoding().rotate(q, k, at, at)[1]
        tensor([[[[0., 0.]]]])
        """
        return q, k

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor | None:
        r"""Logits door: what to add to the scaled logits.

        $$e_{ij} = \lambda\, q_i k_j^\top + b_{ij}$$

        A bias of `-inf` forbids the key. `None` adds nothing, and costs nothing.

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`.
        q_positions, k_positions
            Their positions, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor or None
            Bias $b$ that broadcasts to `(batch, n_heads, n_q, n_k)`.

        Examples
        --------
        >>> q = k = torch.zeros(1, 1, 3, 2)
        >>> PositionEncoding().bias(q, k, torch.arange(3), torch.arange(3)) is None
        True

        `unsqueeze` makes room for the heads, so that positions `(batch, n)` work as well.

        >>> class Distance(PositionEncoding):
        ...     def bias(self, q, k, q_positions, k_positions):
        ...         distance = (q_positions[..., :, None] - k_positions[..., None, :]).abs()
        ...         return (-distance).unsqueeze(-3).to(q.dtype)
        >>> Distance().bias(q, k, torch.arange(3), torch.arange(3))
        tensor([[[ 0., -1., -2.],
                 [-1.,  0., -1.],
                 [-2., -1.,  0.]]])
        """
        return None

    def reweight(
        self, weights: torch.Tensor, q_positions: torch.Tensor, k_positions: torch.Tensor
    ) -> torch.Tensor:
        r"""Weights door: change the weights after the softmax.

        $$\alpha_{ij}' = \alpha_{ij}$$

        Parameters
        ----------
        weights
            Weights of shape `(batch, n_heads, n_q, n_k)`.
        q_positions, k_positions
            Positions of queries and keys, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor
            Weights of the same shape and dtype.

        Examples
        --------
        >>> weights = torch.full((1, 1, 1, 2), 0.5)
        >>> PositionEncoding().reweight(weights, torch.tensor([1]), torch.arange(2))
        tensor([[[[0.5000, 0.5000]]]])

        >>> class Backwards(PositionEncoding):
        ...     def reweight(self, weights, q_positions, k_positions):
        ...         return weights * (k_positions < q_positions[:, None])
        >>> Backwards().reweight(weights, torch.tensor([1]), torch.arange(2))
        tensor([[[[0.5000, 0.0000]]]])
        """
        return weights

    def combine(
        self,
        weights: torch.Tensor,
        v: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Values door: turn weights and values into the output of the heads.

        $$z_i = \sum_j \alpha_{ij} v_j$$

        Parameters
        ----------
        weights
            Weights of shape `(batch, n_heads, n_q, n_k)`.
        v
            Values of shape `(batch, n_heads, n_k, d_head)`.
        q_positions, k_positions
            Positions of queries and keys, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor
            Outputs of shape `(batch, n_heads, n_q, d_head)`.

        Examples
        --------
        >>> weights, v = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[1.0], [2.0]]]])
        >>> PositionEncoding().combine(weights, v, torch.tensor([1]), torch.arange(2))
        tensor([[[[1.5000]]]])

        >>> class ValueCount(PositionEncoding):
        ...     def combine(self, weights, v, q_positions, k_positions):
        ...         return weights @ (v + k_positions.unsqueeze(-1))
        >>> ValueCount().combine(weights, v, torch.tensor([1]), torch.arange(2))
        tensor([[[[2.]]]])
        """
        return weights @ v

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool
    ) -> torch.Tensor | None:
        r"""Do the whole fused attention in a shorter way, where the scheme knows one.

        $$z_i = \sum_j \operatorname{softmax}_j\left(\lambda\, q_i k_j^\top + b_{ij}\right) v_j
        \qquad i, j = 0 \dots n - 1$$

        This is no door: what comes out is what the doors say. `Attention` asks for it if it is
        fused, if the positions are the default, and if there is neither a context nor a mask;
        `None` sends it through the doors.

        Parameters
        ----------
        q, k, v
            Queries, keys and values `(batch, n_heads, n, d_head)`, after the query/key door.
        scale
            Factor $\lambda$ of the dot products.
        causal
            Leave out the keys with $j > i$.

        Returns
        -------
        torch.Tensor or None
            Outputs of shape `(batch, n_heads, n, d_head)`.

        Examples
        --------
        >>> q = k = v = torch.ones(1, 1, 3, 2)
        >>> PositionEncoding().attend(q, k, v, 1.0, False) is None
        True

        A bias that forbids all tokens but the query's own leaves nothing to compute.

        >>> class OnlySelf(PositionEncoding):
        ...     def bias(self, q, k, q_positions, k_positions):
        ...         same = q_positions[..., :, None] == k_positions[..., None, :]
        ...         return torch.where(same, 0.0, -torch.inf).unsqueeze(-3)
        ...
        ...     def attend(self, q, k, v, scale, causal):
        ...         return v
        >>> doors(OnlySelf)
        ('logits',)
        >>> short = Attention(2, n_heads=1, encoding=OnlySelf(), fused=True)
        >>> x = torch.ones(1, 3, 2)
        >>> torch.allclose(short(x), short(x, torch.arange(3)))
        True
        """
        return None


_DOORS = {
    "embed": "input",
    "rotate": "query/key",
    "bias": "logits",
    "reweight": "weights",
    "combine": "values",
}


def doors(encoding: type[PositionEncoding]) -> tuple[str, ...]:
    """Name the doors that a class of encodings opens, in the order of the computation.

    Parameters
    ----------
    encoding
        Class derived from `PositionEncoding`; a class, not an instance.

    Returns
    -------
    tuple of str
        Some of `"input"`, `"query/key"`, `"logits"`, `"weights"`, `"values"`.

    Raises
    ------
    TypeError
        If `encoding` is not a class derived from `PositionEncoding`.

    Examples
    --------
    >>> doors(PositionEncoding)
    ()

    >>> class Learned(PositionEncoding):
    ...     def __init__(self, n_positions, d_model):
    ...         super().__init__()
    ...         self.table = nn.Embedding(n_positions, d_model)
    ...
    ...     def embed(self, x, positions):
    ...         return x + self.table(positions)
    >>> doors(Learned)
    ('input',)

    See Also
    --------
    PositionEncoding : The methods behind the doors.
    """
    if not (isinstance(encoding, type) and issubclass(encoding, PositionEncoding)):
        raise TypeError(f"encoding must be a class of PositionEncoding, got {encoding!r}")
    return tuple(door for method, door in _DOORS.items() if _opens(encoding, method))


class Attention(nn.Module):
    r"""Multi-head attention that lets a position encoding in through five doors.

    $$z_i = \Big[\sum_j \operatorname{softmax}_j\left(\lambda\, q_i^{(h)} k_j^{(h)\top}\right)
    v_j^{(h)}\Big]_{h = 1 \dots H} W^O$$

    Written for a closed encoding, with $\lambda = 1/\sqrt{d_{head}}$; `PositionEncoding` says
    where the doors are. Nothing in this layer looks at the order of the rows: even causality
    is decided by the positions that come with them.

    Parameters
    ----------
    d_model
        Width of the tokens, a multiple of `n_heads`.
    n_heads
        Number of heads $H \ge 1$.
    encoding
        Instance of `PositionEncoding`; `None` is NoPE.
    causal
        Let queries look only at keys whose position is not after their own. Needs positions of
        one number: rows and columns have no order, so that a mask must say who may look.
    first
        Open the input door. Right for a layer alone; a model with a residual stream calls
        `encoding.embed` on its tokens itself, and says False in every layer.
    fused
        Use `torch.nn.functional.scaled_dot_product_attention`. Not for encodings that open the
        weights or the values door, which it does not have.
    bias
        Give the four linear maps a bias.
    device, dtype
        Of the parameters, as in `torch.nn.Linear`.

    Raises
    ------
    TypeError
        If `d_model` or `n_heads` is not an integer, or `encoding` not a `PositionEncoding`.
    ValueError
        If `d_model` or `n_heads` is less than 1, if `d_model` is not a multiple of `n_heads`,
        or if `fused` and the encoding opens the weights or the values door.

    Examples
    --------
    >>> layer = Attention(8, n_heads=2, causal=True)
    >>> x = torch.ones(1, 5, 8)
    >>> layer(x).shape
    torch.Size([1, 5, 8])

    One new token, with the tokens so far as its context, gives the last row of the full pass.

    >>> last = layer(x[:, -1:], torch.tensor([4]), context=x)
    >>> torch.allclose(last, layer(x)[:, -1:])
    True

    A query that may look at nothing, such as padding, yields zeros.

    >>> padding = torch.tensor([[True, True, True, True, False]])
    >>> bool(layer(x, mask=padding & padding.T)[0, 4].any())
    False

    >>> Attention(8, n_heads=3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of n_heads = 3, got 8

    See Also
    --------
    posenc.equations.attention.attention : The equation of one head.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.2.2.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        encoding: PositionEncoding | None = None,
        *,
        causal: bool = False,
        first: bool = True,
        fused: bool = False,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_model = check_count("d_model", d_model)
        self.n_heads = check_count("n_heads", n_heads)
        if d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
        self.encoding = PositionEncoding() if encoding is None else encoding
        if not isinstance(self.encoding, PositionEncoding):
            raise TypeError(f"encoding must be a PositionEncoding, got {encoding!r}")
        closed = [_DOORS[door] for door in ("combine", "reweight") if _opens(self.encoding, door)]
        if fused and closed:
            name, opened = type(self.encoding).__name__, " and ".join(closed)
            raise ValueError(f"fused must be False for {name}, which opens {opened}, got True")
        self.causal, self.first, self.fused = causal, first, fused
        self.query, self.key, self.value, self.output = (
            nn.Linear(d_model, d_model, bias, device, dtype) for _ in range(4)
        )

    def forward(
        self,
        x: torch.Tensor,
        positions: torch.Tensor | None = None,
        *,
        context: torch.Tensor | None = None,
        context_positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        r"""Let every token of `x` look at the context, or at `x` itself.

        $$\operatorname{Attention}(X, C) = \operatorname{softmax}\left(
        \lambda\, X W^Q (C W^K)^\top\right) C W^V W^O \qquad \text{for one head}$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of the layer's dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`. If the
            encoding has `axes`, also `(n, axes)` or `(batch, n, axes)`.
        context
            Tokens to look at, `(batch, n_context, d_model)`; `None` is `x`.
        context_positions
            Like `positions`, for the context.
        mask
            Boolean, broadcasts to `(batch, n, n_context)`; True = may look.

        Returns
        -------
        torch.Tensor
            Outputs of shape `(batch, n, d_model)`. Where a query may look at nothing, the
            heads yield zeros, so that the output is zero (or the bias of the output map).

        Raises
        ------
        TypeError
            If a tensor has the wrong dtype.
        ValueError
            If a tensor has the wrong rank, shape or device, if `context_positions` come without
            a `context`, if a causal layer gets a `context` without `positions`: a restart at 0
            would hide all of the context but its first token; or if it gets positions of
            several axes, which have no order.

        Examples
        --------
        >>> layer = Attention(2, n_heads=1)
        >>> for part in (layer.query, layer.key, layer.value, layer.output):
        ...     part.weight = nn.Parameter(torch.eye(2))
        >>> layer(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).detach()
        tensor([[[1., 0.],
                 [1., 0.]]])

        A mask that only lets the second token be seen.

        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        >>> layer(x, mask=torch.tensor([[False, True]])).detach()
        tensor([[[0., 2.],
                 [0., 2.]]])

        >>> layer(x, torch.tensor([0.0, 1.0]))
        Traceback (most recent call last):
            ...
        TypeError: positions must be int64 or int32, got torch.float32
        """
        self._check(x, positions, context, context_positions, mask)
        q_at = _positions(x, positions)
        k_at = q_at if context is None else _positions(context, context_positions)
        x = self._embed(x, q_at)
        source = x if context is None else self._embed(context, k_at)
        q, k, v = self.query(x), self.key(source), self.value(source)
        q, k, v = (self._split_heads(part) for part in (q, k, v))
        q, k = self.encoding.rotate(q, k, q_at, k_at)
        plain = self.fused and positions is context is mask is None
        z = self.encoding.attend(q, k, v, self._scale, self.causal) if plain else None
        if z is None:
            offset, blind = self._offset(q, k, q_at, k_at, mask)
            attend = self._attend_fused if self.fused else self._attend
            z = attend(q, k, v, offset, blind, q_at, k_at)
        return self.output(z.transpose(1, 2).flatten(2))

    @property
    def _scale(self) -> float:
        scale = self.encoding.scale
        return 1 / math.sqrt(self.d_model // self.n_heads) if scale is None else scale

    def _check(self, x, positions, context, context_positions, mask) -> None:
        check.vectors("x", x, self.query.weight)
        if context is None and context_positions is not None:
            raise ValueError("context must be given with context_positions, got None")
        if context is not None:
            check.vectors("context", context, self.query.weight, batch=x.shape[0])
            if self.causal and positions is None:
                raise ValueError("positions must be given with context if causal, got None")
        source, axes = x if context is None else context, self.encoding.axes
        if positions is not None:
            check.positions("positions", positions, x, axes, self.causal)
        if context_positions is not None:
            check.positions("context_positions", context_positions, source, axes, self.causal)
        if mask is not None:
            check.mask("mask", mask, x, source)

    def _embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.encoding.embed(x, positions) if self.first else x

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def _offset(self, q, k, q_at, k_at, mask):
        """Sum of bias and masks, with -inf for what is forbidden; and who may look at nothing."""
        offset = self.encoding.bias(q, k, q_at, k_at)
        if offset is None and mask is None and not self.causal:
            return None, None
        offset = q.new_zeros(1) if offset is None else offset
        if self.causal:
            looks = k_at[..., None, :] <= q_at[..., :, None]
            offset = offset.where(looks.unsqueeze(-3), -math.inf)
        if mask is not None:
            offset = offset.where(mask.unsqueeze(-3), -math.inf)
        # Four axes: with fewer, PyTorch leaves its fast kernel.
        offset = offset[(None,) * (4 - offset.ndim)]
        return offset, offset.amax(-1, keepdim=True).isneginf()

    def _attend(self, q, k, v, offset, blind, q_at, k_at) -> torch.Tensor:
        logits = self._scale * q @ k.mT
        if offset is not None:
            logits = (logits + offset).masked_fill(blind, 0)
        weights = _zero(logits.softmax(-1).to(v.dtype), blind)
        weights = self.encoding.reweight(weights, q_at, k_at)
        return self.encoding.combine(weights, v, q_at, k_at)

    def _attend_fused(self, q, k, v, offset, blind, q_at, k_at) -> torch.Tensor:
        mask = None if offset is None else offset.to(q.dtype)
        z = nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=self._scale)
        return _zero(z, blind)


def _opens(encoding: type[PositionEncoding] | PositionEncoding, method: str) -> bool:
    """Tell whether a class opens a door, or an instance, be it through what it wraps.

    A class that hands the door to what it wraps has a property there, and leaves it to that.
    """
    own = getattr(encoding, method)
    own = getattr(own, "__func__", own)
    return own is not getattr(PositionEncoding, method) and not isinstance(own, property)


def _positions(x: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    return torch.arange(x.shape[1], device=x.device) if positions is None else positions


def _zero(x: torch.Tensor, where: torch.Tensor | None) -> torch.Tensor:
    return x if where is None else x.masked_fill(where, 0)
