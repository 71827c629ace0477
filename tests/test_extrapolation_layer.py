"""The decoder of the experiment: facts, properties and errors of the layer."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from posenc.layers.alibi import Alibi
from posenc.layers.attention import PositionEncoding
from posenc.layers.extrapolation import Decoder
from posenc.layers.rope import Rope
from posenc.layers.shaw import ShawKeys
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.t5 import T5


def tokens(batch=2, n=7, symbols=9):
    return torch.randint(symbols, (batch, n), generator=torch.Generator().manual_seed(0))


def written_out(model, ids, encoding):
    """The formula, one step after the other, with RoPE or a sum in the right place."""
    x = encoding.embed(model.token.weight[ids], torch.arange(ids.shape[1]))
    states = [x]
    for layer in model.layers:
        h = layer.norms[0](x)
        at = torch.arange(ids.shape[1])
        q, k, v = (
            getattr(layer.attention, name)(h).unflatten(-1, (2, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        q, k = encoding.rotate(q, k, at, at)
        logits = q @ k.mT / q.shape[-1] ** 0.5
        logits = logits + torch.full(logits.shape[-2:], -torch.inf).triu(1)
        z = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + layer.attention.output(z)
        h = layer.norms[1](x)
        first, _, second = layer.network
        x = x + second(nn.functional.gelu(first(h)))
        states.append(x)
    return torch.stack(states), model.head(model.norm(x))


@pytest.mark.parametrize("encoding", [PositionEncoding(), Sinusoidal(8), Rope(4)])
@pytest.mark.parametrize("fused", [False, True])
def test_the_model_is_the_formula(encoding, fused):
    torch.manual_seed(0)
    model = Decoder(9, 8, 2, 3, encoding, fused=fused)
    states, logits = written_out(model, tokens(), encoding)
    torch.testing.assert_close(model.stream(tokens()), states)
    torch.testing.assert_close(model(tokens()), logits)


def test_the_network_is_four_times_as_wide():
    model = Decoder(9, 8, 2, 1)
    assert model.layers[0].network[0].out_features == 32


def test_layers_share_one_encoding_or_have_their_own():
    shared = T5(2, bidirectional=False)
    model = Decoder(9, 8, 2, 3, shared)
    assert all(layer.attention.encoding is shared for layer in model.layers)
    own = [ShawKeys(4, 3) for _ in range(3)]
    model = Decoder(9, 8, 2, 3, own)
    assert [layer.attention.encoding for layer in model.layers] == own


def test_the_input_door_is_opened_once():
    class Count(PositionEncoding):
        calls = 0

        def embed(self, x, positions):
            self.calls += 1
            return x

    count = Count()
    Decoder(9, 8, 2, 3, count)(tokens())
    assert count.calls == 1


def test_the_future_changes_nothing():
    torch.manual_seed(0)
    model = Decoder(9, 8, 2, 2, Alibi(2))
    long = model(tokens(n=12))
    torch.testing.assert_close(model(tokens(n=12)[:, :5]), long[:, :5])


def test_positions_reach_every_door():
    torch.manual_seed(0)
    at = torch.tensor([3, 4, 9, 10, 11, 20, 21])
    for encoding in (Sinusoidal(8), Alibi(2)):
        model = Decoder(9, 8, 2, 2, encoding)
        assert not torch.allclose(model(tokens(), at), model(tokens()), atol=1e-3)
    model = Decoder(9, 8, 2, 2, Rope(4))
    torch.testing.assert_close(model(tokens(), torch.arange(7) + 50), model(tokens()))


def test_a_mask_hides_tokens_from_every_layer():
    torch.manual_seed(0)
    model = Decoder(9, 8, 2, 2, Rope(4))
    near = torch.ones(7, 7, dtype=torch.bool).triu(-1)  # the query and the token before
    changed = tokens().clone()
    changed[:, 0] = (changed[:, 0] + 1) % 9
    with_first, other = model(tokens(), mask=near), model(changed, mask=near)
    torch.testing.assert_close(with_first[:, 3:], other[:, 3:])  # two layers reach two back
    assert not torch.allclose(with_first[:, 2], other[:, 2], atol=1e-4)


def test_state_dict_round_trip():
    for make in (lambda: Rope(4), lambda: [ShawKeys(4, 3) for _ in range(2)], lambda: T5(2)):
        model, other = Decoder(9, 8, 2, 2, make()), Decoder(9, 8, 2, 2, make())
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other(tokens()), model(tokens()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_close(dtype):
    torch.manual_seed(0)
    model = Decoder(9, 8, 2, 2, Rope(4))
    full = model(tokens())
    low = model.to(dtype)(tokens())
    assert low.dtype == dtype
    torch.testing.assert_close(low.float(), full, rtol=0, atol=0.1)


def test_the_model_compiles_whole():
    torch.manual_seed(0)
    model = Decoder(9, 8, 2, 2, Rope(4))
    fast = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(fast(tokens()), model(tokens()))


def test_gradients_reach_every_weight():
    model = Decoder(9, 8, 2, 2, [ShawKeys(4, 3), ShawKeys(4, 3)])
    model(tokens()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Decoder(0, 8, 2, 2), ValueError, "n_symbols must be at least 1, got 0"),
        (lambda: Decoder(9, 8, 2, 0), ValueError, "n_layers must be at least 1, got 0"),
        (lambda: Decoder(9, 0, 2, 2), ValueError, "d_model must be at least 1, got 0"),
        (lambda: Decoder(9, 8, 3, 2), ValueError, "d_model must be a multiple of n_heads = 3"),
        (lambda: Decoder(9, 8, 2, 2, [Rope(4)]), ValueError, "each of n_layers = 2, got 1"),
        (lambda: Decoder(9, 8, 2, 2)(tokens().float()), TypeError, "tokens must be int64 or int32"),
        (lambda: Decoder(9, 8, 2, 2)(tokens()[0]), ValueError, "tokens must have shape (batch, n)"),
        (
            lambda: Decoder(9, 8, 2, 2)(tokens(), mask=torch.ones(7, 7)),
            TypeError,
            "mask must be",
        ),
    ],
)
def test_errors_name_the_argument_and_the_value(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.extrapolation", "posenc.layers.extrapolation"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
