"""Disentangled attention beside Hugging Face's: time and memory of the two terms with a position.

All get contents that are projected already, and project the table themselves. The library is given
its matrix of offsets ready-made; ours computes its rows in every call.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import DebertaV2Config
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

from posenc.layers.deberta import Deberta
from scripts.bench import Name, group, peaks, seconds, target

HEADS, N, D, DISTANCE, BUCKETS = 12, 2048, 64, 512, 256
ROUNDS = 11

NAMES: dict[str, Name] = {
    "clone": {"zh": "复制同样大小的 n × n 结果", "en": "clone() of the same n × n result"},
    "hf": {"zh": "transformers DeBERTa-v2", "en": "transformers DeBERTa-v2"},
    "posenc": {"zh": "posenc", "en": "posenc"},
    "hf gradients": {
        "zh": "transformers DeBERTa-v2，含梯度",
        "en": "transformers DeBERTa-v2, with gradients",
    },
    "posenc gradients": {"zh": "posenc，含梯度", "en": "posenc, with gradients"},
}

Calls = dict[str, Callable[[], torch.Tensor]]


def peer(n_buckets: int | None) -> deberta.DisentangledSelfAttention:
    """The library's attention of one layer, with projections of its own for the positions."""
    options: dict[str, Any] = {"position_buckets": n_buckets or -1}
    config = DebertaV2Config(
        hidden_size=HEADS * D,
        num_attention_heads=HEADS,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        max_relative_positions=DISTANCE,
        **options,
    )
    return deberta.DisentangledSelfAttention(config).eval()


def deberta_calls(n_buckets: int | None) -> Calls:
    """The same bias from both, for one sequence; without gradients and with them."""
    hf: Any = peer(n_buckets)
    ours = Deberta(HEADS * D, HEADS, DISTANCE, n_buckets=n_buckets)
    ours.key.load_state_dict(hf.pos_key_proj.state_dict())
    ours.query.load_state_dict(hf.pos_query_proj.state_dict())
    q, k = torch.randn(2, 1, HEADS, N, D)
    at, table, upstream = torch.arange(N), ours.table.weight, torch.randn(1, HEADS, N, N)
    offset = deberta.build_relative_position(q, k, n_buckets or -1, DISTANCE)

    def of_hf() -> torch.Tensor:
        return hf.disentangled_attention_bias(q[0], k[0], offset, table, 3)[None]

    def of_ours() -> torch.Tensor:
        return ours.bias(q, k, at, at)

    def trained(bias: Callable[[], torch.Tensor]) -> torch.Tensor:
        with torch.enable_grad():
            out = bias()
            out.backward(upstream)
        return out.detach()

    return {
        "clone": of_hf().clone,
        "hf": of_hf,
        "posenc": of_ours,
        "hf gradients": lambda: trained(of_hf),
        "posenc gradients": lambda: trained(of_ours),
    }


def check(calls: Calls) -> None:
    """Hold all calls to that of the library."""
    for name, call in calls.items():
        if name != "clone":
            torch.testing.assert_close(call(), calls["hf"](), rtol=0, atol=1e-5)


def deberta_group(n_buckets: int | None) -> dict:
    calls = deberta_calls(n_buckets)
    check(calls)
    times, held = seconds(calls, ROUNDS), peaks(calls)
    promised = [
        target(
            "时间，与 transformers 之比",
            "time, as a share of transformers",
            times["posenc"] / times["hf"],
            0.5,
        ),
        target(
            "内存，与 transformers 之比",
            "memory, as a share of transformers",
            held["posenc"] / held["hf"],
            0.5,
        ),
    ]
    title = {"zh": f"DeBERTa，每侧 {n_buckets} 个桶", "en": f"DeBERTa, {n_buckets} buckets a side"}
    if n_buckets is None:
        title = {"zh": f"DeBERTa，k = {DISTANCE}", "en": f"DeBERTa, k = {DISTANCE}"}
    setting = {
        "shape": f"1 × {HEADS} × {N} × {N}",
        "layout": "(b, h, n, n)",
        "dtype": "float32",
    }
    return group(title, NAMES, times, held, ours=("posenc",), targets=promised, setting=setting)


def groups() -> list[dict]:
    """A table with a row for every offset, and one with the buckets of released checkpoints."""
    result = []
    for n_buckets in (None, BUCKETS):
        print(f"disentangled attention, buckets: {n_buckets}", flush=True)
        result.append(deberta_group(n_buckets))
    return result
