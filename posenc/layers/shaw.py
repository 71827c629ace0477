r"""Relative position vectors as layers: they open the logits door, and one the values door.

The offset is $t = j - i$. Nothing of the size $n^2 d$ is ever made: logits look up products of
queries with the few vectors there are, and values sum weights before they multiply.
"""

import torch
from torch import nn

from posenc._checks import check_above, check_choice, check_count, check_reach
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding
from posenc.layers.relative import offsets
from posenc.layers.sinusoidal import Sinusoidal

__all__ = ["Shaw", "ShawKeys"]


class ShawKeys(PositionEncoding):
    r"""Logits door: give every clipped offset a vector that is added to the key.

    $$e_{ij} = \frac{q_i \big(k_j + w^K_{\operatorname{clip}(j - i)}\big)^\top}{\sqrt{d}}$$

    Trained, the layer has the parameter `key_table` of $l + r + 1$ rows, in the order of the
    offsets $-l \dots r$. All heads share it; layers do not, so that every layer of a model gets
    an encoding of its own. Any position will do, and sequences of any length.

    Parameters
    ----------
    d_head
        Width $d \ge 1$ of a head.
    max_distance
        How far offsets are told apart: $k \ge 0$ on both sides, or the pair $(l, r)$, to the left
        and to the right of the query.
    table
        `"learned"`: trained. `"sinusoidal"`: fixed, the sinusoid of the offset. `"nezha"`: the
        same but for the numbers, which count from 0 for the offset $-l$, as in the code and the
        checkpoints of NEZHA. Fixed tables are computed when they are needed: there is no tensor
        that a cast could round.
    std
        Standard deviation above 0 of the first values, which are normal with mean 0.
    device, dtype
        Of the trained vectors, as in `torch.nn.Embedding`.

    Raises
    ------
    TypeError
        If `d_head` is not an integer, `max_distance` is neither an integer nor two of them, or
        `std` is not a real number.
    ValueError
        If `d_head` is less than 1, a distance is negative, `table` is unknown, or `std` is not
        finite or not above 0.

    Examples
    --------
    >>> layer = ShawKeys(64, 16)
    >>> {name: tuple(table.shape) for name, table in layer.state_dict().items()}
    {'key_table': (33, 64)}

    What a checkpoint of transformers calls `distance_embedding`, here of Wav2Vec2-BERT, is the
    key table as it stands: 64 offsets to the left and 8 to the right.

    >>> distance_embedding = nn.Embedding(64 + 1 + 8, 64)
    >>> layer = ShawKeys(64, (64, 8))
    >>> layer.load_state_dict({"key_table": distance_embedding.weight})
    <All keys matched successfully>

    Attention can use the fast kernel, as long as the values door is shut.

    >>> from posenc.layers.attention import Attention, doors
    >>> doors(ShawKeys)
    ('logits',)
    >>> attention = Attention(128, n_heads=2, encoding=layer, fused=True)
    >>> attention(torch.ones(1, 100, 128)).shape
    torch.Size([1, 100, 128])

    >>> ShawKeys(64, -1)
    Traceback (most recent call last):
        ...
    ValueError: max_distance must be at least 0, got -1

    See Also
    --------
    Shaw : The same with vectors for the values, too.
    posenc.equations.shaw.relative_logits : The key term as it is printed.

    References
    ----------
    Shaw, Uszkoreit, Vaswani. *Self-Attention with Relative Position Representations*. 2018,
    arXiv:1803.02155, Section 3; Wei et al. *NEZHA*. 2019, arXiv:1909.00204, Section 2.2.
    """

    _tables: tuple[str, ...] = ("key_table",)
    key_table: nn.Parameter | None

    def __init__(
        self,
        d_head: int,
        max_distance: int | tuple[int, int],
        *,
        table: str = "learned",
        std: float = 0.02,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_head = check_count("d_head", d_head)
        self.left, self.right = check_reach("max_distance", max_distance)
        self.table = check_choice("table", table, ("learned", "sinusoidal", "nezha"))
        self.std = check_above("std", std, 0)
        self._sinusoid = Sinusoidal(self.d_head)
        size = self.left + self.right + 1, self.d_head
        for name in self._tables:
            trained = None
            if self.table == "learned":
                trained = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            self.register_parameter(name, trained)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw all vectors anew.

        $$w_{tm} \sim \mathcal{N}\left(0, \sigma^2\right), \qquad \sigma = \mathrm{std}$$

        Examples
        --------
        >>> layer = ShawKeys(2, 4, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> bool(layer.key_table.abs().max() < 1)
        True

        Where nothing is trained there is nothing to draw.

        >>> ShawKeys(2, 4, table="sinusoidal").reset_parameters()
        """
        for parameter in self.parameters():
            parameter.normal_(std=self.std)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Multiply every query with the vector of every offset, and look up the pairs.

        $$b_{ij} = \frac{1}{\sqrt{d}}\,
        \big(q\, (w^K)^\top\big)_{i,\; \operatorname{clip}(j - i) + l}$$

        The products are computed in at least float32 and rounded once. The largest tensors are
        the result and the numbers of the columns, which heads share.

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`, of
            any floating dtype. Only the shape of the keys is looked at.
        q_positions, k_positions
            int64 or int32, `(n,)` or `(batch, n)` each, in tokens.

        Returns
        -------
        torch.Tensor
            Bias of shape `(batch, n_heads, n_q, n_k)`, of the dtype of `q`.

        Raises
        ------
        TypeError
            If `q` or `k` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.

        Examples
        --------
        >>> layer = ShawKeys(1, 1)
        >>> layer.key_table = nn.Parameter(torch.tensor([[-1.0], [0.0], [1.0]]))
        >>> q = torch.tensor([[[[1.0], [2.0], [4.0]]]])
        >>> layer.bias(q, q, torch.arange(3), torch.arange(3)).detach()
        tensor([[[[ 0.,  1.,  1.],
                  [-2.,  0.,  2.],
                  [-4., -4.,  0.]]]])

        One new query, for the keys of a cache.

        >>> layer.bias(q[:, :, 2:], q, torch.tensor([2]), torch.arange(3)).detach()
        tensor([[[[-4., -4.,  0.]]]])
        """
        check.heads("q", q, self.d_head)
        check.heads("k", k, self.d_head)
        check.positions("q_positions", q_positions, q.transpose(1, 2))
        check.positions("k_positions", k_positions, k.transpose(1, 2))
        table = self._vectors(self.key_table, q)
        products = (q.to(table.dtype) @ table.mT / self.d_head**0.5).to(q.dtype)
        columns = self._columns(q_positions, k_positions)
        return products.gather(-1, columns.expand(*q.shape[:2], -1, -1))

    def _columns(self, q_positions: torch.Tensor, k_positions: torch.Tensor) -> torch.Tensor:
        """Row of the table for every pair, `(1, n_q, n_k)` or `(batch, 1, n_q, n_k)`."""
        t = offsets(q_positions, k_positions).unsqueeze(-3)
        return t.clamp_(-self.left, self.right).add_(self.left).long()

    def _vectors(self, trained: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """Table in at least float32."""
        wide = torch.promote_types(like.dtype, torch.float32)
        if trained is not None:
            return trained.to(wide)
        first = 0 if self.table == "nezha" else -self.left
        at = torch.arange(first, first + self.left + self.right + 1, device=like.device)
        blank = torch.zeros(1, len(at), self.d_head, dtype=wide, device=like.device)
        return self._sinusoid(blank, at)[0]


class Shaw(ShawKeys):
    r"""Logits and values doors: give every clipped offset one vector for keys, one for values.

    $$\begin{aligned}
    e_{ij} &= \frac{q_i \big(k_j + w^K_{\operatorname{clip}(j - i)}\big)^\top}{\sqrt{d}} \\
    z_i &= \sum_j \alpha_{ij} \big(v_j + w^V_{\operatorname{clip}(j - i)}\big)
    \end{aligned}$$

    Trained, the layer has the parameters `key_table` and `value_table` of $l + r + 1$ rows each,
    in the order of the offsets $-l \dots r$. All heads share them; layers do not. Fixed tables
    are the same for keys and values. What the layer is made with is described at `ShawKeys`.

    Examples
    --------
    >>> layer = Shaw(64, 16)
    >>> {name: tuple(table.shape) for name, table in layer.state_dict().items()}
    {'key_table': (33, 64), 'value_table': (33, 64)}

    In an attention layer it needs no other encoding.

    >>> from posenc.layers.attention import Attention, doors
    >>> doors(Shaw)
    ('logits', 'values')
    >>> attention = Attention(128, n_heads=2, encoding=layer)
    >>> attention(torch.ones(1, 100, 128)).shape
    torch.Size([1, 100, 128])

    NEZHA trains none of it.

    >>> len(Shaw(64, 64, table="nezha").state_dict())
    0

    See Also
    --------
    ShawKeys : The logits door alone.
    posenc.equations.shaw.relative_values : The value term as it is printed.

    References
    ----------
    Shaw, Uszkoreit, Vaswani. *Self-Attention with Relative Position Representations*. 2018,
    arXiv:1803.02155, Section 3; Wei et al. *NEZHA*. 2019, arXiv:1909.00204, Section 2.2.
    """

    _tables = ("key_table", "value_table")
    value_table: nn.Parameter | None

    def combine(
        self,
        weights: torch.Tensor,
        v: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Add the vectors of the offsets to the values, each with the weight of its keys.

        $$z_i = \sum_j \alpha_{ij} v_j + \sum_{c=-l}^{r}
        \Big(\sum_{j:\; \operatorname{clip}(j-i) = c} \alpha_{ij}\Big)\, w^V_c$$

        Weights of one bucket are summed in at least float32: in bfloat16 a sum of many small
        weights comes to a halt.

        Parameters
        ----------
        weights
            Weights of shape `(batch, n_heads, n_q, n_k)`.
        v
            Values of shape `(batch, n_heads, n_k, d_head)`, of the dtype of the weights.
        q_positions, k_positions
            int64 or int32, `(n,)` or `(batch, n)` each, in tokens.

        Returns
        -------
        torch.Tensor
            Outputs of shape `(batch, n_heads, n_q, d_head)`, of the dtype of `v`.

        Raises
        ------
        TypeError
            If `v` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.

        Examples
        --------
        >>> layer = Shaw(1, 1)
        >>> layer.value_table = nn.Parameter(torch.tensor([[-8.0], [0.0], [8.0]]))
        >>> weights, v = torch.full((1, 1, 3, 3), 0.25), torch.ones(1, 1, 3, 1)
        >>> layer.combine(weights, v, torch.arange(3), torch.arange(3)).detach().flatten()
        tensor([ 4.7500,  0.7500, -3.2500])

        One query, which has all its keys to the left.

        >>> layer.combine(weights[:, :, :1], v, torch.tensor([9]), torch.arange(3)).item()
        -5.25
        """
        check.heads("v", v, self.d_head)
        check.positions("q_positions", q_positions, weights.transpose(1, 2))
        check.positions("k_positions", k_positions, v.transpose(1, 2))
        table = self._vectors(self.value_table, v)
        columns = self._columns(q_positions, k_positions).expand_as(weights)
        buckets = table.new_zeros(*weights.shape[:-1], len(table))
        buckets = buckets.scatter_add(-1, columns, weights.to(table.dtype))
        return weights @ v + (buckets @ table).to(v.dtype)
