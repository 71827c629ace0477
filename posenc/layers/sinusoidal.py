r"""The sinusoidal encoding as a layer: it opens the input door and has nothing to train.

Angles are computed in float64, the sum in at least float32, and the result is rounded once, last.
"""

import math

import torch
from torch import nn

from posenc._checks import check_above, check_between, check_choice
from posenc.equations.sinusoidal import frequencies
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Sinusoidal"]


class Sinusoidal(PositionEncoding):
    r"""Input door: add sines and cosines of the position to the tokens.

    $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + \mathrm{PE}_i\right)$$

    Any position will do, however large, negative too, and no length is set in advance. The
    layer holds no tensor: there is nothing that a cast could round, that a checkpoint could
    lack, or that `to_empty` could erase.

    Parameters
    ----------
    d_model
        Width $d \ge 1$ of the tokens. An odd width ends with a sine.
    base
        Base $b > 1$ of the frequencies.
    layout
        `"interleaved"`: sine and cosine of a pair are neighbours. `"halves"`: all sines, then
        all cosines.
    spacing
        `"paper"` or `"tensor2tensor"`, see `posenc.equations.sinusoidal.frequencies`.
    token_scale
        Factor $\lambda > 0$ of the tokens; the original model has `math.sqrt(d_model)`.
    dropout
        Probability, from 0 to 1, that an entry of the sum becomes zero in training; the
        original model has 0.1.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base`, `token_scale` or `dropout` not a real number.
    ValueError
        If `d_model` is less than 1, or odd with `spacing="tensor2tensor"`, if `base` is not
        finite or not above 1, if `layout` or `spacing` is unknown, if `token_scale` is not
        finite or not above 0, or if `dropout` is not between 0 and 1.

    Examples
    --------
    >>> layer = Sinusoidal(4)
    >>> layer(torch.zeros(1, 2, 4))
    tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
             [0.8415, 0.5403, 0.0100, 0.9999]]])
    >>> len(layer.state_dict())
    0

    Cast to bfloat16, the layer takes tokens of that dtype and still computes exact angles.

    >>> layer.bfloat16()(torch.zeros(1, 1, 4).bfloat16(), torch.tensor([1_000_000]))
    tensor([[[-0.3496,  0.9375, -0.3047, -0.9531]]], dtype=torch.bfloat16)

    Before an attention layer it is the input door.

    >>> from posenc.layers.attention import Attention
    >>> Attention(4, n_heads=1, encoding=layer.float())(torch.zeros(1, 2, 4)).shape
    torch.Size([1, 2, 4])

    >>> Sinusoidal(4, token_scale=0)
    Traceback (most recent call last):
        ...
    ValueError: token_scale must be above 0, got 0

    See Also
    --------
    posenc.equations.sinusoidal.sinusoidal : The equation.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Sections 3.4, 3.5, 5.4.
    """

    def __init__(
        self,
        d_model: int,
        base: float = 10000.0,
        *,
        layout: str = "interleaved",
        spacing: str = "paper",
        token_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        theta = frequencies(d_model, base, spacing=spacing)
        # A geometric series from 1: one number says it all, and no cast of the model rounds it.
        self._step = math.log(theta[-1]) / max(len(theta) - 1, 1)
        self.d_model, self.n_frequencies = d_model, len(theta)
        self.layout = check_choice("layout", layout, ("interleaved", "halves"))
        self.token_scale = check_above("token_scale", token_scale, 0)
        self.dropout = nn.Dropout(check_between("dropout", dropout, 0, 1))

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Add the encoding of every token's position to the token.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + \mathrm{PE}_i\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        Left padding: every row has positions of its own.

        >>> positions = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> Sinusoidal(2).embed(torch.zeros(2, 3, 2), positions)[:, :, 0]
        tensor([[0.0000, 0.0000, 0.8415],
                [0.0000, 0.8415, 0.9093]])

        >>> Sinusoidal(2).embed(torch.zeros(1, 2, 2), torch.tensor([0.5, 1.5]))
        Traceback (most recent call last):
            ...
        TypeError: positions must be int64 or int32, got torch.float32
        """
        check.tokens("x", x, self.d_model)
        check.positions("positions", positions, x)
        m = torch.arange(self.n_frequencies, dtype=torch.float64, device=x.device)
        angle = positions.unsqueeze(-1) * torch.exp(self._step * m)
        pair = -1 if self.layout == "interleaved" else -2
        table = torch.stack([angle.sin(), angle.cos()], pair).flatten(-2)[..., : self.d_model]
        working = torch.promote_types(x.dtype, torch.float32)
        total = self.token_scale * x.to(working) + table.to(working)
        return self.dropout(total).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + \mathrm{PE}_i\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        >>> layer = Sinusoidal(2)
        >>> layer(torch.zeros(1, 3, 2))
        tensor([[[ 0.0000,  1.0000],
                 [ 0.8415,  0.5403],
                 [ 0.9093, -0.4161]]])

        One more token, with its position.

        >>> layer(torch.zeros(1, 1, 2), torch.tensor([2]))
        tensor([[[ 0.9093, -0.4161]]])
        """
        check.tokens("x", x, self.d_model)
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        return self.embed(x, positions)
