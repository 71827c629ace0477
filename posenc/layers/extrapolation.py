r"""The small Transformer of the experiment: a decoder that takes any position encoding."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from posenc._checks import check_count
from posenc.layers import _checks as check
from posenc.layers.attention import Attention, PositionEncoding

__all__ = ["Decoder"]

Encodings = PositionEncoding | Sequence[PositionEncoding] | None


class Decoder(nn.Module):
    r"""Causal Transformer with layer norms before its parts, for any position encoding.

    $$\begin{aligned}
    x^{(0)} &= \operatorname{embed}(E_{w}) \\
    y^{(l)} &= x^{(l)} + \operatorname{Attention}\left(\operatorname{norm}(x^{(l)})\right) \\
    x^{(l+1)} &= y^{(l)} + \operatorname{network}\left(\operatorname{norm}(y^{(l)})\right) \\
    \text{logits} &= \operatorname{norm}(x^{(L)})\, W + b
    \end{aligned}$$

    The network has one hidden layer of width $4 d$ with GELU. The model opens the input door once,
    at the bottom; the layers open the others.

    Parameters
    ----------
    n_symbols
        Number of different tokens, at least 1; the logits are for as many.
    d_model, n_heads
        Width $d$ of the tokens, a multiple of the number of heads.
    n_layers
        Number $L \ge 1$ of layers.
    encoding
        One encoding that all layers share, or a sequence with one for every layer, of which the
        first opens the input door; `None` is NoPE.
    fused
        As in `posenc.layers.attention.Attention`.

    Raises
    ------
    TypeError
        If a number is not an integer, or an encoding no `PositionEncoding`.
    ValueError
        If a number is too small, if `d_model` is not a multiple of `n_heads`, if there are not as
        many encodings as layers, or if `fused` does not go with an encoding.

    Examples
    --------
    >>> from posenc.layers.rope import Rope
    >>> model = Decoder(8, d_model=4, n_heads=1, n_layers=2, encoding=Rope(4))
    >>> model(torch.tensor([[3, 1, 2]])).shape
    torch.Size([1, 3, 8])

    RoPE and its scalings have no weights: what was trained with one can be tested with another.

    >>> other = Decoder(8, d_model=4, n_heads=1, n_layers=2, encoding=Rope(4, base=500.0))
    >>> other.load_state_dict(model.state_dict())
    <All keys matched successfully>

    A table of offsets for every layer.

    >>> from posenc.layers.shaw import ShawKeys
    >>> model = Decoder(8, 4, 1, 2, encoding=[ShawKeys(4, 3), ShawKeys(4, 3)])

    >>> Decoder(8, 4, 1, 2, encoding=[ShawKeys(4, 3)])
    Traceback (most recent call last):
        ...
    ValueError: encoding must be one for all or one for each of n_layers = 2, got 1

    See Also
    --------
    posenc.layers.attention.Attention : Where the doors are.
    """

    def __init__(
        self,
        n_symbols: int,
        d_model: int,
        n_heads: int,
        n_layers: int,
        encoding: Encodings = None,
        *,
        fused: bool = False,
    ) -> None:
        super().__init__()
        check_count("n_symbols", n_symbols)
        encodings = _per_layer(encoding, check_count("n_layers", n_layers))
        self.token = nn.Embedding(n_symbols, check_count("d_model", d_model))
        self.layers = nn.ModuleList(_Layer(d_model, n_heads, one, fused) for one in encodings)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, n_symbols)

    def stream(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        r"""Residual stream: the tokens after the input door, and after every layer.

        $$x^{(0)}, x^{(1)}, \dots, x^{(L)}$$

        Parameters
        ----------
        tokens
            int64 or int32, `(batch, n)`, from 0 to `n_symbols - 1`.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.
        mask
            Boolean, broadcasts to `(batch, n, n)`; True = may look, if it is not after the query.

        Returns
        -------
        torch.Tensor
            States of shape `(n_layers + 1, batch, n, d_model)`.

        Raises
        ------
        TypeError
            If a tensor has the wrong dtype.
        ValueError
            If a tensor has the wrong rank, shape or device.

        Examples
        --------
        >>> model = Decoder(8, d_model=4, n_heads=1, n_layers=2)
        >>> tokens = torch.tensor([[3, 1, 2]])
        >>> model.stream(tokens).shape
        torch.Size([3, 1, 3, 4])

        Without positions, what comes in is the word alone.

        >>> torch.equal(model.stream(tokens)[0], model.token(tokens))
        True
        """
        check.integers("tokens", tokens)
        if tokens.ndim != 2:
            raise ValueError(f"tokens must have shape (batch, n), got {tuple(tokens.shape)}")
        x = self.token(tokens)
        at = torch.arange(x.shape[1], device=x.device) if positions is None else positions
        states = [cast(_Layer, self.layers[0]).attention.encoding.embed(x, at)]
        for layer in self.layers:
            states.append(layer(states[-1], positions, mask))
        return torch.stack(states)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        r"""Logits of the token after each.

        $$\operatorname{norm}(x^{(L)})\, W + b$$

        Parameters
        ----------
        tokens
            int64 or int32, `(batch, n)`, from 0 to `n_symbols - 1`.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.
        mask
            Boolean, broadcasts to `(batch, n, n)`; True = may look, if it is not after the query.

        Returns
        -------
        torch.Tensor
            Logits of shape `(batch, n, n_symbols)`.

        Raises
        ------
        TypeError
            If a tensor has the wrong dtype.
        ValueError
            If a tensor has the wrong rank, shape or device.

        Examples
        --------
        What comes later changes nothing.

        >>> model = Decoder(8, d_model=4, n_heads=1, n_layers=2)
        >>> short, long = model(torch.tensor([[3, 1]])), model(torch.tensor([[3, 1, 2]]))
        >>> torch.allclose(short, long[:, :2], atol=1e-6)
        True

        >>> model(torch.tensor([3, 1]))
        Traceback (most recent call last):
            ...
        ValueError: tokens must have shape (batch, n), got (2,)
        """
        return self.head(self.norm(self.stream(tokens, positions, mask)[-1]))


class _Layer(nn.Module):
    """Attention and a network per token, each behind a norm and beside the residual stream."""

    def __init__(
        self, d_model: int, n_heads: int, encoding: PositionEncoding | None, fused: bool
    ) -> None:
        super().__init__()
        self.attention = Attention(
            d_model, n_heads, encoding, causal=True, first=False, fused=fused
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.network = nn.Sequential(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
        )

    def forward(self, x, positions, mask) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x), positions, mask=mask)
        return x + self.network(self.norms[1](x))


def _per_layer(encoding: Encodings, n_layers: int) -> list[PositionEncoding | None]:
    if not isinstance(encoding, Sequence):
        return [encoding] * n_layers
    if len(encoding) != n_layers:
        text = f"encoding must be one for all or one for each of n_layers = {n_layers}"
        raise ValueError(f"{text}, got {len(encoding)}")
    return list(encoding)
