r"""URPE as a layer: it opens the weights door, and any other encoding keeps the doors it opens.

The product is computed in at least the dtype of the factors and rounded once.
"""

from typing import Any

import torch
from torch import nn

from posenc._checks import check_count
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Urpe"]


def _of_encoding(name: str) -> Any:
    return property(lambda self: getattr(self.encoding, name))


class _Around(PositionEncoding):
    """An encoding around another, which keeps all doors but those that a derived class opens."""

    # Asked for at every call, so that whatever changes inside holds; no methods, see `_opens`.
    embed, rotate, bias, reweight, combine, scale = map(
        _of_encoding, ("embed", "rotate", "bias", "reweight", "combine", "scale")
    )

    def __init__(self, encoding: PositionEncoding | None) -> None:
        super().__init__()
        self.encoding = PositionEncoding() if encoding is None else encoding

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "encoding" and not isinstance(value, PositionEncoding):
            raise TypeError(f"encoding must be a PositionEncoding, got {value!r}")
        super().__setattr__(name, value)


class Urpe(_Around):
    r"""Weights door: multiply every weight by a trained factor of its head and its offset.

    $$\alpha_{ij}' = \alpha_{ij}\; g_h\bigl(\max(-K, \min(K, i - j))\bigr)$$

    The factors are the parameter `weight`, $g_h(-K), \dots, g_h(K)$ for every head, and start as
    ones: the layer begins as the model without it. Offsets beyond $\pm K$ share the outermost
    factor. With $K = n - 1$ every offset of $n$ tokens has its own.

    The logits are left to another encoding. Its doors are called as if it stood here alone, and
    its `scale` holds; if it changes the weights, too, it does so first. A factor needs one
    offset for every pair of tokens, so that `axes` stays `None` whatever the encoding knows.

    Parameters
    ----------
    encoding
        Encoding that knows the other doors, such as `posenc.layers.rope.Rope`; `None` is NoPE.
    n_heads
        Number of heads $H \ge 1$ of the attention.
    max_distance
        Largest distance $K \ge 0$ that has factors of its own, in tokens.
    device, dtype
        Of the factors, as in `torch.nn.Linear`.

    Attributes
    ----------
    weight : torch.nn.Parameter
        Factors of shape `(n_heads, 2 * max_distance + 1)`, from $t = i - j = -K$ to $K$.
    encoding : PositionEncoding
        The other encoding. It may be replaced.

    Raises
    ------
    TypeError
        If `encoding` is not a `PositionEncoding`, or `n_heads` or `max_distance` no integer.
    ValueError
        If `n_heads` is less than 1, or `max_distance` less than 0.

    Examples
    --------
    Around RoPE, for sequences of up to 16 tokens.

    >>> from posenc.layers.attention import Attention, doors
    >>> from posenc.layers.rope import Rope
    >>> encoding = Urpe(Rope(4), n_heads=2, max_distance=15)
    >>> {name: tuple(tensor.shape) for name, tensor in encoding.state_dict().items()}
    {'weight': (2, 31)}

    At the start nothing is different from RoPE alone.

    >>> layer, x = Attention(8, n_heads=2, encoding=encoding), torch.randn(1, 16, 8)
    >>> with_factors = layer(x)
    >>> layer.encoding = encoding.encoding
    >>> torch.equal(layer(x), with_factors)
    True

    The class opens one door; what it wraps opens others.

    >>> doors(Urpe), doors(type(encoding.encoding))
    (('weights',), ('query/key',))

    >>> Urpe(None, n_heads=0, max_distance=15)
    Traceback (most recent call last):
        ...
    ValueError: n_heads must be at least 1, got 0

    See Also
    --------
    posenc.equations.urpe.urpe : The equation.
    posenc.equations.urpe.factors_with_means : Factors that write a given function of position.

    References
    ----------
    Luo et al. *Your Transformer May Not be as Powerful as You Expect*. 2022, arXiv:2205.13401.
    """

    def __init__(
        self,
        encoding: PositionEncoding | None,
        n_heads: int,
        max_distance: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(encoding)
        self.n_heads = check_count("n_heads", n_heads)
        self.max_distance = check_count("max_distance", max_distance, at_least=0)
        size = self.n_heads, 2 * self.max_distance + 1
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Set all factors to one.

        $$g_h(t) = 1$$

        Examples
        --------
        >>> layer = Urpe(None, 1, 1, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> layer.weight.detach()
        tensor([[1., 1., 1.]])
        """
        self.weight.fill_(1)

    def reweight(
        self, weights: torch.Tensor, q_positions: torch.Tensor, k_positions: torch.Tensor
    ) -> torch.Tensor:
        r"""Multiply every weight by the factor of its head and its offset.

        $$\alpha_{ij}' = \alpha_{ij}\; g_h\bigl(\max(-K, \min(K, i - j))\bigr)$$

        Parameters
        ----------
        weights
            Weights of shape `(batch, n_heads, n_q, n_k)`, of any floating dtype.
        q_positions, k_positions
            int64 or int32, `(n,)` or `(batch, n)` each, in tokens.

        Returns
        -------
        torch.Tensor
            Weights of the same shape and dtype; their rows need not sum to one.

        Raises
        ------
        TypeError
            If `weights` are not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or if they are not all on one device.

        Examples
        --------
        Factors that forget what comes after the query, and double what comes before.

        >>> layer = Urpe(None, n_heads=1, max_distance=1)
        >>> layer.weight = nn.Parameter(torch.tensor([[0.0, 1.0, 2.0]]))
        >>> weights, at = torch.full((1, 1, 3, 3), 0.25), torch.arange(3)
        >>> layer.reweight(weights, at, at).detach()
        tensor([[[[0.2500, 0.0000, 0.0000],
                  [0.5000, 0.2500, 0.0000],
                  [0.5000, 0.5000, 0.2500]]]])

        One query after a cache of two keys: only offsets count, and 2 is as far as 1.

        >>> layer.reweight(weights[:, :, :1], torch.tensor([102]), torch.arange(100, 103)).detach()
        tensor([[[[0.5000, 0.5000, 0.2500]]]])
        """
        weights = self.encoding.reweight(weights, q_positions, k_positions)
        self._check(weights, q_positions, k_positions)
        offsets = q_positions[..., :, None] - k_positions[..., None, :]
        places = offsets.clamp(-self.max_distance, self.max_distance) + self.max_distance
        factors = self.weight[:, places].movedim(0, -3)
        return (weights * factors).to(weights.dtype)

    def _check(self, weights, q_positions, k_positions) -> None:
        if weights.ndim != 4 or weights.shape[1] != self.n_heads:
            wanted = f"(batch, {self.n_heads}, n_q, n_k)"
            raise ValueError(f"weights must have shape {wanted}, got {tuple(weights.shape)}")
        check.floating("weights", weights)
        if weights.device != self.weight.device:
            device = self.weight.device
            raise ValueError(f"weights must be on device {device}, got {weights.device}")
        check.positions("q_positions", q_positions, weights[:, 0])
        check.positions("k_positions", k_positions, weights[:, 0].mT)
