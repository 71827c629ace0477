r"""FLOATER as a layer: position vectors that follow a differential equation which is trained.

The equation is solved by torchdiffeq, which is imported when the first table is solved.
"""

from collections.abc import Callable

import torch
from torch import nn

from posenc._checks import check_above, check_between, check_choice, check_count, check_multiple
from posenc.equations.floater import generator
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Dynamics", "Floater"]


class Dynamics(nn.Module):
    r"""Small network for the velocity of a position vector, zero before training.

    $$\begin{aligned}
    u &= \tanh\left([\,p \mid t\,]\, W_1 + b_1\right) \\
    g(t, p) &= u W_2 + b_2
    \end{aligned}$$

    Its output layer starts at zero. As no entry of a hyperbolic tangent exceeds 1, the velocity is
    bounded, and a solution can run away no faster than at constant speed.

    Parameters
    ----------
    d_model
        Width $d \ge 1$ of the position vectors.
    n_hidden
        Width of the hidden layer, at least 1.

    Raises
    ------
    TypeError
        If a width is not an integer.
    ValueError
        If a width is less than 1.

    Examples
    --------
    >>> g = Dynamics(4, n_hidden=8)
    >>> g(torch.tensor(0.5), torch.ones(4))
    tensor([0., 0., 0., 0.], grad_fn=<ViewBackward0>)
    >>> sum(w.numel() for w in g.parameters())
    84

    >>> Dynamics(4, n_hidden=0)
    Traceback (most recent call last):
        ...
    ValueError: n_hidden must be at least 1, got 0

    See Also
    --------
    Floater : The encoding that follows it.
    """

    def __init__(self, d_model: int, n_hidden: int) -> None:
        super().__init__()
        d, hidden = check_count("d_model", d_model), check_count("n_hidden", n_hidden)
        self.inner, self.outer = nn.Linear(d + 1, hidden), nn.Linear(hidden, d)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, t: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        r"""Velocity at a time and a place, in the dtype of the place.

        $$\begin{aligned}
        u &= \tanh\left([\,p \mid t\,]\, W_1 + b_1\right) \\
        g(t, p) &= u W_2 + b_2
        \end{aligned}$$

        Parameters
        ----------
        t
            Time, a tensor of one number.
        p
            Position vector of shape `(d_model,)`.

        Returns
        -------
        torch.Tensor
            Velocity of shape `(d_model,)`.

        Examples
        --------
        >>> g = Dynamics(2, n_hidden=3)
        >>> _ = nn.init.ones_(g.outer.bias)
        >>> g(torch.tensor(0.0), torch.zeros(2)).tolist()
        [1.0, 1.0]

        A layer cast to bfloat16 still computes in the dtype of what it is given.

        >>> g.bfloat16()(torch.tensor(0.0), torch.zeros(2, dtype=torch.float64)).dtype
        torch.float64
        """
        hidden = _linear(self.inner, torch.cat([p, t.reshape(1).to(p.dtype)]))
        return _linear(self.outer, hidden.tanh())


def _linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


class Floater(PositionEncoding):
    r"""Input door: add a position vector that a trained differential equation leads to.

    $$\begin{aligned}
    \frac{dp}{d\tau} &= p A + \Delta\, g(\Delta \tau, p) \\
    x_i' &= \operatorname{dropout}\left(\lambda\, x_i + p(i)\right)
    \end{aligned}$$

    $p(0)$ and the network $g$ are trained, $A$ is fixed. As $g$ is zero before training, the layer
    starts as the sinusoidal encoding. With `base=None` there is no $A$: this is the equation of
    the paper, whose time is $t = \Delta \tau$.

    A call solves the equation up to the largest position, with gradients. `freeze` keeps a table
    for inference, where a call then costs a look-up. No length is set in advance.

    Parameters
    ----------
    d_model
        Width $d$ of the tokens; even, unless `base` is `None`.
    n_hidden
        Width of the hidden layer of $g$, see `Dynamics`.
    base
        Base $b > 1$ of $A$, see `posenc.equations.floater.generator`, or `None`.
    time_step
        Time $\Delta > 0$ from one position to the next; the authors' code has 0.01.
    method
        `"dopri5"` chooses its steps by itself; `"euler"`, `"midpoint"` and `"rk4"`, here the 3/8
        rule, take a fixed number of them.
    tolerance
        Relative tolerance of `"dopri5"`, above 0; the absolute one is a tenth of it.
    substeps
        Steps per position of the other methods, at least 1.
    adjoint
        Whether the gradient solves a second equation backwards, which needs less memory, instead
        of passing through the steps of the first.
    token_scale
        Factor $\lambda > 0$ of the tokens.
    dropout
        Probability, from 0 to 1, that an entry of the sum becomes zero in training.

    Raises
    ------
    TypeError
        If a width or `substeps` is not an integer, or another number not real.
    ValueError
        If a number is out of its range, if `d_model` is odd and there is a `base`, or if
        `method` is unknown.

    Examples
    --------
    Before training it is the sinusoidal encoding.

    >>> layer = Floater(4, n_hidden=8)
    >>> layer(torch.zeros(1, 2, 4)).detach().round(decimals=3)
    tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
             [0.8410, 0.5400, 0.0100, 1.0000]]])

    In the equation of the paper nothing moves before training: all positions are the same.

    >>> layer = Floater(3, n_hidden=8, base=None)
    >>> layer.table(1000)[[0, -1]].tolist()
    [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]

    >>> Floater(3, n_hidden=8)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 2, got 3

    See Also
    --------
    posenc.equations.floater.solve : The same equation in NumPy.
    posenc.layers.sinusoidal.Sinusoidal : What it starts as.

    References
    ----------
    Liu, Yu, Dhillon, Hsieh. *Learning to Encode Position for Transformer with Continuous
    Dynamical Model*. 2020, arXiv:2003.09229. There the sinusoids stay at the input, and each
    layer has vectors of its own, added to queries, keys and values; the layers share a network.
    """

    def __init__(
        self,
        d_model: int,
        n_hidden: int,
        base: float | None = 10000.0,
        *,
        time_step: float = 0.01,
        method: str = "dopri5",
        tolerance: float = 1e-5,
        substeps: int = 1,
        adjoint: bool = False,
        token_scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dynamics = Dynamics(d_model, n_hidden)
        self.d_model, self.base = d_model, base
        if base is not None:
            check_multiple("d_model", d_model, 2)
            check_above("base", base, 1)
        self.start = nn.Parameter(
            torch.tensor(sinusoidal(0, d_model), dtype=torch.get_default_dtype())
        )
        self.time_step = check_above("time_step", time_step, 0)
        self.method = check_choice("method", method, ("dopri5", "euler", "midpoint", "rk4"))
        self.tolerance = check_above("tolerance", tolerance, 0)
        self.substeps, self.adjoint = check_count("substeps", substeps), bool(adjoint)
        self.token_scale = check_above("token_scale", token_scale, 0)
        self.dropout = nn.Dropout(check_between("dropout", dropout, 0, 1))
        self.register_buffer("frozen", None, persistent=False)
        self.register_load_state_dict_post_hook(_thaw)

    def table(self, n: int) -> torch.Tensor:
        r"""Solve the equation for the positions from 0 on, with gradients.

        $$\frac{dp}{d\tau} = p A + \Delta\, g(\Delta \tau, p)$$

        Parameters
        ----------
        n
            Number of positions $n \ge 1$.

        Returns
        -------
        torch.Tensor
            Position vectors of shape `(n, d_model)`, in the dtype of the layer, but at least
            float32.

        Raises
        ------
        ImportError
            If torchdiffeq is missing.
        TypeError
            If `n` is not an integer.
        ValueError
            If `n` is less than 1.

        Examples
        --------
        A velocity that is the same everywhere; the network is slowed down by the time step.

        >>> layer = Floater(2, n_hidden=3, base=None, time_step=0.5, method="euler")
        >>> _ = nn.init.ones_(layer.dynamics.outer.bias)
        >>> layer.table(3).tolist()
        [[0.0, 1.0], [0.5, 1.5], [1.0, 2.0]]

        The table of fewer positions is its beginning.

        >>> layer.table(1).tolist()
        [[0.0, 1.0]]
        """
        working = torch.promote_types(self.start.dtype, torch.float32)
        times = torch.arange(max(check_count("n", n), 2), dtype=torch.float64)
        with torch.autocast(self.start.device.type, enabled=False):
            return self._solve(self.start.to(working), times.to(self.start.device))[:n]

    def _solve(self, start: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        solve, solve_adjoint = _solvers()
        settings: dict = {"method": self.method}
        if self.method == "dopri5":
            settings |= {"rtol": self.tolerance, "atol": self.tolerance / 10}
        else:
            settings |= {"options": {"step_size": 1 / self.substeps}}
        if self.adjoint:
            solve, settings["adjoint_params"] = solve_adjoint, tuple(self.dynamics.parameters())
        return solve(self._velocity(start), start, times, **settings)

    def _velocity(self, start: torch.Tensor) -> Callable[..., torch.Tensor]:
        def learned(t: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            return self.time_step * self.dynamics(self.time_step * t, p)

        if self.base is None:
            return learned
        A = torch.tensor(generator(self.d_model, self.base), dtype=start.dtype).to(start.device)
        return lambda t, p: p @ A + learned(t, p)

    def freeze(self, n: int) -> None:
        r"""Solve once and keep the table, for inference.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + p(i)\right), \qquad i < n$$

        From now on a call looks up rows, passes no gradient to the equation, and fails at a
        position that is not in the table. What is trained later does not change the table;
        loading a checkpoint drops it, and so does `thaw`. It is no part of a checkpoint.

        Parameters
        ----------
        n
            Number of positions $n \ge 1$ to keep.

        Raises
        ------
        ImportError
            If torchdiffeq is missing.
        TypeError
            If `n` is not an integer.
        ValueError
            If `n` is less than 1.

        Examples
        --------
        >>> layer = Floater(2, n_hidden=3)
        >>> layer.freeze(4)
        >>> layer(torch.zeros(1, 1, 2), torch.tensor([1])).round(decimals=3)
        tensor([[[0.8410, 0.5400]]])
        >>> layer(torch.zeros(1, 1, 2), torch.tensor([4]))
        Traceback (most recent call last):
            ...
        IndexError: positions must be between 0 and 3, got 4
        """
        table = self.table(n).detach()
        # Kept by its bits, as integers: what casts the layer does not round the table.
        self.frozen = table.view(torch.int64 if table.dtype == torch.float64 else torch.int32)

    def thaw(self) -> None:
        r"""Drop the frozen table, so that calls solve the equation again.

        $$\frac{dp}{d\tau} = p A + \Delta\, g(\Delta \tau, p)$$

        Examples
        --------
        >>> layer = Floater(2, n_hidden=3)
        >>> layer.freeze(4)
        >>> layer.thaw()
        >>> layer(torch.zeros(1, 1, 2), torch.tensor([4])).shape
        torch.Size([1, 1, 2])

        A layer that was not frozen stays as it is.

        >>> layer.thaw()
        """
        self.frozen = None

    def _rows(self, positions: torch.Tensor) -> torch.Tensor:
        if self.frozen is None:
            return self._solved(positions)
        wide = self.frozen.dtype == torch.int64
        table = self.frozen.view(torch.float64 if wide else torch.float32)
        try:
            return nn.functional.embedding(positions, table)
        except IndexError:
            wrong = positions[(positions < 0) | (positions >= len(table))][0]
            most = f"between 0 and {len(table) - 1}"
            raise IndexError(f"positions must be {most}, got {wrong}") from None

    # How many steps a solver takes depends on values: outside of compiled graphs.
    @torch.compiler.disable()
    def _solved(self, positions: torch.Tensor) -> torch.Tensor:
        first, last = (int(k) for k in positions.aminmax())
        if first < 0:
            raise ValueError(f"positions must be at least 0, got {first}")
        return self.table(last + 1)[positions]

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Add the vector of every token's position to the token.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + p(i)\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens, not negative.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        ImportError
            If torchdiffeq is missing and the layer is not frozen.
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices, or if a
            position is negative and the layer is not frozen.
        IndexError
            If the layer is frozen and a position is not in its table.

        Examples
        --------
        Left padding: every row has positions of its own.

        >>> layer = Floater(2, n_hidden=3)
        >>> positions = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> layer.embed(torch.zeros(2, 3, 2), positions)[:, :, 0].detach().round(decimals=3)
        tensor([[0.0000, 0.0000, 0.8410],
                [0.0000, 0.8410, 0.9090]])

        >>> layer.embed(torch.zeros(1, 1, 2), torch.tensor([-1]))
        Traceback (most recent call last):
            ...
        ValueError: positions must be at least 0, got -1
        """
        check.tokens("x", x, self.d_model)
        check.positions("positions", positions, x)
        working = torch.promote_types(x.dtype, torch.float32)
        total = self.token_scale * x.to(working) + self._rows(positions).to(working)
        return self.dropout(total).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$x_i' = \operatorname{dropout}\left(\lambda\, x_i + p(i)\right)$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens, not negative; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        ImportError
            If torchdiffeq is missing and the layer is not frozen.
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices, or if a
            position is negative and the layer is not frozen.
        IndexError
            If the layer is frozen and a position is not in its table.

        Examples
        --------
        >>> layer = Floater(2, n_hidden=3)
        >>> layer(torch.zeros(1, 3, 2)).detach().round(decimals=3)
        tensor([[[ 0.0000,  1.0000],
                 [ 0.8410,  0.5400],
                 [ 0.9090, -0.4160]]])

        One more token, with its position.

        >>> layer(torch.zeros(1, 1, 2), torch.tensor([2])).detach().round(decimals=3)
        tensor([[[ 0.9090, -0.4160]]])
        """
        check.tokens("x", x, self.d_model)
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        return self.embed(x, positions)


def _solvers() -> tuple:
    try:
        from torchdiffeq import odeint, odeint_adjoint
    except ImportError as error:
        text = "the differential equation needs torchdiffeq: pip install 'posenc[ode]'"
        raise ImportError(text) from error
    return odeint, odeint_adjoint


def _thaw(layer: Floater, _incompatible: object) -> None:
    layer.thaw()
