"""Transformer-XL's relative shift beside its peers, and all terms of a layer that have positions.

Peers are checked to compute alike before they are timed.
"""

import torch
from transformers import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from posenc.equations.xlnet import column_offsets, offset_vectors
from posenc.layers.xlnet import TransformerXL, shift
from scripts.bench import Calls, Name, group, peaks, seconds, target

HEADS, N, D = 8, 1024, 64
ROUNDS = 15

NAMES: dict[str, Name] = {
    "clone": {"zh": "复制同样大小的输出", "en": "clone() of the same output"},
    "ours view": {"zh": "posenc，视图", "en": "posenc, the view"},
    "ours copied": {"zh": "posenc，视图再复制", "en": "posenc, the view copied"},
    "ours added": {"zh": "posenc，视图加上 (c) 项", "en": "posenc, the view plus term (c)"},
    "hf": {"zh": "transformers XLNet", "en": "transformers XLNet"},
    "conformer": {
        "zh": "transformers Wav2Vec2-Conformer，补列、改形状、切片",
        "en": "transformers Wav2Vec2-Conformer: padded, reshaped, sliced",
    },
    "ours consecutive": {"zh": "posenc，位置连续", "en": "posenc, consecutive positions"},
    "ours any": {"zh": "posenc，位置任意", "en": "posenc, positions in any order"},
}


def conformer(scores: torch.Tensor) -> torch.Tensor:
    """The steps of Wav2Vec2-Conformer, which has one column less."""
    own = scores[..., 1:]
    b, h, n, columns = own.shape
    padded = torch.nn.functional.pad(own, (1, 0)).view(b, h, columns + 1, n)
    return padded[..., 1:, :].view(own.shape)[..., :n]


def shift_calls(scores: torch.Tensor, constant: torch.Tensor) -> Calls:
    n = scores.shape[-2]
    calls: Calls = {
        "hf": lambda: XLNetRelativeAttention.rel_shift_bnij(scores, n),
        "conformer": lambda: conformer(scores),
        "ours view": lambda: shift(scores),
        "ours copied": lambda: shift(scores).contiguous(),
    }
    for call in calls.values():
        torch.testing.assert_close(call(), shift(scores), rtol=0, atol=0)
    return calls | {"ours added": lambda: shift(scores) + constant}


def shift_group() -> dict:
    scores = torch.randn(1, HEADS, N, 2 * N)
    out = shift(scores).contiguous()
    calls: Calls = {
        "clone": out.clone,
        **shift_calls(scores, torch.randn(1, HEADS, 1, N)),
    }
    found, held = seconds(calls, ROUNDS), peaks(calls)
    promised = [
        target(
            "视图再复制，与复制之比",
            "the view copied, against the copy",
            found["ours copied"] / found["clone"],
            1.2,
        )
    ]
    title = {"zh": "相对平移，float32", "en": "Relative shift, float32"}
    setting = {
        "shape": f"1 × {HEADS} × {N} × {2 * N}",
        "layout": "(b, h, n_q, n_q + n_k)",
        "dtype": "float32",
    }
    return group(title, NAMES, found, held, ours=("ours",), targets=promised, setting=setting)


def bias_calls(n: int = N) -> Calls:
    """Terms (b), (c) and (d), scaled, from queries, keys and the vectors of the offsets."""
    width = HEADS * D
    layer = TransformerXL(width, HEADS, consecutive=True)
    general = TransformerXL(width, HEADS)
    general.load_state_dict(layer.state_dict())
    q, k, at = torch.randn(1, HEADS, n, D), torch.randn(1, HEADS, n, D), torch.arange(n)
    theirs = XLNetRelativeAttention(XLNetConfig(d_model=width, n_head=HEADS))
    r = layer.relative.weight.T.unflatten(1, (HEADS, D))
    R = torch.tensor(offset_vectors(column_offsets(n, n), width)).float()[:, None]
    q_first, k_first = (x.permute(2, 0, 1, 3).contiguous() for x in (q, k))

    def hf() -> torch.Tensor:
        keys = torch.einsum("ibh,hnd->ibnd", R, r)
        bd = torch.einsum("ibnd,jbnd->bnij", q_first + layer.v, keys)
        c = torch.einsum("hc,jbhc->bhj", layer.u, k_first)
        return (c[:, :, None] + theirs.rel_shift_bnij(bd, n)) * theirs.scale

    calls: Calls = {
        "hf": hf,
        "ours consecutive": lambda: layer.bias(q, k, at, at),
        "ours any": lambda: general.bias(q, k, at, at),
    }
    for call in calls.values():
        torch.testing.assert_close(call(), hf(), rtol=0, atol=1e-3)
    return calls


def bias_group() -> dict:
    out = torch.randn(1, HEADS, N, N)
    calls: Calls = {"clone": out.clone, **bias_calls()}
    found, held = seconds(calls, ROUNDS), peaks(calls)
    promised = [
        target(
            "位置连续，与 transformers 之比",
            "consecutive positions, as a share of transformers",
            found["ours consecutive"] / found["hf"],
            1,
        )
    ]
    title = {
        "zh": "Transformer-XL 的三项，float32",
        "en": "The three terms of Transformer-XL, float32",
    }
    setting = {
        "shape": f"1 × {HEADS} × {N} × {D}",
        "layout": "(b, h, n, d_head)",
        "dtype": "float32",
    }
    return group(title, NAMES, found, held, ours=("ours",), targets=promised, setting=setting)


def groups() -> list[dict]:
    """Both groups."""
    print("relative shift", flush=True)
    shifted = shift_group()
    print("terms of Transformer-XL", flush=True)
    return [shifted, bias_group()]
