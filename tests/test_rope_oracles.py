"""`rope` against other people's code and other mathematics: none of it shares a line with ours."""

import cmath
import math

import mpmath
import numpy as np
import pytest
import torch
from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb
from scipy.linalg import expm
from transformers import CohereConfig, GPTNeoXConfig, LlamaConfig
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.gpt_neox import modeling_gpt_neox as gpt_neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

from posenc.equations.rope import (
    decay_bound,
    partial_sums,
    permute_layout,
    relative_score,
    rotate,
    rotate_pairs,
    rotation_matrix,
)
from posenc.layers import rope
from posenc.layers.attention import Attention
from posenc.layers.rope import Rope, apply_rotary

AT = torch.tensor([[0, 1, 2, 3, 77, 4095], [9, 8, 8191, 131_071, 10**6 + 1, 10**7]])
D, HEADS, KEY_HEADS = 24, 4, 2
LAYOUTS = ["interleaved", "halves"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def qk():
    return torch.randn(2, HEADS, 6, D), torch.randn(2, KEY_HEADS, 6, D)


def same(got, want, tolerance=1e-6):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# --- other mathematics -------------------------------------------------------------------------


def test_it_is_a_loop_over_complex_numbers():
    rng = np.random.default_rng(0)
    x, positions = rng.normal(size=(3, 8)), [0, 5, -7.5]
    for row, at, got in zip(x, positions, rotate(x, positions, 100.0), strict=True):
        want = []
        for m in range(4):
            z = complex(row[2 * m], row[2 * m + 1]) * cmath.exp(1j * at * 100 ** (-2 * m / 8))
            want += [z.real, z.imag]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_matrix_is_the_exponential_of_a_skew_generator(layout):
    d, half = 6, 3
    B = np.zeros((d, d))
    for m in range(half):
        a, b = (2 * m, 2 * m + 1) if layout == "interleaved" else (m, m + half)
        B[b, a], B[a, b] = 50 ** (-2 * m / d), -(50 ** (-2 * m / d))
    np.testing.assert_array_equal(B.T, -B)
    for at in (0, 1, 2.5, -9):
        got = rotation_matrix(at, d, 50, layout=layout)
        np.testing.assert_allclose(got, expm(at * B), rtol=0, atol=1e-13)


def test_a_rotation_is_two_reflections():
    """Householder: mirror at (1, 0), then at half the angle."""
    rng = np.random.default_rng(1)
    x, angle = rng.normal(size=2), 0.7
    y = x
    for normal in ([0.0, 1.0], [-math.sin(angle / 2), math.cos(angle / 2)]):
        y = y - 2 * np.dot(y, normal) * np.array(normal)
    np.testing.assert_allclose(rotate_pairs(x, np.array([angle])), y, rtol=0, atol=1e-15)


@pytest.mark.parametrize("position", [10**3, 10**7, -(10**7)])
def test_long_positions_equal_mpmath(position):
    with mpmath.workdps(40):
        want = []
        for m in range(32):
            z = mpmath.expj(position * mpmath.power(10000, -mpmath.mpf(2 * m) / 64))
            want += [float(z.real), float(z.imag)]
    got = rotate(np.tile([1.0, 0.0], 32), position)
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-9)


def test_scores_are_a_loop_over_angles_between_pairs():
    """|q_m| |k_m| cos(angle of k_m - angle of q_m + s theta_m), summed."""
    rng = np.random.default_rng(2)
    q, k = rng.normal(size=(2, 10))
    for s in (0, 1, -6, 1000):
        want = 0.0
        for m in range(5):
            a, b = q[2 * m : 2 * m + 2], k[2 * m : 2 * m + 2]
            turn = math.atan2(b[1], b[0]) - math.atan2(a[1], a[0]) + s * 10000 ** (-m / 5)
            want += math.hypot(*a) * math.hypot(*b) * math.cos(turn)
        np.testing.assert_allclose(relative_score(q, k, s), want, rtol=0, atol=1e-12)


def test_partial_sums_are_geometric_for_a_single_frequency_and_a_loop_otherwise():
    assert partial_sums(123.4, 2) == pytest.approx(1, abs=1e-15)
    total, sizes = 0j, []
    for m in range(8):
        total += cmath.exp(1j * 37 * 10000 ** (-m / 8))
        sizes.append(abs(total))
    np.testing.assert_allclose(partial_sums(37, 16), sum(sizes) / 8, rtol=1e-14)


def test_the_bound_holds_for_random_vectors_at_every_offset():
    rng = np.random.default_rng(3)
    q, k = rng.normal(size=(2, 200, 1, 16))
    s = np.arange(-50, 51)
    slack = decay_bound(q, k, s) - abs(relative_score(q, k, s))
    assert slack.min() > 0


# --- other people's code -----------------------------------------------------------------------


@pytest.mark.parametrize(("d", "base"), [(128, 10000.0), (64, 500_000.0), (80, 1e6), (24, 10007.0)])
def test_float32_tables_are_those_of_hf_llama_bit_for_bit(d, base):
    config = LlamaConfig(
        hidden_size=4 * d,
        num_attention_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    cos, sin = llama.LlamaRotaryEmbedding(config)(torch.zeros(1), AT)
    tables = Rope(d, base, precision="float32").tables(AT)
    for got, want in zip(tables, (cos, sin), strict=True):
        assert torch.equal(got[:, 0], want[..., : d // 2])
        assert torch.equal(got[:, 0], want[..., d // 2 :])


def test_float32_halves_turn_as_hf_llama_does(qk):
    config = LlamaConfig(hidden_size=HEADS * D, num_attention_heads=HEADS)
    cos, sin = llama.LlamaRotaryEmbedding(config)(qk[0], AT)
    want = llama.apply_rotary_pos_emb(*qk, cos, sin)
    same(Rope(D, layout="halves", precision="float32").rotate(*qk, AT, AT), want)
    wrong = Rope(D, precision="float32").rotate(*qk, AT, AT)
    assert (wrong[0] - want[0]).abs().max() > 0.1


def test_interleaved_turns_as_hf_gptj_does(qk):
    table = gptj.create_sinusoidal_positions(6, D)
    sin, cos = table.expand(2, 6, D).chunk(2, dim=-1)
    want = [gptj.apply_rotary_pos_emb(x.transpose(1, 2), sin, cos).transpose(1, 2) for x in qk]
    same(Rope(D).rotate(*qk, torch.arange(6), torch.arange(6)), want)


def test_partial_interleaved_turns_as_in_hf_gptj(qk):
    sin, cos = gptj.create_sinusoidal_positions(6, 8).expand(2, 6, 8).chunk(2, dim=-1)
    q = qk[0].transpose(1, 2)
    turned = gptj.apply_rotary_pos_emb(q[..., :8], sin, cos)
    want = torch.cat([turned, q[..., 8:]], dim=-1).transpose(1, 2)
    same([Rope(D, d_rotary=8)(qk[0])], [want])


def test_partial_halves_turn_as_hf_gpt_neox_does(qk):
    config = GPTNeoXConfig(
        hidden_size=HEADS * D,
        num_attention_heads=HEADS,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
        },
    )
    cos, sin = gpt_neox.GPTNeoXRotaryEmbedding(config)(qk[0], AT)
    assert cos.shape[-1] == 6
    layer = Rope(D, layout="halves", d_rotary=6, precision="float32")
    same(layer.rotate(*qk, AT, AT), gpt_neox.apply_rotary_pos_emb(*qk, cos, sin))


def test_what_hf_cohere_calls_rotate_half_is_interleaved(qk):
    config = CohereConfig(hidden_size=HEADS * D, num_attention_heads=HEADS)
    cos, sin = cohere.CohereRotaryEmbedding(config)(qk[0], AT)
    want = cohere.apply_rotary_pos_emb(*qk, cos, sin)
    layer = Rope(D, config.rope_parameters["rope_theta"], precision="float32")
    same(layer.rotate(*qk, AT, AT), want)
    low = [x.bfloat16() for x in qk]
    want = cohere.apply_rotary_pos_emb(*low, cos, sin)  # float32 inside, as here
    same(layer.rotate(*low, AT, AT), want, 2**-6)


def test_it_turns_as_rotary_embedding_torch_does(qk):
    peer = RotaryEmbedding(D)
    want = [peer.rotate_queries_or_keys(x) for x in qk]
    same(Rope(D).rotate(*qk, torch.arange(6), torch.arange(6)), want)
    freqs = RotaryEmbedding(8)(torch.arange(6).float())
    same([Rope(D, d_rotary=8)(qk[0])], [apply_rotary_emb(freqs, qk[0])])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # it still scripts
def test_it_turns_as_x_transformers_does(qk):
    from x_transformers import x_transformers

    freqs, _ = x_transformers.RotaryEmbedding(D)(torch.arange(6))
    want = [x_transformers.apply_rotary_pos_emb(x, freqs) for x in qk]
    same(Rope(D).rotate(*qk, torch.arange(6), torch.arange(6)), want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_error_in_bfloat16_is_well_below_that_of_hf(layout):
    """One rounding is the least there can be; HF has up to five."""
    n, d = 512, 64
    x, at = torch.randn(1, 4, n, d).bfloat16(), torch.arange(n)
    want = torch.tensor(rotate(x.double().numpy(), at.numpy(), layout=layout))
    if layout == "halves":
        config = LlamaConfig(hidden_size=4 * d, num_attention_heads=4)
        cos, sin = llama.LlamaRotaryEmbedding(config)(x, at[None])
        peer, _ = llama.apply_rotary_pos_emb(x, x, cos, sin)
    else:
        table = gptj.create_sinusoidal_positions(n, d)[None].bfloat16()
        sin, cos = table.chunk(2, dim=-1)
        peer = gptj.apply_rotary_pos_emb(x.transpose(1, 2), sin, cos).transpose(1, 2)
    assert peer.dtype == torch.bfloat16
    theirs = (peer.double() - want).abs()
    ours = (Rope(d, layout=layout)(x).double() - want).abs()
    assert ours.max() <= 0.7 * theirs.max()
    assert ours.mean() <= 0.65 * theirs.mean()
    same([Rope(d, layout=layout)(x)], [want.bfloat16()], 2**-6)


# --- a whole layer -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention_with_the_weights_of_hf_llama_gives_its_output(layout):
    """In Llama's own layout, or in the other with converted weights of queries and keys."""
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        attention_bias=True,
        attn_implementation="eager",
    )
    theirs = llama.LlamaAttention(config, layer_idx=0).eval()
    ours = Attention(32, 4, Rope(8, layout=layout), causal=True, bias=True)
    pairs = [("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")]
    for name, peer in pairs:
        getattr(ours, name).load_state_dict(getattr(theirs, f"{peer}_proj").state_dict())
    if layout == "interleaved":
        for linear in (ours.query, ours.key):
            for part in (linear.weight, linear.bias):
                part.data = rope.permute_layout(part.data, 4, to="interleaved")
    x, at = torch.randn(2, 7, 32), torch.arange(5, 12)
    tables = llama.LlamaRotaryEmbedding(config)(x, at.expand(2, 7))
    future = torch.full((7, 7), -torch.inf).triu(1).expand(2, 1, 7, 7)
    with torch.no_grad():
        want, _ = theirs(x, tables, future)
        same([ours(x, at)], [want], 2e-6)


def test_the_converter_undoes_the_one_that_brought_llama_to_hf():
    """The view and transpose of transformers' convert_llama_weights_to_hf, as an oracle."""
    W = torch.randn(4 * 6, 5)
    theirs = W.view(4, 3, 2, 5).transpose(1, 2).reshape(24, 5)
    assert torch.equal(rope.permute_layout(W, 4, to="halves"), theirs)
    assert torch.equal(rope.permute_layout(theirs, 4, to="interleaved"), W)
    np.testing.assert_array_equal(permute_layout(W.T.numpy(), 4, to="halves"), theirs.T.numpy())


def test_shared_tables_may_come_from_hf(qk):
    config = LlamaConfig(hidden_size=HEADS * D, num_attention_heads=HEADS)
    cos, sin = llama.LlamaRotaryEmbedding(config)(qk[0], AT)
    half = [t[:, None, :, : D // 2] for t in (cos, sin)]
    got = [apply_rotary(x, *half, layout="halves") for x in qk]
    same(got, llama.apply_rotary_pos_emb(*qk, cos, sin))
