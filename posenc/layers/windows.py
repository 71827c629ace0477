r"""A window around any other encoding, and attention within it in time that is linear.

The offset is $t = i - j$, query minus key, in tokens.
"""

import numpy as np
import torch
from torch import nn

from posenc._checks import check_count
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding, _opens
from posenc.layers.urpe import _Around

__all__ = ["Window", "attend_in_window", "mask_tensor"]

BLOCK = 32  # at least so many queries go together


def mask_tensor(mask: np.ndarray, device: torch.device | str | None = None) -> torch.Tensor:
    r"""Turn a mask of `posenc.equations` into one for PyTorch.

    $$M_{ij} \in \{0, 1\} \;\mapsto\; M_{ij}$$

    `Attention` takes it as `mask`, `(n_q, n_k)` or `(batch, n_q, n_k)`. So does
    `scaled_dot_product_attention` as `attn_mask`, but with an axis for the heads: of a mask that
    has a batch, give it `[:, None]`.

    Parameters
    ----------
    mask
        Boolean mask of shape `(..., n_q, n_k)`; True = may look.
    device
        Where the tensor shall be.

    Returns
    -------
    torch.Tensor
        A copy of dtype `torch.bool`.

    Raises
    ------
    TypeError
        If `mask` is not boolean. PyTorch would *add* a mask of numbers to the logits.

    Examples
    --------
    >>> from posenc.equations.windows import sliding_window
    >>> from posenc.layers.attention import Attention
    >>> at = np.arange(3)
    >>> mask = mask_tensor(sliding_window(at, at, (1, 0)))
    >>> mask
    tensor([[ True, False, False],
            [ True,  True, False],
            [False,  True,  True]])
    >>> Attention(8, n_heads=2)(torch.ones(1, 3, 8), mask=mask).shape
    torch.Size([1, 3, 8])

    Another library's mask may be a number per pair, with 0 for "may look".

    >>> mask_tensor(np.zeros((3, 3)))
    Traceback (most recent call last):
        ...
    TypeError: mask must be boolean, got dtype float64

    See Also
    --------
    posenc.equations.windows.sliding_window : One of the masks.
    """
    array = np.asarray(mask)
    if array.dtype != np.bool:
        raise TypeError(f"mask must be boolean, got dtype {array.dtype}")
    return torch.tensor(array, device=device)


def attend_in_window(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    size: int,
    *,
    scale: float,
    after: int = 0,
    sinks: int = 0,
) -> torch.Tensor:
    r"""Fused attention within a window, without ever making a matrix of $n^2$ numbers.

    $$z_i = \sum_{j \in M_i} \operatorname{softmax}_{j \in M_i}
    \left(\lambda\, q_i k_j^\top\right) v_j, \qquad
    M_i = \{j : -a \le i - j < w\} \cup \{j < s : j \le i + a\}$$

    Queries go in blocks of about half a window. The keys that a block can see are a view of `k`,
    one block further for every block, and one mask serves all; so all blocks but those at the ends
    are one call. Time is $O(n w)$, and memory $O(n d + w^2)$. Keys and values are copied
    about three times if there are sinks, and otherwise at most once, where sequences and heads do
    not lie one after another; their gradients take three times their room.

    Parameters
    ----------
    q, k, v
        Queries, keys and values `(batch, n_heads, n, d_head)`, at positions $0 \dots n - 1$.
    size
        Number of tokens $w \ge 1$ from the query back, itself included.
    scale
        Factor $\lambda$ of the dot products.
    after
        Number of tokens $a \ge 0$ after the query that it sees; 0 is causal.
    sinks
        Number of tokens $s \ge 0$ at the start that stay in sight.

    Returns
    -------
    torch.Tensor
        Outputs of the shape of `q`.

    Raises
    ------
    TypeError
        If `q` is not floating, or a number is not an integer.
    ValueError
        If `k` or `v` does not have the shape of `q`, if `size` is less than 1, or if `after` or
        `sinks` is less than 0.

    Examples
    --------
    Without content, every query takes the mean of the values that it sees: the last two.

    >>> q = k = torch.zeros(1, 1, 4, 1)
    >>> v = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1)
    >>> attend_in_window(q, k, v, 2, scale=1.0).flatten()
    tensor([1.0000, 1.5000, 3.0000, 6.0000])

    The last two and the first.

    >>> attend_in_window(q, k, v, 2, scale=1.0, sinks=1).flatten().round(decimals=2)
    tensor([1.0000, 1.5000, 2.3300, 4.3300])

    Its own and the next.

    >>> attend_in_window(q, k, v, 1, scale=1.0, after=1).flatten()
    tensor([1.5000, 3.0000, 6.0000, 8.0000])

    >>> attend_in_window(q, k, v, 0, scale=1.0)
    Traceback (most recent call last):
        ...
    ValueError: size must be at least 1, got 0

    See Also
    --------
    posenc.equations.windows.streaming_window : The mask.
    """
    check.floating("q", q)
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape:
            raise ValueError(f"{name} must have shape {tuple(q.shape)}, got {tuple(x.shape)}")
    size, after, sinks = width = _width(size, after, sinks)
    n, span = q.shape[2], size - 1
    block = max(BLOCK, -(-(span + after) // 2))
    # From here on, what a block sees begins neither before the text nor among the sinks.
    head = -(-(span + sinks) // block) * block
    count = (n - after - head) // block
    if count < 2:
        return _piece(q, k, v, 0, n, width, scale)
    tail = head + count * block
    parts = [_middle(q, k, v, head, count, block, width, scale)]
    if head:
        parts.insert(0, _piece(q, k, v, 0, head, width, scale))
    if tail < n:
        parts.append(_piece(q, k, v, tail, n, width, scale))
    return torch.cat(parts, dim=2)


def _width(size: int, after: int, sinks: int) -> tuple[int, int, int]:
    after, sinks = (
        check_count(name, value, at_least=0) for name, value in (("after", after), ("sinks", sinks))
    )
    return check_count("size", size), after, sinks


def _sees(i, j, width: tuple[int, int, int]) -> torch.Tensor:
    """Whether the query at `i` may look at the key at `j`."""
    size, after, sinks = width
    near = i - j < size
    if sinks:
        near = near | ((j >= 0) & (j < sinks))
    return near & (i - j >= -after)


def _piece(q, k, v, low, high, width, scale) -> torch.Tensor:
    """Attention of the queries from `low` to `high`, with what they can see of keys and values."""
    size, after, sinks = width
    first, last = max(0, low - size + 1), min(q.shape[2], high + after)
    seen = torch.arange(first, last, device=q.device)
    k_near, v_near = k[:, :, first:last], v[:, :, first:last]
    if kept := min(sinks, first):
        seen = torch.cat([torch.arange(kept, device=q.device), seen])
        k_near, v_near = (
            torch.cat([x[:, :, :kept], near], dim=2) for x, near in ((k, k_near), (v, v_near))
        )
    i = torch.arange(low, high, device=q.device)
    mask = _sees(i[:, None], seen, width)[None, None]
    fused = nn.functional.scaled_dot_product_attention
    return fused(q[:, :, low:high], k_near, v_near, mask, scale=scale)


def _middle(q, k, v, low, count, block, width, scale) -> torch.Tensor:
    """Attention of `count` blocks of queries from `low` on, in one call, with the blocks first."""
    size, after, sinks = width
    shape, high, length = q.shape[:2], low + count * block, size - 1 + block + after
    # Sequences and heads as one axis: only so are the blocks of several sequences a view.
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    queries = q[:, low:high].unflatten(1, (count, block)).transpose(0, 1)
    keys, values = (
        _windows(x[:, low - size + 1 : high + after], length, block, x[:, :sinks]) for x in (k, v)
    )
    i = torch.arange(size - 1, size - 1 + block, device=q.device)
    near = _sees(i[:, None], torch.arange(length, device=q.device), (size, after, 0))
    mask = nn.functional.pad(near, (sinks, 0), value=True)[None, None]
    z = nn.functional.scaled_dot_product_attention(queries, keys, values, mask, scale=scale)
    return z.transpose(0, 1).flatten(1, 2).unflatten(0, shape)


def _windows(x, length, block, kept) -> torch.Tensor:
    """What each block can see, `(blocks, batch * n_heads, sinks + length, width)`."""
    near = x.unfold(1, length, block).permute(1, 0, 3, 2)
    if kept.shape[1]:
        near = torch.cat([kept.expand(near.shape[0], -1, -1, -1), near], dim=2)
    return near


class Window(_Around):
    r"""Logits door: forbid whatever lies outside a window, and leave the rest to an encoding.

    $$b_{ij}' = \begin{cases} b_{ij}, & -a \le i - j < w \\
    b_{ij}, & j < s,\; j \le i + a \\ -\infty & \text{otherwise} \end{cases}$$

    The bias $b$, and all that happens at the other doors, are those of the encoding inside; its
    `scale` holds. A window asks for one position per token, so that `axes` stays `None`.

    The window goes by positions, not by places in a tensor: with a cache of keys, with left padding
    or in any order it hides the same pairs. A decoder needs to keep no more keys than the window
    and the sinks.

    Parameters
    ----------
    size
        Number of tokens $w \ge 1$ from the query back, itself included: Mistral 7B has 4096.
    encoding
        Encoding that knows the positions, such as `posenc.layers.rope.Rope`; `None` is NoPE.
    after
        Number of tokens $a \ge 0$ after the query that it sees. Longformer's window of $w$ tokens,
        $w$ even, has `size = w // 2 + 1` and `after = w // 2`.
    sinks
        Number of tokens $s \ge 0$ at the start of the text that stay in sight.

    Attributes
    ----------
    encoding : PositionEncoding
        The other encoding. It may be replaced.

    Raises
    ------
    TypeError
        If `encoding` is not a `PositionEncoding`, or a number is not an integer.
    ValueError
        If `size` is less than 1, or `after` or `sinks` less than 0.

    Examples
    --------
    Around RoPE, in an attention that is causal and fused.

    >>> from posenc.layers.attention import Attention, doors
    >>> from posenc.layers.rope import Rope
    >>> layer = Attention(8, n_heads=2, encoding=Window(4, Rope(4)), causal=True, fused=True)
    >>> x = torch.randn(1, 100, 8)

    One new token needs the last four as its context, and no more.

    >>> at = torch.arange(100)
    >>> last = layer(x[:, -1:], at[-1:], context=x[:, -4:], context_positions=at[-4:])
    >>> torch.allclose(last, layer(x)[:, -1:], atol=1e-6)
    True

    The class opens one door; what it wraps opens others.

    >>> doors(Window), doors(type(layer.encoding.encoding))
    (('logits',), ('query/key',))

    >>> Window(0)
    Traceback (most recent call last):
        ...
    ValueError: size must be at least 1, got 0

    See Also
    --------
    posenc.equations.windows.sliding_window : The equation.
    attend_in_window : The fused attention.

    References
    ----------
    Beltagy, Peters, Cohan. *Longformer: The Long-Document Transformer*. 2020, arXiv:2004.05150.
    Xiao et al. *Efficient Streaming Language Models with Attention Sinks*. 2023, arXiv:2309.17453.
    """

    def __init__(
        self,
        size: int,
        encoding: PositionEncoding | None = None,
        *,
        after: int = 0,
        sinks: int = 0,
    ) -> None:
        super().__init__(encoding)
        self.size, self.after, self.sinks = _width(size, after, sinks)

    def extra_repr(self) -> str:
        r"""Show the window where the model is printed.

        $$(w, a, s)$$

        Returns
        -------
        str
            The three numbers.

        Examples
        --------
        >>> Window(4).extra_repr()
        '4, after=0, sinks=0'
        >>> Window(4, after=3, sinks=1).extra_repr()
        '4, after=3, sinks=1'
        """
        return f"{self.size}, after={self.after}, sinks={self.sinks}"

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Put $-\infty$ outside the window, at any positions.

        $$b_{ij}' = b_{ij} \;\text{ if } j \in M_i, \text{ else } -\infty$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`, for
            the encoding inside.
        q_positions, k_positions
            Their positions, `(n,)` or `(batch, n)` each, int64 or int32.

        Returns
        -------
        torch.Tensor
            Bias that broadcasts to `(batch, n_heads, n_q, n_k)`.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32.
        ValueError
            If positions have the wrong shape or device.

        Examples
        --------
        >>> q = k = torch.zeros(1, 1, 4, 2)
        >>> at = torch.arange(4)
        >>> Window(2, sinks=1).bias(q, k, at, at)
        tensor([[[0., -inf, -inf, -inf],
                 [0., 0., -inf, -inf],
                 [0., 0., 0., -inf],
                 [0., -inf, 0., 0.]]])

        One query after a cache of three keys.

        >>> Window(2).bias(q[:, :, :1], k, torch.tensor([103]), torch.arange(100, 104))
        tensor([[[-inf, -inf, 0., 0.]]])
        """
        check.positions("q_positions", q_positions, q[:, 0])
        check.positions("k_positions", k_positions, k[:, 0])
        inside = self.encoding.bias(q, k, q_positions, k_positions)
        inside = q.new_zeros(1) if inside is None else inside
        i, j = q_positions[..., :, None], k_positions[..., None, :]
        mask = _sees(i, j, (self.size, self.after, self.sinks))
        return inside.where(mask.unsqueeze(-3), -torch.inf)

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal: bool
    ) -> torch.Tensor | None:
        r"""Do the fused attention block by block, for positions from 0 up.

        $$z_i = \sum_{j \in M_i} \operatorname{softmax}_{j \in M_i}
        \left(\lambda\, q_i k_j^\top\right) v_j$$

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
            Outputs of shape `(batch, n_heads, n, d_head)`; `None`, and thereby the way through
            the doors, if the encoding inside opens the logits door too, or if a derived class has
            a bias of its own.

        Examples
        --------
        >>> q = k = torch.zeros(1, 1, 4, 1)
        >>> v = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1)
        >>> Window(2).attend(q, k, v, 1.0, True).flatten()
        tensor([1.0000, 1.5000, 3.0000, 6.0000])

        T5's bias must be added, too.

        >>> from posenc.layers.t5 import T5
        >>> Window(2, T5(n_heads=1)).attend(q, k, v, 1.0, True) is None
        True
        """
        if _opens(self.encoding, "bias") or type(self).bias is not Window.bias:
            return None
        after = 0 if causal else self.after
        return attend_in_window(q, k, v, self.size, scale=scale, after=after, sinks=self.sinks)
