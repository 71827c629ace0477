r"""Scaled RoPE: other frequencies, so that a model reads further than it was trained.

$L$ is the length that the model was trained on, $L'$ the one that it shall read, and $s$ the factor
of a scheme. Frequency pairs are $m = 0 \dots d/2 - 1$ with $\theta_m = b^{-2m/d}$, where $d$ is the
number of columns that turn; what a scheme makes of $\theta_m$ is $\theta_m'$.
"""

import math
from dataclasses import dataclass

import numpy as np

from posenc._checks import (
    check_above,
    check_between,
    check_choice,
    check_multiple,
    check_real,
    check_shape,
)
from posenc.equations.sinusoidal import frequencies

__all__ = ["dynamic_factor", "ntk_base", "overshoot", "ramp_by_index", "ramp_by_turns"]
__all__ += ["DynamicNtk", "Llama3", "LongRope", "NtkAware", "NtkByParts", "yarn_factor"]
__all__ += ["PositionInterpolation", "Proportional", "RopeScaling", "Yarn"]

_RANGES = {"factor": (1, math.inf), "original_length": (2, math.inf), "share": (0, 1)}
_RANGES |= dict.fromkeys(("slow", "fast", "attention"), (0, math.inf))


def ntk_base(base: float, factor: float, d_rotary: int) -> float:
    r"""Base that leaves the first frequency as it is and divides the last one by the factor.

    $$b' = b\, s^{d/(d-2)}$$

    Parameters
    ----------
    base
        Base $b > 1$.
    factor
        Factor $s \ge 1$.
    d_rotary
        Number $d$ of columns that turn, even, at least 4.

    Returns
    -------
    float
        Base $b'$.

    Raises
    ------
    TypeError
        If `base` or `factor` is not a real number, or `d_rotary` not an integer.
    ValueError
        If `base` is not above 1, `factor` less than 1, or `d_rotary` odd or below 4.

    Examples
    --------
    >>> ntk_base(16, 4, 4)
    256.0
    >>> 16 ** (-2 / 4), ntk_base(16, 4, 4) ** (-2 / 4)
    (0.25, 0.0625)

    A single pair cannot keep its frequency and change it.

    >>> ntk_base(16, 4, 2)
    Traceback (most recent call last):
        ...
    ValueError: d_rotary must be above 2, got 2

    See Also
    --------
    NtkAware : The scaling with this base.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.1.
    """
    exponent = 1 + 2 / (check_above("d_rotary", check_multiple("d_rotary", d_rotary, 2), 2) - 2)
    return check_above("base", base, 1) * check_between("factor", factor, 1, math.inf) ** exponent


def dynamic_factor(factor: float, original_length: float, length: float) -> float:
    r"""Factor that grows with the length, from 1 at the original length on.

    $$\begin{aligned}
    s(L') &= \max\left(1,\, \sigma(L')\right) \\
    \sigma(L') &= f\, \frac{L'}{L} - (f - 1)
    \end{aligned}$$

    Parameters
    ----------
    factor
        Factor $f \ge 1$. With 1 it is just the ratio of the lengths.
    original_length
        Length $L$ of training, in tokens.
    length
        Length $L'$ that is to be read, in tokens.

    Returns
    -------
    float
        Factor $s$, at least 1.

    Raises
    ------
    TypeError
        If an argument is not a real number.
    ValueError
        If `factor` is less than 1, or a length not positive.

    Examples
    --------
    >>> [dynamic_factor(2, 100, n) for n in (50, 100, 200, 400)]
    [1.0, 1.0, 3.0, 7.0]

    >>> dynamic_factor(1, 100, 400)
    4.0

    See Also
    --------
    DynamicNtk : The scaling with this factor.
    """
    ratio = check_above("length", length, 0) / check_above("original_length", original_length, 0)
    return max(1.0, check_between("factor", factor, 1, math.inf) * (ratio - 1) + 1)


def ramp_by_turns(
    theta: np.ndarray, length: float, slow: float = 1.0, fast: float = 32.0
) -> np.ndarray:
    r"""Share of its frequency that every pair keeps, linear in the turns it made in training.

    $$\begin{aligned}
    \gamma_m &= \operatorname{clip} \frac{r_m - \alpha}{\beta - \alpha} \\
    r_m &= \frac{L\, \theta_m}{2 \pi}
    \end{aligned}$$

    To clip is to hold between 0 and 1.

    Parameters
    ----------
    theta
        Frequencies $\theta$ of any shape, in radians per token.
    length
        Length $L$ of training, in tokens.
    slow, fast
        Turns $\alpha$ and $\beta > \alpha$: up to $\alpha$ a pair keeps nothing, from $\beta$ on
        all.

    Returns
    -------
    np.ndarray
        Shares $\gamma$ of the same shape, from 0 to 1, float64.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is empty or not finite, or `fast` not above `slow`.

    Examples
    --------
    Pairs that made 64, 32, 2 turns, and half a turn.

    >>> ramp_by_turns(2 * np.pi * np.array([64, 32, 2, 0.5]) / 100, 100, 1, 3)
    array([1. , 1. , 0.5, 0. ])

    >>> ramp_by_turns(np.ones(1), 100, 4, 4)
    Traceback (most recent call last):
        ...
    ValueError: fast must be above 4, got 4

    See Also
    --------
    ramp_by_index : What programs compute instead.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.2.
    """
    turns = check_above("length", length, 0) * check_real("theta", theta) / (2 * math.pi)
    return np.clip((turns - slow) / (check_above("fast", fast, slow) - slow), 0, 1)


def ramp_by_index(
    d_rotary: int,
    base: float,
    length: float,
    slow: float = 1.0,
    fast: float = 32.0,
    *,
    truncate: bool = True,
) -> np.ndarray:
    r"""Share of its frequency that every pair keeps, linear in its index, as programs compute it.

    $$\begin{aligned}
    \gamma_m &= 1 - \operatorname{clip} \frac{m - m_\beta}{m_\alpha - m_\beta} \\
    m_r &= \frac{d \ln \left(L / 2 \pi r\right)}{2 \ln b}
    \end{aligned}$$

    $m_r$ is the index at which a pair would make $r$ turns in the length of training. Before it is
    used, $m_\beta$ is rounded down and $m_\alpha$ up if `truncate`, and they are held at 0 and
    $d - 1$; if they are equal then, $m_\alpha$ gets 0.001 more.

    Parameters
    ----------
    d_rotary
        Number $d$ of columns that turn, even.
    base
        Base $b > 1$ of the frequencies.
    length
        Length $L$ of training in tokens, above $2 \pi \alpha$: pair 0 makes $\alpha$ turns.
    slow, fast
        Turns $\alpha$ and $\beta \ge \alpha$; if they are equal, the ramp is a step.
    truncate
        Whether the ends of the ramp are rounded to whole indices.

    Returns
    -------
    np.ndarray
        Shares $\gamma$ of shape `(d_rotary / 2,)`, from 0 to 1, float64.

    Raises
    ------
    TypeError
        If `d_rotary` is not an integer, or another number not real.
    ValueError
        If `d_rotary` is not a positive multiple of 2, `base` not above 1, `fast` below `slow`,
        or `length` too short.

    Examples
    --------
    Pairs that make 64, 32, 16, … turns: the share falls by the same step each time, and the
    paper's, below, faster at first.

    >>> ramp_by_index(12, 64, 64 * 2 * np.pi, 2, 32, truncate=False).round(9)
    array([1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    >>> ((np.array([64, 32, 16, 8, 4, 2]) - 2) / (32 - 2)).clip(0, 1).round(2)
    array([1.  , 1.  , 0.47, 0.2 , 0.07, 0.  ])

    Ends that lie between two pairs are rounded outwards.

    >>> ramp_by_index(12, 64, 64 * 2 * np.pi, 3, 24).round(9)
    array([1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])

    A length so large that $m_\beta$ passes $d - 1$ turns the formula round: nothing is kept,
    where all should be.

    >>> ramp_by_index(4, 2, 1000 * 2 * np.pi, 1, 2).tolist()
    [0.0, 0.0]

    See Also
    --------
    ramp_by_turns : What the paper defines.

    References
    ----------
    The authors' program, in which the ramp first has this form.
    """
    d, b = check_multiple("d_rotary", d_rotary, 2), check_above("base", base, 1)
    L = check_above("length", length, 2 * math.pi * slow)
    ends = check_between("fast", fast, slow, math.inf), slow
    low, high = (d * math.log(L / (2 * math.pi * r)) / (2 * math.log(b)) for r in ends)
    low, high = (math.floor(low), math.ceil(high)) if truncate else (low, high)
    low, high = max(low, 0), min(high, d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / (high - low or 0.001), 0, 1)


def yarn_factor(factor: float, mscale: float = 1.0) -> float:
    r"""Factor of the cosines and sines; the logits get its square.

    $$\sqrt{1/t} = 0.1\, \mu \ln s + 1$$

    Parameters
    ----------
    factor
        Factor $s \ge 1$.
    mscale
        Factor $\mu$ of the logarithm: 1 in the paper, 0.707 in DeepSeek-V2.

    Returns
    -------
    float
        The factor, at least 1 for positive `mscale`.

    Raises
    ------
    TypeError
        If an argument is not a real number.
    ValueError
        If `factor` is less than 1.

    Examples
    --------
    >>> round(yarn_factor(8), 3), round(yarn_factor(40, 0.707), 3)
    (1.208, 1.261)
    >>> yarn_factor(1)
    1.0

    See Also
    --------
    Yarn : The scaling with this factor.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.4.
    """
    return 0.1 * mscale * math.log(check_between("factor", factor, 1, math.inf)) + 1


def overshoot(
    theta: np.ndarray, scaled: np.ndarray, length: float, new_length: float
) -> np.ndarray:
    r"""Arc that every pair needs at the new length, over the arc that it saw in training.

    $$\rho_m = \frac{\min(L'\, \theta_m',\, 2 \pi)}{\min(L\, \theta_m,\, 2 \pi)}$$

    A pair that made a whole turn has seen every angle, and cannot overshoot.

    Parameters
    ----------
    theta, scaled
        Frequencies $\theta$ in training, positive, and $\theta'$ later, of the same shape.
    length, new_length
        Lengths $L$ and $L'$ in tokens.

    Returns
    -------
    np.ndarray
        Ratios $\rho$ of the same shape, float64: above 1 where there are new angles.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is empty, not finite or not positive, or the shapes differ.

    Examples
    --------
    Twice the length: a whole turn, two thirds of a turn, a quarter of a turn.

    >>> theta = 2 * np.pi * np.array([1, 2 / 3, 1 / 4]) / 100
    >>> overshoot(theta, theta, 100, 200).round(9)
    array([1. , 1.5, 2. ])

    Half the frequency: nothing new.

    >>> overshoot(theta, theta / 2, 100, 200).round(9)
    array([1., 1., 1.])
    """
    before, after = check_real("theta", theta), check_real("scaled", scaled)
    check_shape("scaled", after, before.shape)
    check_above("smallest number of theta", before.min(), 0)
    needed = check_above("new_length", new_length, 0) * after
    seen = check_above("length", length, 0) * before
    return np.divide(*np.minimum((needed, seen), 2 * math.pi))


@dataclass(frozen=True)
class RopeScaling:
    r"""What a scaling says: the frequencies, and a factor of the cosines and sines. Here: none.

    $$\theta_m' = \theta_m, \qquad a = 1$$

    Attributes
    ----------
    by_length : bool
        Whether the frequencies depend on the length that is read.

    Examples
    --------
    >>> RopeScaling().frequencies(4, base=16)
    array([1.  , 0.25])
    >>> RopeScaling().attention_factor, RopeScaling().by_length
    (1.0, False)

    See Also
    --------
    posenc.layers.rope_scaling.ScaledRope : The layer that turns by such frequencies.
    """

    by_length = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in _RANGES and value is not None:
                check_between(name, value, *_RANGES[name])

    def frequencies(
        self, d_rotary: int, base: float = 10000.0, length: float | None = None
    ) -> np.ndarray:
        r"""Frequencies $\theta'$ after scaling.

        $$\theta_m' = \theta_m'(L')$$

        Parameters
        ----------
        d_rotary
            Number $d$ of columns that turn, even.
        base
            Base $b > 1$ of the frequencies before scaling.
        length
            Length $L'$ that is read, in tokens, if the scaling asks for it; `None` is one that
            is not above the original length.

        Returns
        -------
        np.ndarray
            Frequencies of shape `(d_rotary / 2,)`, float64, in radians per token.

        Examples
        --------
        >>> PositionInterpolation(4).frequencies(4, base=16)
        array([0.25  , 0.0625])
        >>> DynamicNtk(1, 100).frequencies(4, base=16, length=400)
        array([1.    , 0.0625])
        """
        theta = frequencies(check_multiple("d_rotary", d_rotary, 2), base)
        return self._scaled(theta, base, length)

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        return theta

    @property
    def attention_factor(self) -> float:
        """Factor $a$ of the cosines and sines; the logits get its square."""
        return 1.0


@dataclass(frozen=True)
class PositionInterpolation(RopeScaling):
    r"""Position interpolation (PI): all positions, or all frequencies, divided by one factor.

    $$\theta_m' = \frac{\theta_m}{s}$$

    Attributes
    ----------
    factor : float
        Factor $s \ge 1$, the ratio of the lengths.

    Examples
    --------
    >>> PositionInterpolation(4).frequencies(4, base=16)
    array([0.25  , 0.0625])

    >>> PositionInterpolation(0.5)
    Traceback (most recent call last):
        ...
    ValueError: factor must be between 1 and inf, got 0.5

    References
    ----------
    Chen et al. *Extending Context Window of Large Language Models via Positional Interpolation*.
    2023, arXiv:2306.15595.
    """

    factor: float

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        return theta / self.factor


@dataclass(frozen=True)
class NtkAware(RopeScaling):
    r"""NTK-aware scaling: another base.

    $$\theta_m' = b'^{-2m/d} = \theta_m\, s^{-2m/(d-2)}, \qquad b' = b\, s^{d/(d-2)}$$

    Attributes
    ----------
    factor : float
        Factor $s \ge 1$ by which the last frequency is divided.

    Examples
    --------
    >>> NtkAware(4).frequencies(6, base=64)
    array([1.      , 0.125   , 0.015625])
    >>> RopeScaling().frequencies(6, base=64)
    array([1.    , 0.25  , 0.0625])

    See Also
    --------
    ntk_base : The base.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.1; first described by user bloc97 of Reddit.
    """

    factor: float

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        return frequencies(2 * len(theta), ntk_base(base, self.factor, 2 * len(theta)))


@dataclass(frozen=True)
class DynamicNtk(RopeScaling):
    r"""Dynamic NTK: NTK-aware scaling with a factor that follows the length.

    $$\begin{aligned}
    \theta_m' &= \theta_m\, s(L')^{-2m/(d-2)} \\
    s(L') &= \max\left(1,\, f\, L' / L - (f - 1)\right)
    \end{aligned}$$

    Attributes
    ----------
    factor : float
        Factor $f \ge 1$.
    original_length : float
        Length $L$ of training, in tokens.

    Examples
    --------
    Nothing changes up to the original length.

    >>> [DynamicNtk(2, 100).frequencies(4, 16, n)[-1].item() for n in (50, 100, 250)]
    [0.25, 0.25, 0.0625]
    >>> DynamicNtk(2, 100).by_length
    True

    See Also
    --------
    dynamic_factor : The factor.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.3; first described by user emozilla of Reddit.
    """

    factor: float
    original_length: float
    by_length = True

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        s = dynamic_factor(self.factor, self.original_length, length or self.original_length)
        return frequencies(2 * len(theta), ntk_base(base, s, 2 * len(theta)))


@dataclass(frozen=True)
class NtkByParts(RopeScaling):
    r"""NTK-by-parts: slow pairs are interpolated, fast ones kept, those between blended.

    $$\theta_m' = (1 - \gamma_m)\, \frac{\theta_m}{s} + \gamma_m\, \theta_m$$

    The share $\gamma_m$ is that of `ramp_by_turns`.

    Attributes
    ----------
    factor : float
        Factor $s \ge 1$, the ratio of the lengths.
    original_length : float
        Length $L$ of training, in tokens.
    slow, fast : float
        Turns $\alpha$ and $\beta$ within that length between which the ramp lies.

    Examples
    --------
    Pairs that made 16, 4 and 1 turns.

    >>> NtkByParts(4, 32 * np.pi, slow=1, fast=7).frequencies(6, base=64)
    array([1.      , 0.15625 , 0.015625])
    >>> NtkByParts(4, 32 * np.pi, slow=1, fast=7).attention_factor
    1.0

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.2.
    """

    factor: float
    original_length: float
    slow: float = 1.0
    fast: float = 32.0

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        kept = self._kept(theta, base)
        return (1 - kept) * theta / self.factor + kept * theta

    def _kept(self, theta: np.ndarray, base: float) -> np.ndarray:
        return ramp_by_turns(theta, self.original_length, self.slow, self.fast)


@dataclass(frozen=True)
class Llama3(NtkByParts):
    r"""The scaling of Llama 3.1: NTK-by-parts with other ends.

    $$\begin{aligned}
    \theta_m' &= (1 - \gamma_m)\, \frac{\theta_m}{s} + \gamma_m\, \theta_m \\
    \gamma_m &= \operatorname{clip} \frac{L / \lambda_m - \alpha}{\beta - \alpha}
    \end{aligned}$$

    $\lambda_m = 2 \pi / \theta_m$ is the wavelength, so that $L / \lambda_m$ are the turns.

    Attributes
    ----------
    factor : float
        Factor $s$: 8 in Llama 3.1.
    original_length : float
        Length $L$ of training: 8192 in Llama 3.1.
    slow, fast : float
        Turns $\alpha$ and $\beta$, which its configuration calls `low_freq_factor` and
        `high_freq_factor`.

    Examples
    --------
    >>> Llama3(8, 8192)
    Llama3(factor=8, original_length=8192, slow=1.0, fast=4.0)
    >>> Llama3(4, 32 * np.pi).frequencies(6, base=64)
    array([1.      , 0.25    , 0.015625])

    References
    ----------
    The model's program; its comment says that the values come from a search.
    """

    fast: float = 4.0


@dataclass(frozen=True)
class Yarn(NtkByParts):
    r"""YaRN: NTK-by-parts, and sharper attention.

    $$\theta_m' = (1 - \gamma_m)\, \frac{\theta_m}{s} + \gamma_m\, \theta_m, \qquad
    a = 0.1 \ln s + 1$$

    Attributes
    ----------
    factor : float
        Factor $s \ge 1$, the ratio of the lengths.
    original_length : float
        Length $L$ of training, in tokens.
    slow, fast : float
        Turns $\alpha$ and $\beta$ within that length between which the ramp lies.
    ramp : str
        `"turns"`: linear in the turns, as in the paper. `"index"`: linear in the index, as in
        gpt-oss. `"truncated"`: that with its ends rounded to whole indices, as in most models.
    attention : float or None
        Factor $a$ of the cosines and sines; `None` is that of `yarn_factor`.

    Examples
    --------
    Pairs that made 16, 4 and 1 turns: the one between keeps a fifth, or half.

    >>> Yarn(4, 32 * np.pi, fast=16).frequencies(6, base=64)
    array([1.      , 0.1     , 0.015625])
    >>> Yarn(4, 32 * np.pi, fast=16, ramp="index").frequencies(6, base=64)
    array([1.      , 0.15625 , 0.015625])
    >>> round(Yarn(8, 4096).attention_factor, 3), Yarn(8, 4096, attention=1.0).attention_factor
    (1.208, 1.0)

    See Also
    --------
    ramp_by_turns : The share in the paper.
    ramp_by_index : The share in programs.

    References
    ----------
    Peng et al. *YaRN: Efficient Context Window Extension of Large Language Models*. 2023,
    arXiv:2309.00071, Section 3.4.
    """

    ramp: str = "turns"
    attention: float | None = None

    def _kept(self, theta: np.ndarray, base: float) -> np.ndarray:
        if check_choice("ramp", self.ramp, ("turns", "index", "truncated")) == "turns":
            return super()._kept(theta, base)
        ends, truncate = (self.slow, self.fast), self.ramp == "truncated"
        return ramp_by_index(2 * len(theta), base, self.original_length, *ends, truncate=truncate)

    @property
    def attention_factor(self) -> float:
        """Factor $a$ of the cosines and sines; the logits get its square."""
        return yarn_factor(self.factor) if self.attention is None else self.attention


@dataclass(frozen=True)
class LongRope(RopeScaling):
    r"""LongRoPE: a divisor of its own for every pair, from one of two lists.

    $$\begin{aligned}
    \theta_m' &= \frac{\theta_m}{\lambda_m} \\
    \lambda &= \begin{cases} \text{short} & L' \le L \\ \text{long} & L' > L \end{cases} \\
    a &= \sqrt{1 + \frac{\ln s}{\ln L}}
    \end{aligned}$$

    Attributes
    ----------
    short, long : tuple of float
        Divisors $\lambda_m$ up to the original length and beyond it, `d_rotary / 2` each.
    original_length : float
        Length $L$ of training, in tokens, at which the lists change.
    factor : float
        Factor $s$, the ratio of the lengths, which only $a$ depends on.
    attention : float or None
        Factor $a$ of the cosines and sines; `None` is the square root above.

    Examples
    --------
    >>> scaling = LongRope((1, 1), (2, 4), original_length=16, factor=8)
    >>> [scaling.frequencies(4, 16, n).tolist() for n in (16, 17)]
    [[1.0, 0.25], [0.5, 0.0625]]

    The factor is the same on both sides.

    >>> round(scaling.attention_factor, 3)
    1.323

    >>> LongRope((1,), (2,), 16, 8).frequencies(4)
    Traceback (most recent call last):
        ...
    ValueError: short must have shape (2,), got (1,)

    References
    ----------
    Ding et al. *LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens*. 2024,
    arXiv:2402.13753. The factor $a$ is in the authors' program.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: float
    factor: float
    attention: float | None = None
    by_length = True

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        name = "long" if (length or 0) > self.original_length else "short"
        divisors = check_real(name, getattr(self, name))
        check_shape(name, divisors, theta.shape)
        check_above(f"smallest number of {name}", divisors.min(), 0)
        return theta / divisors

    @property
    def attention_factor(self) -> float:
        """Factor $a$ of the cosines and sines; the logits get its square."""
        ratio = math.log(self.factor) / math.log(self.original_length)
        return math.sqrt(1 + ratio) if self.attention is None else self.attention


@dataclass(frozen=True)
class Proportional(RopeScaling):
    r"""Only the fast pairs turn; the slow ones hold content without a position.

    $$\theta_m' = \begin{cases} \theta_m / s & m < \lfloor p\, d / 2 \rfloor \\
    0 & \text{otherwise} \end{cases}$$

    Attributes
    ----------
    share : float
        Share $p$ of the pairs that turn, from 0 to 1.
    factor : float
        Factor $s \ge 1$ that divides their frequencies.

    Examples
    --------
    >>> Proportional(0.5).frequencies(8, base=16)
    array([1. , 0.5, 0. , 0. ])

    A partial RoPE of the same width spreads its frequencies over the whole range instead.

    >>> RopeScaling().frequencies(4, base=16)
    array([1.  , 0.25])

    References
    ----------
    Barbero et al. *Round and Round We Go! What makes Rotary Positional Encodings useful?* 2024,
    arXiv:2410.06205.
    """

    share: float
    factor: float = 1.0

    def _scaled(self, theta: np.ndarray, base: float, length: float | None) -> np.ndarray:
        turning = np.arange(len(theta)) < math.floor(self.share * len(theta))
        return turning * theta / self.factor
