"""Relative position vectors beside their peers: time and memory of the key and the value term.

The peer of the key term is the function that Wav2Vec2-BERT calls; no library that is installed
has the value term, so that its peer is the formula as printed, with a vector for every pair.
"""

import torch
from transformers import Wav2Vec2BertConfig
from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as hf

from posenc.layers.shaw import Shaw
from scripts.bench import Calls, Name, group, peaks, seconds, target

HEADS, N, D, K, ROUNDS = 8, 2048, 64, 16, 9
NAMES: dict[str, Name] = {
    "clone": {"zh": "复制同样大小的输出", "en": "clone() of the same output"},
    "library": {"zh": "transformers Wav2Vec2-BERT", "en": "transformers Wav2Vec2-BERT"},
    "pairs": {"zh": "按公式，每对一个向量", "en": "the formula, a vector for every pair"},
    "product": {"zh": "只有权重乘值", "en": "weights times values alone"},
    "ours": {"zh": "posenc", "en": "posenc"},
    "compiled": {"zh": "posenc，编译", "en": "posenc, compiled"},
}


def key_calls(layer: Shaw, at: torch.Tensor) -> Calls:
    """The key term of one layer, several times over, held to each other."""
    config = Wav2Vec2BertConfig(
        hidden_size=HEADS * D,
        num_attention_heads=HEADS,
        left_max_position_embeddings=K,
        right_max_position_embeddings=K,
    )
    peer = hf.Wav2Vec2BertSelfAttention(config)
    peer.distance_embedding.weight = layer.key_table
    q, fused = torch.randn(1, HEADS, N, D), torch.compile(layer.bias, fullgraph=True)
    out = layer.bias(q, q, at, at)
    calls: Calls = {
        "clone": out.clone,
        "library": lambda: hf._apply_relative_key_position_encoding(peer, q, q)[1],
        "ours": lambda: layer.bias(q, q, at, at),
        "compiled": lambda: fused(q, q, at, at),
    }
    for name in ("library", "compiled"):
        torch.testing.assert_close(calls[name](), out, rtol=1e-4, atol=1e-4)
    return calls


def value_calls(layer: Shaw, at: torch.Tensor) -> Calls:
    """The value term and what it is added to, held to each other."""
    weights, v = torch.rand(1, HEADS, N, N).softmax(-1), torch.randn(1, HEADS, N, D)
    table, fused = layer.value_table, torch.compile(layer.combine, fullgraph=True)

    def pairs() -> torch.Tensor:
        a = table[(at - at[:, None]).clamp(-K, K) + K]
        return weights @ v + torch.einsum("bhij,ijd->bhid", weights, a)

    out = layer.combine(weights, v, at, at)
    calls: Calls = {
        "product": lambda: weights @ v,
        "pairs": pairs,
        "ours": lambda: layer.combine(weights, v, at, at),
        "compiled": lambda: fused(weights, v, at, at),
    }
    for name in ("pairs", "compiled"):
        torch.testing.assert_close(calls[name](), out, rtol=1e-4, atol=1e-4)
    return calls


def groups() -> list[dict]:
    """Both terms, in float32."""
    print("relative position vectors", flush=True)
    torch.compiler.reset()
    layer, at = Shaw(D, K, std=1.0), torch.arange(N)
    setting = {
        "shape": f"1 × {HEADS} × {N} × {N}",
        "layout": "(batch, heads, n, n)",
        "dtype": "float32",
    }
    calls = key_calls(layer, at)
    times, held = seconds(calls, ROUNDS), peaks(calls)
    title = {"zh": f"Shaw 的键项，k = {K}", "en": f"Shaw's key term, k = {K}"}
    aims = [
        target(
            "键项的时间，与复制之比",
            "key term, time against the copy",
            times["ours"] / times["clone"],
            2,
        ),
        target(
            "键项的内存峰值，与复制之比",
            "key term, peak memory against the copy",
            held["ours"] / held["clone"],
            2,
        ),
    ]
    ours = ("ours", "compiled")
    result = [group(title, NAMES, times, held, ours=ours, targets=aims, setting=setting)]
    calls = value_calls(layer, at)
    times, held = seconds(calls, ROUNDS), peaks(calls)
    title = {"zh": f"Shaw 的值项，k = {K}", "en": f"Shaw's value term, k = {K}"}
    result.append(group(title, NAMES, times, held, base="product", ours=ours, setting=setting))
    return result
