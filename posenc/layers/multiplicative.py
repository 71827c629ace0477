r"""Factors of the position as layers: learned ones, and those of a formula.

The product is made in at least float32, and the result is rounded once, last.
"""

import torch
from torch import nn
from torch.nn.functional import embedding

from posenc._checks import check_count, check_number
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding
from posenc.layers.sinusoidal import Sinusoidal

__all__ = ["Multiplicative", "MultiplicativeSinusoidal"]


class Multiplicative(PositionEncoding):
    r"""Input door: multiply the tokens by learned factors of their positions.

    $$x_i' = x_i \odot \left(1 + \delta_i\right)$$

    What is learned is the deviation $\delta_i$ from 1, and it starts at 0: at first the layer does
    nothing, weight decay leads back there instead of erasing the tokens, and small steps are not
    lost in bfloat16, whose numbers next to 1 are far apart.

    Parameters
    ----------
    d_model
        Width $d \ge 1$ of the tokens.
    n_positions
        Number of positions $N \ge 1$; they are `0 .. n_positions - 1`.

    Attributes
    ----------
    deviation : torch.nn.Parameter
        The table $\delta$ of shape `(n_positions, d_model)`.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If an argument is less than 1.

    Examples
    --------
    >>> layer = Multiplicative(2, n_positions=3)
    >>> x = torch.tensor([[[2.0, 4.0], [2.0, 4.0]]])
    >>> bool((layer(x) == x).all())
    True

    After some training, say:

    >>> layer.deviation.data[1] = torch.tensor([-1.0, 0.5])
    >>> layer(x).detach()
    tensor([[[2., 4.],
             [0., 6.]]])

    There is no row beyond the last.

    >>> layer(torch.zeros(1, 4, 2))
    Traceback (most recent call last):
        ...
    ValueError: x must have at most 3 tokens if there are no positions, got 4

    See Also
    --------
    posenc.equations.multiplicative.multiply : The equation.
    MultiplicativeSinusoidal : Factors for any position.
    """

    def __init__(self, d_model: int, n_positions: int) -> None:
        super().__init__()
        self.d_model = check_count("d_model", d_model)
        self.n_positions = check_count("n_positions", n_positions)
        self.deviation = nn.Parameter(torch.empty(self.n_positions, self.d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Make all factors 1 again.

        $$\delta_i = 0$$

        Examples
        --------
        >>> layer = Multiplicative(2, n_positions=1)
        >>> layer.deviation.data += 7
        >>> layer.reset_parameters()
        >>> layer.deviation.detach()
        tensor([[0., 0.]])

        A layer that was made without memory gets its numbers so.

        >>> empty = Multiplicative(2, n_positions=1).to("meta").to_empty(device="cpu")
        >>> empty.reset_parameters()
        >>> empty(torch.ones(1, 1, 2)).detach()
        tensor([[[1., 1.]]])
        """
        nn.init.zeros_(self.deviation)

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Multiply every token by the factors of its position.

        $$x_i' = x_i \odot \left(1 + \delta_i\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, from 0 to `n_positions - 1`.

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
        IndexError
            On the CPU, if a position is negative or not below `n_positions`.

        Examples
        --------
        >>> layer = Multiplicative(1, n_positions=2)
        >>> layer.deviation.data = torch.tensor([[0.0], [1.0]])
        >>> layer.embed(torch.ones(1, 3, 1), torch.tensor([1, 0, 1])).flatten().tolist()
        [2.0, 1.0, 2.0]

        >>> layer.embed(torch.ones(1, 1, 1), torch.tensor([2]))
        Traceback (most recent call last):
            ...
        IndexError: index out of range in self
        """
        check.tokens("x", x, self.d_model, self.deviation)
        check.positions("positions", positions, x)
        deviation = embedding(positions, self.deviation)
        working = torch.promote_types(x.dtype, torch.float32)
        return (x.to(working) * (1 + deviation.to(working))).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_i' = x_i \odot \left(1 + \delta_i\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, from 0 to `n_positions - 1`; `None` is
            `0 .. n-1`.

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
            are no `positions` and more tokens than `n_positions`.
        IndexError
            On the CPU, if a position is negative or not below `n_positions`.

        Examples
        --------
        >>> layer = Multiplicative(1, n_positions=2)
        >>> layer.deviation.data = torch.tensor([[0.0], [1.0]])
        >>> layer(torch.ones(1, 2, 1)).flatten().tolist()
        [1.0, 2.0]

        One more token, with its position.

        >>> layer(torch.ones(1, 1, 1), torch.tensor([1])).flatten().tolist()
        [2.0]
        """
        check.tokens("x", x, self.d_model, self.deviation)
        if positions is None:
            n = x.shape[1]
            if n > self.n_positions:
                most = f"at most {self.n_positions} tokens if there are no positions"
                raise ValueError(f"x must have {most}, got {n}")
            positions = torch.arange(n, device=x.device)
        return self.embed(x, positions)


class MultiplicativeSinusoidal(PositionEncoding):
    r"""Input door: multiply the tokens by factors around a centre, made of sines and cosines.

    $$x_i' = x_i \odot \left(c + \eta\, \mathrm{PE}_i\right)$$

    By default all factors lie between ½ and 3/2, so that none erases a feature. With `centre=0`
    and `gain=1` it is the raw product, which does. The layer holds no tensor.

    Parameters
    ----------
    d_model
        Width $d \ge 1$ of the tokens.
    base
        Base $b > 1$ of the frequencies.
    centre
        Centre $c$ of the factors.
    gain
        Gain $\eta$ of the sinusoid.
    layout
        `"interleaved"` or `"halves"`, see `posenc.layers.sinusoidal.Sinusoidal`.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base`, `centre` or `gain` not a real number.
    ValueError
        If `d_model` is less than 1, if a number is not finite, if `base` is not above 1, or if
        `layout` is unknown.

    Examples
    --------
    >>> MultiplicativeSinusoidal(4)(torch.ones(1, 2, 4))
    tensor([[[1.0000, 1.5000, 1.0000, 1.5000],
             [1.4207, 1.2702, 1.0050, 1.5000]]])

    The raw product erases half of the first token.

    >>> raw = MultiplicativeSinusoidal(4, centre=0, gain=1)
    >>> raw(torch.ones(1, 1, 4))
    tensor([[[0., 1., 0., 1.]]])

    >>> MultiplicativeSinusoidal(4, gain=float("inf"))
    Traceback (most recent call last):
        ...
    ValueError: gain must be finite, got inf

    See Also
    --------
    posenc.equations.multiplicative.factors : The equation.
    Multiplicative : Factors that are learned.
    """

    def __init__(
        self,
        d_model: int,
        base: float = 10000.0,
        *,
        centre: float = 1.0,
        gain: float = 0.5,
        layout: str = "interleaved",
    ) -> None:
        super().__init__()
        self.encoding = Sinusoidal(d_model, base, layout=layout)
        self.d_model = self.encoding.d_model
        self.centre, self.gain = check_number("centre", centre), check_number("gain", gain)

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Multiply every token by the factors of its position.

        $$x_i' = x_i \odot \left(c + \eta\, \mathrm{PE}_i\right)$$

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
        >>> layer = MultiplicativeSinusoidal(2, gain=1.0)
        >>> layer.embed(torch.ones(1, 1, 2), torch.tensor([11]))
        tensor([[[9.7934e-06, 1.0044e+00]]])

        A token of zeros stays one.

        >>> layer.embed(torch.zeros(1, 1, 2), torch.tensor([3]))
        tensor([[[0., 0.]]])
        """
        check.tokens("x", x, self.d_model)
        check.positions("positions", positions, x)
        at = positions.reshape(-1, x.shape[1])
        blank = torch.zeros(*at.shape, self.d_model, dtype=torch.float64, device=x.device)
        factors = self.centre + self.gain * self.encoding.embed(blank, at)
        working = torch.promote_types(x.dtype, torch.float32)
        return (x.to(working) * factors.to(working)).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_i' = x_i \odot \left(c + \eta\, \mathrm{PE}_i\right)$$

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
        >>> layer = MultiplicativeSinusoidal(2, gain=0.25)
        >>> layer(torch.ones(1, 2, 2))
        tensor([[[1.0000, 1.2500],
                 [1.2104, 1.1351]]])

        One more token, with its position.

        >>> layer(torch.ones(1, 1, 2), torch.tensor([1]))
        tensor([[[1.2104, 1.1351]]])
        """
        check.tokens("x", x, self.d_model)
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        return self.embed(x, positions)
