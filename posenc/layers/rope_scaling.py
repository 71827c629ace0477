r"""RoPE with scaled frequencies as a layer, and a reader of the configurations of transformers.

It trains nothing, as `posenc.layers.rope.Rope` trains nothing: in a trained model the one can take
the place of the other.
"""

from collections.abc import Mapping
from typing import Any

import torch

from posenc._checks import check_choice, check_count
from posenc.equations import rope_scaling as kinds
from posenc.equations.rope_scaling import DynamicNtk, LongRope, RopeScaling
from posenc.layers import _checks as check
from posenc.layers.rope import Rope, apply_rotary

__all__ = ["ScaledRope", "from_hf"]


class ScaledRope(Rope):
    r"""Query/key door: turn by scaled frequencies, and make queries and keys longer.

    $$\begin{aligned}
    (q_i, k_j) &\mapsto (a\, q_i R_i'^\top, a\, k_j R_j'^\top) \\
    q_i k_j^\top &\mapsto a^2\, q_i R_{j-i}'\, k_j^\top
    \end{aligned}$$

    $R'$ turns pair $m$ by $\theta_m'$ per token. Only columns that turn get the factor $a$, so
    with `d_rotary` the rest of a logit stays as it is.

    Parameters
    ----------
    d_head
        Width $d$ of a head.
    scaling
        A `posenc.equations.rope_scaling.RopeScaling`, which says what $\theta_m'$ and $a$ are.
    base
        Base $b > 1$ of the frequencies before scaling.
    layout
        Which columns are a pair, see `posenc.layers.rope.Rope`.
    d_rotary
        Number of leading columns that turn, even, from 2 to $d$; `None` is $d$.
    length
        Length $L'$ in tokens for which the frequencies are those of a scaling that depends on
        the length. `None` takes, for every row of a batch, the largest position among queries
        and keys plus one. Turned keys in a cache need a fixed length, or they were turned by
        other frequencies than the query.

    Raises
    ------
    TypeError
        If `scaling` is no `RopeScaling`, if a width or `length` is not an integer, or `base` not
        a real number; if `length` is `None` for a scaling of your own that depends on it.
    ValueError
        If the scaling does not fit the width, `length` is less than 1, or as in `Rope`.

    Examples
    --------
    >>> from posenc.equations.rope_scaling import NtkAware, Yarn
    >>> layer = ScaledRope(4, NtkAware(4), base=16)
    >>> layer.angles(torch.tensor([0, 1, 2]))
    tensor([[0.0000, 0.0000],
            [1.0000, 0.0625],
            [2.0000, 0.1250]], dtype=torch.float64)

    It has the weights of a `Rope`, none, and can replace one in a trained model.

    >>> from posenc.layers.attention import Attention
    >>> attention = Attention(8, n_heads=2, encoding=Rope(4))
    >>> attention.encoding = ScaledRope(4, Yarn(4, 2048))

    A dynamic scaling looks at the positions, unless it is told the length.

    >>> ScaledRope(4, DynamicNtk(1, 2), base=16).angles(torch.arange(4))[1]
    tensor([1.0000, 0.1250], dtype=torch.float64)
    >>> ScaledRope(4, DynamicNtk(1, 2), base=16, length=8).angles(torch.arange(4))[1]
    tensor([1.0000, 0.0625], dtype=torch.float64)

    See Also
    --------
    from_hf : The layer that a configuration of transformers describes.
    """

    def __init__(
        self,
        d_head: int,
        scaling: RopeScaling,
        base: float = 10000.0,
        *,
        layout: str = "interleaved",
        d_rotary: int | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(d_head, base, layout=layout, d_rotary=d_rotary)
        if not isinstance(scaling, RopeScaling):
            raise TypeError(f"scaling must be a RopeScaling, got {scaling!r}")
        if scaling.by_length and length is None and not isinstance(scaling, DynamicNtk | LongRope):
            raise TypeError(f"length must be given for {type(scaling).__name__}, got None")
        self.scaling = scaling
        self.length = None if length is None else check_count("length", length)
        self.attention_factor = scaling.attention_factor
        self._by_length = scaling.by_length and length is None
        # Python numbers: no cast rounds them, no checkpoint lacks them.
        lengths = (self.length, getattr(scaling, "original_length", 0) + 1)
        theta = [scaling.frequencies(self.d_rotary, self.base, n).tolist() for n in lengths]
        self._short, self._long = map(tuple, theta)

    def angles(self, positions: torch.Tensor, length: torch.Tensor | None = None) -> torch.Tensor:
        r"""Angle by which every pair turns at every position.

        $$\varphi_{i,m} = i\, \theta_m'$$

        Parameters
        ----------
        positions
            int64 or int32, of any shape, in tokens.
        length
            Lengths that broadcast with the positions, if the scaling depends on them; `None` is
            the largest position of each row, plus one.

        Returns
        -------
        torch.Tensor
            Angles of shape `positions.shape + (d_rotary / 2,)`, in radians, float64.

        Examples
        --------
        >>> from posenc.equations.rope_scaling import PositionInterpolation
        >>> layer = ScaledRope(4, PositionInterpolation(2), base=16)
        >>> layer.angles(torch.tensor([0, 2]))
        tensor([[0.0000, 0.0000],
                [1.0000, 0.2500]], dtype=torch.float64)
        """
        theta = torch.tensor(self._short, dtype=torch.float64, device=positions.device)
        if self._by_length:
            length = _lengths(positions) if length is None else length
            theta = self._grown(theta, length.unsqueeze(-1).to(torch.float64))
        return positions.unsqueeze(-1) * theta

    def _grown(self, theta: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Frequencies at lengths that only the tensor knows, without asking it."""
        if isinstance(self.scaling, LongRope):
            beyond = length > self.scaling.original_length
            return torch.where(beyond, theta.new_tensor(self._long), theta)
        assert isinstance(self.scaling, DynamicNtk)
        ratio, d = length / self.scaling.original_length, self.d_rotary
        s = (self.scaling.factor * (ratio - 1) + 1).clamp(min=1)
        return theta * s ** (torch.arange(0, -d, -2, device=theta.device) / (d - 2))

    def tables(
        self,
        positions: torch.Tensor,
        dtype: torch.dtype = torch.float32,
        length: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Cosines and sines of all angles times the factor, with an axis for the heads.

        $$(a \cos\varphi_{i,m}, a \sin\varphi_{i,m})$$

        Parameters
        ----------
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens.
        dtype
            What they are rounded to, once.
        length
            As in `angles`.

        Returns
        -------
        tuple of torch.Tensor
            Tables of shape `(1, n, d_rotary / 2)` or `(batch, 1, n, d_rotary / 2)` each.

        Raises
        ------
        TypeError
            If `positions` are neither int64 nor int32.

        Examples
        --------
        >>> from posenc.equations.rope_scaling import Yarn
        >>> cos, sin = ScaledRope(2, Yarn(1, 64, attention=1.5)).tables(torch.tensor([0]))
        >>> cos
        tensor([[[1.5000]]])
        """
        check.integers("positions", positions)
        angles = self.angles(positions, length).unsqueeze(-3)
        a = self.attention_factor
        return (angles.cos() * a).to(dtype), (angles.sin() * a).to(dtype)

    def rotate(
        self, q: torch.Tensor, k: torch.Tensor, q_positions: torch.Tensor, k_positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Turn queries and keys, after their projection, by their positions.

        $$(q_i, k_j) \mapsto (a\, q_i R_i'^\top, a\, k_j R_j'^\top)$$

        Parameters
        ----------
        q, k, q_positions, k_positions
            As in `posenc.layers.rope.Rope.rotate`. If the scaling depends on the length, that is
            the largest position among both, plus one.

        Returns
        -------
        tuple of torch.Tensor
            Queries and keys of the same shapes and dtypes.

        Raises
        ------
        TypeError
            If `q` or `k` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.

        Examples
        --------
        A query at position 3 alone has its keys turned for a length of 4.

        >>> layer = ScaledRope(4, DynamicNtk(1, 2), base=16)
        >>> q, k = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 4)
        >>> _, turned = layer.rotate(q, k, torch.tensor([3]), torch.arange(2))
        >>> torch.equal(turned, ScaledRope(4, DynamicNtk(1, 2), base=16, length=4)(k))
        True
        """
        if not self._by_length:
            return super().rotate(q, k, q_positions, k_positions)
        q_at, k_at = self._places("q", q, q_positions), self._places("k", k, k_positions)
        length = torch.maximum(_lengths(q_at), _lengths(k_at))
        q_tables, k_tables = (self.tables(at, torch.float64, length) for at in (q_at, k_at))
        turned = apply_rotary(q, *q_tables, layout=self.layout)
        return turned, apply_rotary(k, *k_tables, layout=self.layout)


def _lengths(positions: torch.Tensor) -> torch.Tensor:
    """Largest position of every row, plus one, with an axis of size 1 for the row."""
    return positions.amax(dim=-1, keepdim=True) + 1


_SHARE = "partial_rotary_factor"
_ALWAYS = f"rope_type type rope_theta {_SHARE}"
_ORIGINAL = "original_max_position_embeddings"
_BESIDE = f"rope_theta {_SHARE} max_position_embeddings head_dim qk_rope_head_dim"
_BESIDE += " hidden_size num_attention_heads"
_STRETCH = f"{_ORIGINAL} factor"
_KEYS = {
    "default": "",
    "linear": "factor",
    "dynamic": "factor",
    "yarn": f"{_STRETCH} attention_factor beta_fast beta_slow mscale mscale_all_dim truncate",
    "longrope": f"{_STRETCH} attention_factor short_factor long_factor",
    "su": f"{_STRETCH} attention_factor short_factor long_factor",  # its first name
    "llama3": f"{_STRETCH} low_freq_factor high_freq_factor",
    "proportional": "factor",
}


def from_hf(
    config: Mapping[str, Any] | object, *, layer_type: str | None = None, layout: str = "halves"
) -> ScaledRope:
    r"""Layer that a configuration of the Transformers library describes.

    $$(b,\; d,\; \text{rope\_type},\; s,\; L,\; \dots) \mapsto (\theta_m', a)$$

    What it does not know it refuses: another number would come out, and no error. It guesses no
    base either, since the models of the library have different ones.

    Parameters
    ----------
    config
        A configuration object, or the dictionary of a `config.json`, with `rope_parameters` or,
        as older ones have it, with `rope_scaling` and `rope_theta`. Of a model with several
        parts its `text_config`; if layers differ in width, `per_layer_config[i]` of the object.
    layer_type
        Whose parameters to take if they are kept by type of layer, such as `"full_attention"`,
        also where an old form has `rope_local_base_freq`.
    layout
        As in `ScaledRope`. A configuration does not say it; most models of the library turn
        halves.

    Returns
    -------
    ScaledRope
        The layer. Its `scaling` says what was read. For latent attention, as in DeepSeek's
        models, its width is that of the columns that turn, `qk_rope_head_dim`.

    Raises
    ------
    ValueError
        If the type, a key or `layer_type` is unknown, if a key is missing, if layers differ in
        width, or if a value is not allowed.

    Examples
    --------
    >>> config = {"head_dim": 128, "max_position_embeddings": 131072, "rope_theta": 500000.0}
    >>> scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    >>> scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    >>> from_hf(config | {"rope_scaling": scaling}).scaling
    Llama3(factor=8.0, original_length=8192, slow=1.0, fast=4.0)

    >>> from_hf(config | {"rope_parameters": {"rope_type": "spiral"}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: rope_type must be 'default' or 'linear' or ..., got 'spiral'

    >>> from_hf(config | {"rope_parameters": {"rope_type": "linear"}})
    Traceback (most recent call last):
        ...
    ValueError: a config of type 'linear' must have 'factor', got ['rope_type'] in its parameters
    """

    def get(name: str) -> Any:
        return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)

    found, local = get("rope_parameters") or get("rope_scaling") or {}, get("rope_local_base_freq")
    if local is not None:
        found = {"full_attention": found, "sliding_attention": {"rope_theta": local}}
    given = _parameters(found, layer_type)
    kind = given.get("rope_type", given.get("type", "default"))
    _check_keys(config, check_choice("rope_type", kind, (*_KEYS,)), given)
    p = {key: get(key) for key in _BESIDE.split() if get(key) is not None} | given
    p |= {_ORIGINAL: get(_ORIGINAL)} if get(_ORIGINAL) else {}  # the library prefers this one
    try:
        base, scaling, share = p["rope_theta"], _scaling(kind, p), p.get(_SHARE, 1.0)
        d = p.get("head_dim") or p.get("qk_rope_head_dim")
        d = d or p["hidden_size"] // p["num_attention_heads"]
    except KeyError as key:
        got = f"got {sorted(given)} in its parameters"
        raise ValueError(f"a config of type {kind!r} must have {key}, {got}") from None
    r = d if kind == "proportional" else int(d * share)
    return ScaledRope(d, scaling, base, layout=layout, d_rotary=r)


def _parameters(found: Mapping[str, Any], layer_type: str | None) -> dict[str, Any]:
    """Parameters of one type of layer, without those that are None."""
    types = tuple(key for key, value in found.items() if isinstance(value, Mapping))
    if types:
        found = found[check_choice("layer_type", str(layer_type), types)]
    elif layer_type is not None:
        raise ValueError(f"layer_type must be None for these parameters, got {layer_type!r}")
    return {key: value for key, value in found.items() if value is not None}


def _check_keys(config: object, kind: str, given: dict[str, Any]) -> None:
    allowed = [*_ALWAYS.split(), *_KEYS[kind].split()]
    if unknown := sorted(given.keys() - allowed):
        raise ValueError(f"rope_parameters of type {kind!r} must be among {allowed}, got {unknown}")
    if isinstance(config, Mapping) and config.keys() & {"per_layer_config", "global_head_dim"}:
        raise ValueError("config must be that of one layer, got a dictionary of several widths")


def _scaling(kind: str, p: dict[str, Any]) -> RopeScaling:
    """What the library computes for such parameters."""
    if kind == "default":
        return RopeScaling()
    if kind == "linear":
        return kinds.PositionInterpolation(p["factor"])
    if kind == "dynamic":
        return DynamicNtk(p["factor"], p["max_position_embeddings"])
    if kind == "proportional":
        return kinds.Proportional(p.get(_SHARE, 1.0), p.get("factor", 1.0))
    L = p.get(_ORIGINAL) or p["max_position_embeddings"]
    if kind == "llama3":
        return kinds.Llama3(p["factor"], L, p["low_freq_factor"], p["high_freq_factor"])
    s, a = p.get("factor") or p["max_position_embeddings"] / L, p.get("attention_factor")
    if kind != "yarn":
        return LongRope(tuple(p["short_factor"]), tuple(p["long_factor"]), L, s, a)
    if a is None and p.get("mscale") and p.get("mscale_all_dim"):
        a = kinds.yarn_factor(s, p["mscale"]) / kinds.yarn_factor(s, p["mscale_all_dim"])
    ramp = "truncated" if p.get("truncate", True) else "index"
    return kinds.Yarn(s, L, p.get("beta_slow") or 1, p.get("beta_fast") or 32, ramp, a)
