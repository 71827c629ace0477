r"""Rotary encoding with several axes as a layer: axial for images, M-RoPE for text with images.

It turns queries and keys as `posenc.layers.rope.Rope` does; only the angles differ.
"""

from collections.abc import Sequence

import torch

from posenc.equations.rope_axes import wave_vectors
from posenc.layers.rope import Rope

__all__ = ["RopeAxes"]


class RopeAxes(Rope):
    r"""Query/key door: turn every pair of columns with one of several axes.

    $$\begin{aligned}
    (q_i, k_j) &\mapsto (q_i R_{p_i}^\top, k_j R_{p_j}^\top) \\
    \varphi_m &= p\,\kappa_m^\top
    \end{aligned}$$

    A position is a row of integers, such as $(t, h, w)$, or one integer, which then holds for all
    axes. The layer holds no tensor, as `posenc.layers.rope.Rope` holds none.

    Parameters
    ----------
    d_head
        Width $d$ of a head.
    sections
        Number of pairs of every axis, each at least 1; together half of the columns that turn.
    base
        Base $b > 1$ of the frequencies.
    arrangement
        `"chunked"` or `"interleaved"`: which pairs an axis gets, see
        `posenc.equations.rope_axes.axis_map`. It has nothing to do with `layout`.
    ladder
        `"shared"` (M-RoPE) or `"own"` (axial), see `posenc.equations.rope_axes.wave_vectors`.
    layout
        Which columns are a pair: `"interleaved"` or `"halves"`, see `posenc.layers.rope.Rope`.
    d_rotary
        Number of leading columns that turn, even; `None` is $d$.

    Raises
    ------
    TypeError
        If a width or a section is not an integer, or `base` not a real number.
    ValueError
        If the sections do not add up to half of the columns that turn, if there are none, or if
        one is less than 1; if the number of columns that turn is odd or not from 2 to $d$; if
        `base` is not finite or not above 1; or if `arrangement`, `ladder` or `layout` is unknown.

    Examples
    --------
    An image: the first pair turns with the row, the second with the column.

    >>> layer = RopeAxes(4, [1, 1], ladder="own")
    >>> ones = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]])
    >>> layer(ones, torch.tensor([[0, 1]]))
    tensor([[[[1.0000, 0.0000, 0.5403, 0.8415]]]])

    One number for all axes, on a shared ladder, is plain RoPE.

    >>> mrope = RopeAxes(128, [16, 24, 24], base=1e6, layout="halves")
    >>> q = torch.ones(1, 1, 5, 128)
    >>> torch.equal(mrope(q), Rope(128, base=1e6, layout="halves")(q))
    True

    In an attention layer positions are `(n, axes)` or `(batch, n, axes)`. Places have no order,
    so that a mask says who may look at whom.

    >>> from posenc.layers.attention import Attention
    >>> attention = Attention(8, n_heads=2, encoding=layer)
    >>> places = torch.tensor([[0, 0], [0, 1], [1, 0]])
    >>> attention(torch.ones(1, 3, 8), places, mask=torch.ones(3, 3).tril().bool()).shape
    torch.Size([1, 3, 8])

    >>> RopeAxes(128, [16, 24, 23])
    Traceback (most recent call last):
        ...
    ValueError: sections must add up to 64, half of the columns that turn, got 63

    See Also
    --------
    posenc.equations.rope_axes.rotate_axes : The equation.
    posenc.equations.rope_axes.multimodal_positions : Positions of text, images and videos.

    References
    ----------
    Wang et al. *Qwen2-VL*. 2024, arXiv:2409.12191.
    """

    def __init__(
        self,
        d_head: int,
        sections: Sequence[int],
        base: float = 10000.0,
        *,
        arrangement: str = "chunked",
        ladder: str = "shared",
        layout: str = "interleaved",
        d_rotary: int | None = None,
    ) -> None:
        super().__init__(d_head, base, layout=layout, d_rotary=d_rotary)
        waves = wave_vectors(sections, base, arrangement=arrangement, ladder=ladder)
        if 2 * len(waves) != self.d_rotary:
            wanted = f"add up to {self.d_rotary // 2}, half of the columns that turn"
            raise ValueError(f"sections must {wanted}, got {len(waves)}")
        self.axes = waves.shape[1]
        # Numbers of Python, which no cast of the model rounds.
        self._waves = waves.T.tolist()

    def angles(self, positions: torch.Tensor) -> torch.Tensor:
        r"""Angle by which every pair turns at every position.

        $$\varphi_m = p\,\kappa_m^\top$$

        Parameters
        ----------
        positions
            int64 or int32, of shape `(..., axes)`, here and for `tables`.

        Returns
        -------
        torch.Tensor
            Angles of shape `(..., d_rotary / 2)`, float64, in radians.

        Raises
        ------
        ValueError
            If the last axis of `positions` is not as long as there are axes.

        Examples
        --------
        >>> RopeAxes(8, [2, 2], base=16).angles(torch.tensor([[8, 8], [8, 0]]))
        tensor([[8., 4., 2., 1.],
                [8., 4., 0., 0.]], dtype=torch.float64)

        Ladders of their own: the second axis begins at frequency 1, too.

        >>> RopeAxes(8, [2, 2], base=16, ladder="own").angles(torch.tensor([8, 4]))
        tensor([8., 2., 4., 1.], dtype=torch.float64)
        """
        if positions.shape[-1:] != (self.axes,):
            wanted = f"shape (..., {self.axes}), one number per axis"
            raise ValueError(f"positions must have {wanted}, got {tuple(positions.shape)}")
        waves = torch.tensor(self._waves, dtype=torch.float64, device=positions.device)
        return positions.double() @ waves

    def rotate(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Turn queries and keys, after their projection, by their positions.

        $$(q_i, k_j) \mapsto (q_i R_{p_i}^\top, k_j R_{p_j}^\top)$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_kv_heads, n_k, d_head)`,
            of any floating dtype. There may be fewer heads for the keys.
        q_positions, k_positions
            int64 or int32, `(n, axes)` or `(batch, n, axes)` each; or `(n,)` or `(batch, n)`, the
            same number on all axes.

        Returns
        -------
        tuple of torch.Tensor
            Queries and keys of the same shapes and dtypes.

        Raises
        ------
        TypeError
            If `q` or `k` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device. Where `(n, axes)`
            and `(batch, n)` are the same shape, it is refused: `(batch, n, axes)` is clear.

        Examples
        --------
        Two patches, and a query one row below the first.

        >>> layer = RopeAxes(4, [1, 1], ladder="own")
        >>> q, k = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 4)
        >>> q, k = layer.rotate(q, k, torch.tensor([[1, 0]]), torch.tensor([[0, 0], [1, 0]]))
        >>> q @ k.mT
        tensor([[[[3.0806, 4.0000]]]])

        Two texts of a batch, the first padded on its left.

        >>> q, at = torch.ones(2, 1, 3, 4), torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> layer.rotate(q, q, at, at)[0].shape
        torch.Size([2, 1, 3, 4])
        """
        return super().rotate(q, k, q_positions, k_positions)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Turn queries or keys alone, say for a cache of keys that have been turned.

        $$x_i \mapsto x_i R_{p_i}^\top$$

        Parameters
        ----------
        x
            Queries or keys of shape `(batch, heads, n, d_head)`, of any floating dtype.
        positions
            int64 or int32, `(n, axes)` or `(batch, n, axes)`; or `(n,)` or `(batch, n)`, the same
            number on all axes. `None` is `0 .. n-1` on all axes.

        Returns
        -------
        torch.Tensor
            Tensor of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        >>> layer = RopeAxes(4, [1, 1], ladder="own")
        >>> ones = torch.tensor([[[[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]]])
        >>> layer(ones)
        tensor([[[[1.0000, 0.0000, 1.0000, 0.0000],
                  [0.5403, 0.8415, 0.5403, 0.8415]]]])

        Two patches of one row.

        >>> layer(ones, torch.tensor([[1, 0], [1, 1]]))
        tensor([[[[0.5403, 0.8415, 1.0000, 0.0000],
                  [0.5403, 0.8415, 0.5403, 0.8415]]]])

        >>> layer(ones, torch.tensor([[1, 0, 0], [1, 0, 1]]))
        Traceback (most recent call last):
            ...
        ValueError: positions must have shape (2,) or (1, 2) or (2, 2) or (1, 2, 2), got (2, 3)
        """
        return super().forward(x, positions)
