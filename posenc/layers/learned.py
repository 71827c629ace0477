r"""The learned table as a layer: it opens the input door, and training fills it.

The sum is computed in at least float32 and rounded once, last.
"""

import copy

import numpy as np
import torch
from torch import nn

from posenc._checks import check_above, check_between, check_choice, check_count
from posenc.equations.learned import hierarchical, interpolate, sampling_points
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Learned"]


class Learned(PositionEncoding):
    r"""Input door: add to every token the row of its position in a table that is trained.

    $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + P_i\right), \qquad
    P \in \mathbb{R}^{n \times d}$$

    The table is the parameter `weight`. There are positions $0 \dots n - 1$ and no others: a
    negative position does not count from the end. With a padding row $c$ the table has
    $c + 1$ rows in front, position $i$ reads row $i + c + 1$, and position $-1$ the padding
    row, which starts as zeros and gets no gradient, as in `torch.nn.Embedding`. The rows before
    it are never read; they are there so that tables of RoBERTa and its kin fit.

    Parameters
    ----------
    n_positions
        Number of positions $n \ge 1$, padding not counted.
    d_model
        Width $d \ge 1$ of the tokens.
    padding_idx
        Number $c \ge 0$ of the padding row, or `None`: no padding row, and $n$ rows in all.
    token_scale
        Factor $\lambda > 0$ of the tokens.
    dropout
        Probability, from 0 to 1, that an entry of the sum becomes zero in training.
    std
        Standard deviation above 0 of the first values, which are normal with mean 0.
    device, dtype
        Of the table, as in `torch.nn.Embedding`.

    Raises
    ------
    TypeError
        If `n_positions`, `d_model` or `padding_idx` is not an integer, or `token_scale`,
        `dropout` or `std` not a real number.
    ValueError
        If `n_positions` or `d_model` is less than 1, or `padding_idx` less than 0, if
        `token_scale` or `std` is not finite or not above 0, or if `dropout` is not between 0
        and 1.

    Examples
    --------
    >>> layer = Learned(512, 4)
    >>> layer(torch.zeros(1, 3, 4)).shape
    torch.Size([1, 3, 4])
    >>> {name: tuple(table.shape) for name, table in layer.state_dict().items()}
    {'weight': (512, 4)}

    The row after the last.

    >>> layer(torch.zeros(1, 513, 4))
    Traceback (most recent call last):
        ...
    ValueError: x must have at most n_positions = 512 rows if there are no positions, got 513

    RoBERTa's shape: 512 positions and padding row 1 are 514 rows. Padding gets no vector.

    >>> layer = Learned(512, 768, padding_idx=1)
    >>> tuple(layer.weight.shape)
    (514, 768)
    >>> bool(layer(torch.zeros(1, 2, 768), torch.tensor([0, -1]))[0, 1].any())
    False

    Before an attention layer it is the input door. A longer table keeps the weights of the rest.

    >>> from posenc.layers.attention import Attention
    >>> attention = Attention(4, n_heads=1, encoding=Learned(8, 4))
    >>> attention.encoding = attention.encoding.resize(16)
    >>> attention(torch.zeros(1, 16, 4)).shape
    torch.Size([1, 16, 4])

    >>> Learned(0, 4)
    Traceback (most recent call last):
        ...
    ValueError: n_positions must be at least 1, got 0

    See Also
    --------
    posenc.equations.learned.padded_positions : Positions of padded sequences.
    posenc.layers.sinusoidal.Sinusoidal : A table that needs no training and has no end.

    References
    ----------
    Gehring et al. *Convolutional Sequence to Sequence Learning*. 2017, arXiv:1705.03122,
    Section 3.1; Devlin et al. *BERT*. 2018, arXiv:1810.04805, where `std` is 0.02.
    """

    def __init__(
        self,
        n_positions: int,
        d_model: int,
        *,
        padding_idx: int | None = None,
        token_scale: float = 1.0,
        dropout: float = 0.0,
        std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_positions = check_count("n_positions", n_positions)
        self.d_model = check_count("d_model", d_model)
        self.padding_idx, self._first = None, 0  # the first row of the table that is ever read
        if padding_idx is not None:
            self.padding_idx = self._first = check_count("padding_idx", padding_idx, at_least=0)
        self.token_scale = check_above("token_scale", token_scale, 0)
        self.std = check_above("std", std, 0)
        self.dropout = nn.Dropout(check_between("dropout", dropout, 0, 1))
        size = self._offset + self.n_positions, self.d_model
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def _offset(self) -> int:
        """Rows in front of position 0."""
        return 0 if self.padding_idx is None else self.padding_idx + 1

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw all rows anew, and set the padding row to zero.

        $$P_{ij} \sim \mathcal{N}\left(0, \sigma^2\right), \qquad \sigma = \mathrm{std}$$

        Examples
        --------
        >>> layer = Learned(2, 3, padding_idx=0, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> layer.weight[0].detach()
        tensor([0., 0., 0.])
        """
        self.weight.normal_(std=self.std)
        if self.padding_idx is not None:
            self.weight[self.padding_idx] = 0

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Add the row of every token's position to the token.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + P_i\right)$$

        Whether a position has a row is seen when it is read. On a CPU this raises an error at
        once; compiled code words it differently. On a GPU it is a device-side assertion: the
        error comes when the host next waits for the device, which then is of no more use to
        the process.

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, from 0 to $n - 1$; with a padding row also
            $-1$, for padding.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or `x`, `positions` and the table are
            not on one device.
        IndexError
            If a position has no row.

        Examples
        --------
        Left padding: every row of the batch has positions of its own.

        >>> layer = Learned(4, 2, padding_idx=0)
        >>> layer.weight = nn.Parameter(torch.tensor([[0.0] * 2, [1] * 2, [2] * 2, [3] * 2]))
        >>> positions = torch.tensor([[-1, 0, 1], [0, 1, 2]])
        >>> layer.embed(torch.zeros(2, 3, 2), positions)[:, :, 0].detach()
        tensor([[0., 1., 2.],
                [1., 2., 3.]])

        Counting from the end is not allowed.

        >>> Learned(512, 2).embed(torch.zeros(1, 1, 2), torch.tensor([-1]))
        Traceback (most recent call last):
            ...
        IndexError: positions must be between 0 and 511, got -1
        """
        check.tokens("x", x, self.d_model, self.weight)
        check.positions("positions", positions, x)
        working = torch.promote_types(x.dtype, torch.float32)
        total = self.token_scale * x.to(working) + self._rows(positions).to(working)
        return self.dropout(total).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + P_i\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, from 0 to `n_positions` - 1, with a padding
            row also -1; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, if `x`, `positions` and the table are
            not on one device, or if there are no `positions` and $n$ is above `n_positions`.
        IndexError
            If a position has no row.

        Examples
        --------
        >>> layer = Learned(3, 2)
        >>> x = torch.ones(1, 3, 2)
        >>> torch.equal(layer(x), x + layer.weight)
        True

        One more token, with its position.

        >>> torch.equal(layer(x[:, :1], torch.tensor([2])), layer(x)[:, 2:])
        True
        """
        check.tokens("x", x, self.d_model, self.weight)
        n = x.shape[1]
        if positions is None:
            if n > self.n_positions:
                most = f"at most n_positions = {self.n_positions} rows if there are no positions"
                raise ValueError(f"x must have {most}, got {n}")
            positions = torch.arange(n, device=x.device)
        return self.embed(x, positions)

    @torch.no_grad()
    def resize(self, n_new: int, method: str = "ends", *, alpha: float = 0.4) -> "Learned":
        r"""Return a layer with another number of positions, and leave this one alone.

        $$P' = A P, \qquad A \in \mathbb{R}^{N \times n}$$

        All methods but `"random"` make every new row a weighted sum of old ones. Padding and
        what stands before it, settings, dtype, device and mode are kept. The table is a new
        parameter, which an optimizer must be told about.

        Parameters
        ----------
        n_new
            Number of positions $N \ge 1$ of the new layer.
        method
            `"ends"` or `"centres"`: stretch or shrink the table, see
            `posenc.equations.learned.sampling_points`. `"hierarchical"`: keep the rows and
            combine them for those that follow, see `posenc.equations.learned.hierarchical`.
            `"random"`: keep the rows and draw the others. The last two cut off what is too much.
        alpha
            Share $\alpha$ of the block, for `"hierarchical"` only; 0 copies the table end to end.

        Returns
        -------
        Learned
            The new layer.

        Raises
        ------
        TypeError
            If `n_new` is not an integer, or `alpha` not a real number.
        ValueError
            If `n_new` is less than 1, or above $n^2$ with `"hierarchical"`, if `method` is
            unknown, or if `alpha` is not from 0 to below 1.

        Examples
        --------
        >>> layer = Learned(2, 1)
        >>> layer.weight = nn.Parameter(torch.tensor([[1.0], [4.0]]))
        >>> layer.resize(4).weight.detach().T
        tensor([[1., 2., 3., 4.]])
        >>> layer.resize(4, "hierarchical", alpha=0.25).weight.detach().T
        tensor([[1., 4., 2., 5.]])

        Two rows make two blocks of two, and no more.

        >>> layer.resize(5, "hierarchical")
        Traceback (most recent call last):
            ...
        ValueError: n_new must be at most 2 ** 2 = 4, got 5
        """
        front, rows = self.weight.split((self._offset, self.n_positions))
        layer = copy.deepcopy(self)
        layer.n_positions = check_count("n_new", n_new)
        new = torch.cat([front, self._resized(rows, n_new, method, alpha)])
        layer.weight = nn.Parameter(new, self.weight.requires_grad)
        return layer

    def _rows(self, positions: torch.Tensor) -> torch.Tensor:
        first, at = self._first, positions + (self.padding_idx is not None)
        padding = None if self.padding_idx is None else 0
        try:
            # Only rows that may be read: any other position lies outside and is an error.
            return nn.functional.embedding(at, self.weight[first:], padding)
        except IndexError:
            low = 0 if self.padding_idx is None else -1
            wrong = positions[(positions < low) | (positions >= self.n_positions)][0]
            most = f"between {low} and {self.n_positions - 1}"
            raise IndexError(f"positions must be {most}, got {wrong}") from None

    def _resized(self, rows, n_new: int, method: str, alpha: float) -> torch.Tensor:
        n = self.n_positions
        check_choice("method", method, ("ends", "centres", "hierarchical", "random"))
        if method == "random":
            drawn = rows.new_empty(max(n_new - n, 0), self.d_model).normal_(std=self.std)
            return torch.cat([rows[:n_new], drawn])
        if method == "hierarchical":
            shares = hierarchical(np.eye(n), n_new, alpha=alpha)
        else:
            shares = interpolate(np.eye(n), sampling_points(n, n_new, align=method))
        return (torch.from_numpy(shares) @ rows.to("cpu", torch.float64)).to(rows)
