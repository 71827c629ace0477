r"""The small Transformer of the experiment: a decoder that takes any position encoding."""

from collections.abc import Sequence

import torch
from torch import nn

from posenc._checks import check_count
from posenc.layers import _checks as check
from posenc.layers.attention import Attention, PositionEncoding

__all__ = ["Decoder"]

Encodings = PositionEncoding | Sequence[PositionEncoding] | None


class Decoder(nn.Module):
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
        self.n_symbols = check_count("n_symbols", n_symbols)
        encodings = _per_layer(encoding, check_count("n_layers", n_layers))
        self.token = nn.Embedding(n_symbols, d_model)
        self.layers = nn.ModuleList(_Layer(d_model, n_heads, one, fused) for one in encodings)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, n_symbols)

    def stream(self, tokens, positions=None, mask=None):
        check.integers("tokens", tokens)
        at = torch.arange(tokens.shape[-1], device=tokens.device) if positions is None else positions
        encoding = self.layers[0].attention.encoding
        states = [encoding.embed(self.token(tokens), at)]
        for layer in self.layers:
            states.append(layer(states[-1], positions, mask))
        return torch.stack(states)

    def forward(self, tokens, positions=None, mask=None):
        return self.head(self.norm(self.stream(tokens, positions, mask)[-1]))


class _Layer(nn.Module):
    """Attention and a network per token, each behind a norm and beside the residual stream."""

    def __init__(self, d_model: int, n_heads: int, encoding, fused: bool) -> None:
        super().__init__()
        self.attention = Attention(
            d_model, n_heads, encoding, causal=True, first=False, fused=fused
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(2))
        self.network = nn.Sequential(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
        )

    def forward(self, x, positions, mask):
        x = x + self.attention(self.norms[0](x), positions, mask=mask)
        return x + self.network(self.norms[1](x))


def _per_layer(encoding: Encodings, n_layers: int) -> list[PositionEncoding | None]:
    if not isinstance(encoding, Sequence):
        return [encoding] * n_layers
    if len(encoding) != n_layers:
        raise ValueError(f"encoding must be one or n_layers = {n_layers}, got {len(encoding)}")
    return list(encoding)
