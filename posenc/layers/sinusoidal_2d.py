r"""The sinusoidal encoding of an image as a layer: one axis for each half of the columns.

Positions are the numbers of the patches, row by row, so that any attention layer can pass them on.
"""

import torch

from posenc._checks import check_choice, check_count, check_multiple
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding
from posenc.layers.sinusoidal import Sinusoidal

__all__ = ["Sinusoidal2d"]


class Sinusoidal2d(PositionEncoding):
    r"""Input door: add the encodings of row and column to the two halves of the tokens.

    $$x_p' = \operatorname{dropout}\left(\lambda\, x_p +
    \left[\,p_{\lfloor p / W \rfloor} \;\middle|\; p_{p \operatorname{mod} W}\,\right]\right)$$

    A position is the number $p$ of a patch, counted row by row in an image $W$ patches wide.
    Only the width is set in advance: there may be any number of rows, and any subset of the
    patches. The layer holds no tensor, as `posenc.layers.sinusoidal.Sinusoidal` holds none.

    Parameters
    ----------
    d_model
        Width $d$ of the tokens, a positive multiple of 4.
    width
        Number of columns $W \ge 1$ of the image, in patches.
    base
        Base $b > 1$ of the frequencies.
    order
        Which axis has the first half of the columns: `"hw"` or `"wh"`.
    layout
        Within each half, `"interleaved"` or `"halves"`, see
        `posenc.equations.sinusoidal_2d.sinusoidal_2d`.
    token_scale
        Factor $\lambda > 0$ of the tokens.
    dropout
        Probability, from 0 to 1, that an entry of the sum becomes zero in training.

    Raises
    ------
    TypeError
        If `d_model` or `width` is not an integer, or `base`, `token_scale` or `dropout` not a
        real number.
    ValueError
        If `d_model` is not a positive multiple of 4, if `width` is less than 1, if `base` is
        not finite or not above 1, if `order` or `layout` is unknown, if `token_scale` is not
        finite or not above 0, or if `dropout` is not between 0 and 1.

    Examples
    --------
    Two rows of two patches; the first two columns of the result tell the row.

    >>> layer = Sinusoidal2d(4, width=2)
    >>> layer(torch.zeros(1, 4, 4))
    tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
             [0.0000, 1.0000, 0.8415, 0.5403],
             [0.8415, 0.5403, 0.0000, 1.0000],
             [0.8415, 0.5403, 0.8415, 0.5403]]])
    >>> len(layer.state_dict())
    0

    A masked autoencoder shows its encoder some of the patches only: their numbers go along.

    >>> layer(torch.zeros(1, 1, 4), torch.tensor([3]))
    tensor([[[0.8415, 0.5403, 0.8415, 0.5403]]])

    Before an attention layer it is the input door.

    >>> from posenc.layers.attention import Attention
    >>> Attention(4, n_heads=1, encoding=layer)(torch.zeros(1, 6, 4)).shape
    torch.Size([1, 6, 4])

    >>> Sinusoidal2d(6, width=2)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 4, got 6

    See Also
    --------
    posenc.equations.sinusoidal_2d.sinusoidal_2d : The equation.
    posenc.layers.sinusoidal.Sinusoidal : One axis.

    References
    ----------
    He et al. *Masked Autoencoders Are Scalable Vision Learners*. 2021, arXiv:2111.06377; the
    authors' code has `order="wh"` and `layout="halves"`.
    """

    def __init__(
        self,
        d_model: int,
        width: int,
        base: float = 10000.0,
        *,
        order: str = "hw",
        layout: str = "interleaved",
        token_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.d_model, self.width = (
            check_multiple("d_model", d_model, 4),
            check_count("width", width),
        )
        self.order = check_choice("order", order, ("hw", "wh"))
        options = {"layout": layout, "token_scale": token_scale, "dropout": dropout}
        self.axis = Sinusoidal(self.d_model // 2, base, **options)

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Add the encoding of every patch's row and column to the token.

        $$\begin{aligned}
        (h, w) &= \left(\lfloor p / W \rfloor,\; p \operatorname{mod} W\right) \\
        x_p' &= \operatorname{dropout}\left(\lambda\, x_p + [\,p_h \mid p_w\,]\right)
        \end{aligned}$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            Numbers of the patches, int64 or int32, `(n,)` or `(batch, n)`.

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
        Two images of which different patches are left.

        >>> layer = Sinusoidal2d(4, width=3)
        >>> layer.embed(torch.zeros(2, 1, 4), torch.tensor([[1], [3]]))
        tensor([[[0.0000, 1.0000, 0.8415, 0.5403]],
        <BLANKLINE>
                [[0.8415, 0.5403, 0.0000, 1.0000]]])

        >>> layer.embed(torch.zeros(1, 2, 4), torch.tensor([[0, 1], [1, 0]]))
        Traceback (most recent call last):
            ...
        ValueError: positions must have shape (2,) or (1, 2), got (2, 2)
        """
        check.tokens("x", x, self.d_model)
        check.positions("positions", positions, x)
        h, w = positions // self.width, positions % self.width
        axes = (h, w) if self.order == "hw" else (w, h)
        parts = zip(x.chunk(2, dim=-1), axes, strict=True)
        return torch.cat([self.axis.embed(half, at) for half, at in parts], dim=-1)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_p' = \operatorname{dropout}\left(\lambda\, x_p + [\,p_h \mid p_w\,]\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            Numbers of the patches, int64 or int32, `(n,)` or `(batch, n)`; `None` is
            `0 .. n-1`, an image of $n / W$ rows.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices, or if there
            are no `positions` and $n$ is not a multiple of $W$.

        Examples
        --------
        >>> layer = Sinusoidal2d(4, width=2, order="wh")
        >>> layer(torch.zeros(1, 2, 4))
        tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
                 [0.8415, 0.5403, 0.0000, 1.0000]]])

        The third patch alone.

        >>> layer(torch.zeros(1, 1, 4), torch.tensor([2]))
        tensor([[[0.0000, 1.0000, 0.8415, 0.5403]]])

        Without positions there must be whole rows: a class token in front is noticed.

        >>> layer(torch.zeros(1, 1 + 6, 4))
        Traceback (most recent call last):
            ...
        ValueError: x must hold whole rows of 2 patches if there are no positions, got 7
        """
        check.tokens("x", x, self.d_model)
        if positions is None:
            n = x.shape[1]
            if n % self.width:
                rows = f"whole rows of {self.width} patches if there are no positions"
                raise ValueError(f"x must hold {rows}, got {n}")
            positions = torch.arange(n, device=x.device)
        return self.embed(x, positions)
