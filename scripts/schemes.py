"""What every scheme does with the four terms of a logit, and what it costs: measured on layers.

A row of the table is an entry of `SCHEMES`: how to build the layer, and three formulas in the sizes
below. Everything else in the row is measured; a test holds the formulas to what is measured. To add
a scheme, add an entry.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from posenc.equations.relative import dependence
from posenc.equations.rope_scaling import Yarn
from posenc.layers.alibi import Alibi
from posenc.layers.attention import Attention, PositionEncoding
from posenc.layers.deberta import Deberta
from posenc.layers.learned import Learned
from posenc.layers.relative import Tupe
from posenc.layers.rope import Rope
from posenc.layers.rope_axes import RopeAxes
from posenc.layers.rope_scaling import ScaledRope
from posenc.layers.shaw import Shaw, ShawKeys
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.t5 import T5
from posenc.layers.urpe import Urpe
from posenc.layers.xlnet import TransformerXL


class Sizes(NamedTuple):
    """Letters of the formulas: batch, tokens, width, heads, rows of a table, clip, buckets.

    `d_h` is the width of a head, `d / h`.
    """

    b: int = 1
    n: int = 512
    d: int = 768
    h: int = 12
    N: int = 512
    k: int = 128
    B: int = 32

    @property
    def d_head(self) -> int:
        return self.d // self.h


class Scheme(NamedTuple):
    """How to build a layer, and its costs as formulas: a space multiplies, `^` is a power."""

    build: Callable[[Sizes], PositionEncoding]
    parameters: str  # trained numbers of one instance
    held: str  # numbers that the doors of one layer return in new memory
    flops: str  # of matrix products in one layer, more than without positions


SCHEMES = {
    "PositionEncoding": Scheme(lambda s: PositionEncoding(), "0", "0", "0"),
    "Sinusoidal": Scheme(lambda s: Sinusoidal(s.d), "0", "b n d", "0"),
    "Learned": Scheme(lambda s: Learned(s.N, s.d), "N d", "b n d", "0"),
    "Rope": Scheme(lambda s: Rope(s.d_head), "0", "2 b n d", "0"),
    "RopeAxes": Scheme(
        lambda s: RopeAxes(s.d_head, [s.d_head // 2 - 1, 1]), "0", "2 b n d", "2 n d_h"
    ),
    "ScaledRope": Scheme(lambda s: ScaledRope(s.d_head, Yarn(4, 2048)), "0", "2 b n d", "0"),
    "Tupe": Scheme(
        lambda s: Tupe(s.N, s.d, s.h),
        "N d + 2 d^2",
        "h n^2",
        "4 n d^2 + 2 n^2 d",
    ),
    "ShawKeys": Scheme(
        lambda s: ShawKeys(s.d_head, s.k), "(2 k + 1) d_h", "b h n^2", "2 b n d (2 k + 1)"
    ),
    "Shaw": Scheme(
        lambda s: Shaw(s.d_head, s.k), "2 (2 k + 1) d_h", "b h n^2", "4 b n d (2 k + 1)"
    ),
    "TransformerXL": Scheme(
        lambda s: TransformerXL(s.d, s.h),
        "d^2 + 2 d",
        "b h n^2",
        "2 b n d^2 + 2 b h n^2 d + 2 b n d",
    ),
    "T5": Scheme(lambda s: T5(s.h, s.B), "B h", "h n^2", "0"),
    "Deberta": Scheme(
        lambda s: Deberta(s.d, s.h, s.k),
        "2 k d + 2 d^2 + 2 d",
        "b h n^2",
        "8 k d^2 + 8 b n k d",
    ),
    "Urpe": Scheme(lambda s: Urpe(None, s.h, s.k), "h (2 k + 1)", "b h n^2", "0"),
    "Alibi": Scheme(lambda s: Alibi(s.h), "0", "h n^2", "0"),
}
SMALL = Sizes(b=1, n=4, d=16, h=2, N=9, k=5, B=8)


def evaluate(formula: str, sizes: Sizes) -> int:
    """The number that a formula gives, exactly.

    >>> evaluate("2 n^2 d + (2 k + 1) h", Sizes(n=3, d=5, k=1, h=2))
    96
    """
    spaced = re.sub(r"(?<=[\w)]) (?=[\w(])", "*", formula).replace("^", "**")
    if not re.fullmatch(r"[\w\s+*()-]+", spaced):
        raise ValueError(f"formula must be made of sizes, numbers, +, -, ^ and (), got {formula!r}")
    letters = {**sizes._asdict(), "d_h": sizes.d_head}
    return eval(spaced, {"__builtins__": {}}, letters)


def layer(name: str, sizes: Sizes, device: str = "cpu") -> Attention:
    """An attention layer with the scheme; all numbers random, so that none hides what it does."""
    torch.manual_seed(0)
    with torch.device(device):
        attention = Attention(sizes.d, sizes.h, SCHEMES[name].build(sizes))
        for parameter in attention.parameters():
            torch.nn.init.normal_(parameter)
    return attention


def positions_of(name: str, sizes: Sizes = SMALL) -> dict[str, object]:
    """On which positions each term depends, and in the same words the values and the weights."""
    attention = layer(name, sizes).double()
    encoding, rng = attention.encoding, np.random.default_rng(0)
    x, y = rng.normal(size=(2, sizes.n, sizes.d))
    w = torch.softmax(torch.from_numpy(rng.normal(size=(1, sizes.h, sizes.n, sizes.n))), -1)

    def values(q, k, i, j):
        v = attention._split_heads(attention.value(encoding.embed(_tokens(y), j)))
        return encoding.combine(w, v, i, j)[..., : sizes.n]

    def words(door):
        def score(q, k, i, j):
            with torch.no_grad():
                found = door(_tokens(q), _tokens(k), torch.from_numpy(i), torch.from_numpy(j))
            return found.sum(dim=(0, 1)).numpy()

        return dependence(score, x, y)

    return {
        "terms": words(lambda q, k, i, j: _logits(attention, q, k, i, j)),
        "values": words(values)[-1],
        "weights": words(lambda q, k, i, j: encoding.reweight(w, i, j))[-1],
    }


def _tokens(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x)[None]


def _logits(attention: Attention, x, y, i, j) -> torch.Tensor:
    """Logits of a first layer, from its tokens."""
    encoding = attention.encoding
    q = attention._split_heads(attention.query(encoding.embed(x, i)))
    k = attention._split_heads(attention.key(encoding.embed(y, j)))
    q, k = encoding.rotate(q, k, i, j)
    bias = encoding.bias(q, k, i, j)
    return attention._scale * q @ k.mT + (0 if bias is None else bias)


def costs_of(name: str, sizes: Sizes) -> dict[str, int]:
    """Counts of one layer: without data, so that any size takes no time."""
    attention = layer(name, sizes, "meta")
    return {
        "parameters": sum(p.numel() for p in attention.encoding.parameters()),
        "held": _held(attention, sizes),
        "flops": _flops(attention, sizes) - _flops(layer("PositionEncoding", sizes, "meta"), sizes),
    }


def _held(attention: Attention, sizes: Sizes) -> int:
    """Numbers in the memory that the doors return and did not get."""
    encoding, device = attention.encoding, "meta"
    x = torch.empty(sizes.b, sizes.n, sizes.d, device=device)
    q, k = (torch.empty(sizes.b, sizes.h, sizes.n, sizes.d_head, device=device) for _ in range(2))
    w, i = q @ k.mT, torch.arange(sizes.n, device=device)
    results = [encoding.embed(x, i), *encoding.rotate(q, k, i, i)]
    results += [encoding.bias(q, k, i, i), encoding.reweight(w, i, i)]
    own = {id(part.untyped_storage()): 0 for part in (x, q, k, w)}
    for part in filter(lambda part: part is not None, results):
        storage = part.untyped_storage()
        own.setdefault(id(storage), storage.nbytes() // part.element_size())
    return sum(own.values())


def _flops(attention: Attention, sizes: Sizes) -> int:
    x = torch.empty(sizes.b, sizes.n, sizes.d, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        attention(x)
    return counter.get_total_flops()


def measured(sizes: Sizes | None = None) -> dict[str, dict]:
    """All rows, as data."""
    sizes = sizes or Sizes()
    return {
        name: {
            "page": type(scheme.build(sizes)).__module__.rpartition(".")[2],
            **positions_of(name),
            **{
                cost: [getattr(scheme, cost), count]
                for cost, count in costs_of(name, sizes).items()
            },
        }
        for name, scheme in SCHEMES.items()
    }


if __name__ == "__main__":
    print(json.dumps(measured()))
