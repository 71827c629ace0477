"""Disentangled attention: printed facts, properties, oracles and errors; the claims."""

import math
import re

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from transformers import DebertaConfig, DebertaV2Config
from transformers.models.deberta import modeling_deberta as hf1
from transformers.models.deberta_v2 import modeling_deberta_v2 as hf2

from posenc.equations.attention import softmax
from posenc.equations.deberta import disentangled, log_bucket, row, scale
from posenc.layers.attention import Attention
from posenc.layers.deberta import Deberta

N, D_MODEL, HEADS, K = 9, 16, 2, 4
SMALL = {"hidden_size": D_MODEL, "num_attention_heads": HEADS, "num_hidden_layers": 1}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def offset(n_queries, n_keys=None):
    return np.arange(n_queries)[:, None] - np.arange(n_keys or n_queries)


def random_terms(seed, n=N, d=6, k=K):
    """Queries, keys and both tables, of independent components with variance 1."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, d)) for rows in (n, n, 2 * k, 2 * k)]


def by_loop(q, k, keys, queries, sign=1):
    """Pair by pair, with the row chosen by the three cases of the paper's Equation 3."""
    half, terms = len(keys) // 2, np.zeros((3, len(q), len(k)))

    def chosen(t):
        if t <= -half:
            return 0
        return 2 * half - 1 if t >= half else t + half

    for i in range(len(q)):
        for j in range(len(k)):
            for m in range(q.shape[1]):
                terms[0, i, j] += q[i, m] * k[j, m]
                terms[1, i, j] += q[i, m] * keys[chosen(i - j), m]
                terms[2, i, j] += queries[chosen(sign * (i - j)), m] * k[j, m]
    return terms


# --- the library, and how its weights get into ours -----------------------------------------------


def randomize(module, seed=0):
    """Weights large enough that the logits are of order 1."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        std = 1 / math.sqrt(D_MODEL) if parameter.ndim == 2 else 0.3
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    torch.nn.init.normal_(module.rel_embeddings.weight, generator=generator)
    return module.double().eval().requires_grad_(False)


def v1_encoder(max_distance=K):
    config = DebertaConfig(**SMALL, **RELATIVE, max_relative_positions=max_distance)
    return randomize(hf1.DebertaEncoder(config))


def v2_encoder(**options):
    settings = {"max_relative_positions": K, "share_att_key": False, "norm_rel_ebd": "none"}
    config = DebertaV2Config(**SMALL, **RELATIVE, **{**settings, **options})
    return randomize(hf2.DebertaV2Encoder(config))


def v1_contents(part):
    """Weights and biases of queries, keys and values, which the library keeps head by head."""
    weights = part.in_proj.weight.unflatten(0, (HEADS, 3, -1)).transpose(0, 1).flatten(1, 2)
    return zip(weights, (part.q_bias, torch.zeros_like(part.q_bias), part.v_bias), strict=True)


def from_v1(encoder, max_distance=K):
    """Our layer with the weights of a layer of version 1."""
    part, encoding = encoder.layer[0].attention, Deberta(D_MODEL, HEADS, max_distance)
    layer = Attention(D_MODEL, HEADS, encoding, bias=True).double()
    contents = (layer.query, layer.key, layer.value)
    for ours, (weight, bias) in zip(contents, v1_contents(part.self), strict=True):
        ours.load_state_dict({"weight": weight, "bias": bias})
    key = {"weight": part.self.pos_proj.weight, "bias": torch.zeros(D_MODEL)}
    encoding.key.load_state_dict(key)
    encoding.query.load_state_dict(part.self.pos_q_proj.state_dict())
    encoding.table.load_state_dict(encoder.rel_embeddings.state_dict())
    layer.output.load_state_dict(part.output.dense.state_dict())
    return layer


def from_v2(encoder, share=True, **options):
    """Our layer with the weights of a layer of version 2 or 3."""
    part, config = encoder.layer[0].attention, encoder.layer[0].attention.config
    normed = hasattr(encoder, "LayerNorm")
    settings = {"normalize": normed, "eps": config.layer_norm_eps, **options}
    encoding = Deberta(D_MODEL, HEADS, encoder.max_relative_positions, **settings)
    layer = Attention(D_MODEL, HEADS, encoding, bias=True).double()
    for name in ("query", "key", "value"):
        ours, theirs = getattr(layer, name), getattr(part.self, f"{name}_proj")
        ours.load_state_dict(theirs.state_dict())
    if not config.share_att_key:
        encoding.key.load_state_dict(part.self.pos_key_proj.state_dict())
        encoding.query.load_state_dict(part.self.pos_query_proj.state_dict())
    elif share:
        encoding.key, encoding.query = layer.key, layer.query
    encoding.table.load_state_dict(encoder.rel_embeddings.state_dict())
    if normed:
        encoding.norm.load_state_dict(encoder.LayerNorm.state_dict())
    layer.output.load_state_dict(part.output.dense.state_dict())
    return layer


def hf_attention(encoder, x, query_states=None):
    """Output of the library's attention, without residual and normalisation; and its weights."""
    part, mask = encoder.layer[0].attention, torch.ones(len(x), 1, x.shape[1], x.shape[1])
    table = encoder.get_rel_embedding()
    pairs = encoder.get_rel_pos(x, query_states)
    z, weights = part.self(
        x, mask, True, query_states=query_states, relative_pos=pairs, rel_embeddings=table
    )
    return part.output.dense(z), weights


def tokens(n=N, batch=1):
    return torch.randn(batch, n, D_MODEL, generator=torch.Generator().manual_seed(1)).double()


def our_weights(layer, x, *, p2c="code", factor=None, tables=None):
    """Weights of all heads of a layer, by the equations."""
    d = D_MODEL // HEADS
    p = layer.encoding.norm(layer.encoding.table.weight)
    readers = tables or (layer.encoding.key, layer.encoding.query)
    parts = [
        f(y) for f, y in zip((layer.query, layer.key, *readers), (x[0], x[0], p, p), strict=True)
    ]
    made = []
    for h in range(HEADS):
        head = [part.detach().numpy()[:, h * d : (h + 1) * d] for part in parts]
        logits = disentangled(*head, offset(x.shape[1]), p2c=p2c).sum(0)
        made.append(softmax(logits * (factor or scale(d))))
    return np.stack(made)


# --- printed facts -----------------------------------------------------------------------------


def test_thirteen_offsets_of_a_table_with_eight_rows():
    np.testing.assert_array_equal(row(np.arange(-6, 7), 4), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7])


def test_pretraining_had_1024_rows():
    rows = row(np.arange(-1000, 1001), 512)
    assert (rows.min(), rows.max(), len(np.unique(rows))) == (0, 1023, 1024)


def test_a_token_beside_itself_reads_the_row_in_the_middle():
    assert [int(row(0, k)) for k in (1, 4, 512)] == [1, 4, 512]


def test_released_buckets_end_at_511_tokens():
    got = log_bucket([128, 129, 510, 511, 512, 2000], 256, 512)
    np.testing.assert_array_equal(got[:4], [128, 129, 255, 255])
    assert (row(got, 256)[3:] == 511).all()
    assert (row(-got, 256)[4:] == 0).all()


def test_a_whole_number_of_buckets_is_not_rounded_past_itself():
    """(15/9)^8 is (25/9)^4: the fourth bucket, though floating point says 4.000000000000001."""
    share = math.log(15 / 9) / math.log(25 / 9)
    assert math.ceil(8 * share) == 5
    assert log_bucket(15, 18, 26) == 13


def test_the_scale_of_a_head_of_64():
    assert scale(64) == pytest.approx(0.0721688, abs=1e-7)
    assert [scale(64, s) ** -2 for s in (1, 2, 3)] == pytest.approx([64, 128, 192])


# --- properties --------------------------------------------------------------------------------


@given(st.lists(st.integers(-50, 50), min_size=1), st.integers(1, 20))
def test_rows_follow_the_three_cases(ts, k):
    want = [0 if t <= -k else 2 * k - 1 if t >= k else t + k for t in ts]
    np.testing.assert_array_equal(row(ts, k), want)


@given(st.integers(2, 20), st.integers(0, 60), st.integers(0, 300))
def test_buckets_are_exact_by_whole_numbers(half, more, t):
    """The formula's inequality, raised to powers until no logarithm is left."""
    last, b = half + 1 + more, int(log_bucket(t, 2 * half, half + 2 + more)) - half
    if t <= half:
        assert b == t - half
        return

    def reaches(b):
        return t ** (half - 1) * half**b <= last**b * half ** (half - 1)

    assert reaches(b)
    assert not reaches(b - 1)


@given(st.integers(1, 30), st.integers(0, 200), st.integers(-300, 300))
def test_buckets_are_odd_and_never_fall(half, more, t):
    at = [int(log_bucket(x, 2 * half, half + 2 + more)) for x in (t, -t, t + 1)]
    assert at[0] == -at[1]
    assert at[2] >= at[0]


@pytest.mark.parametrize(("p2c", "sign"), [("code", 1), ("paper", -1)])
def test_the_terms_equal_a_loop(p2c, sign):
    q, k, keys, queries = random_terms(0)
    got = disentangled(q, k[:7], keys, queries, offset(N, 7), p2c=p2c)
    np.testing.assert_allclose(got, by_loop(q, k[:7], keys, queries, sign), rtol=0, atol=1e-13)


def test_a_token_beside_itself_reads_the_same_row_either_way():
    parts = random_terms(1)
    code, paper = (disentangled(*parts, offset(N), p2c=p2c)[2] for p2c in ("code", "paper"))
    np.testing.assert_array_equal(np.diag(code), np.diag(paper))
    assert (abs(code - paper)[~np.eye(N, dtype=bool)] > 0).all()


def test_only_the_offset_of_a_pair_chooses_the_row():
    q, k, keys, queries = random_terms(2)
    want = disentangled(q, k, keys, queries, offset(N))
    moved = np.arange(1000, 1000 + N)[:, None] - np.arange(1000, 1000 + N)
    np.testing.assert_array_equal(disentangled(q, k, keys, queries, moved), want)


# --- oracles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("buckets", "distance"), [(256, 512), (8, 32), (64, 512), (32, 128)])
def test_buckets_equal_the_library(buckets, distance):
    t = torch.arange(-1500, 1501)
    want = hf2.make_log_bucket_position(t, buckets, distance).long().numpy()
    np.testing.assert_array_equal(log_bucket(t.numpy(), buckets, distance), want)


OPTIONS = {
    "as in the paper": {},
    "shared projections": {"share_att_key": True},
    "normalised table": {"norm_rel_ebd": "layer_norm"},
    "version 3": {
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 4,
        "max_relative_positions": 8,
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@torch.no_grad()
def test_attention_equals_version_2(options):
    encoder, x = v2_encoder(**options), tokens(14, batch=2)
    layer = from_v2(encoder, n_buckets=options.get("position_buckets"))
    torch.testing.assert_close(layer(x), hf_attention(encoder, x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("max_distance", [4, 32])
@torch.no_grad()
def test_attention_equals_version_1(max_distance):
    encoder, x = v1_encoder(max_distance), tokens(14, batch=2)
    want = hf_attention(encoder, x)[0]
    torch.testing.assert_close(from_v1(encoder, max_distance)(x), want, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_decoding_step_equals_the_library():
    """Queries from another source than keys and values, as in the enhanced mask decoder."""
    encoder, h = v2_encoder(), tokens()
    states = h + torch.linspace(-1, 1, N).double()[:, None]
    want = hf_attention(encoder, h, query_states=states)[0]
    torch.testing.assert_close(from_v2(encoder)(states, context=h), want, rtol=0, atol=1e-6)


# --- claims ------------------------------------------------------------------------------------


def along_diagonals(a):
    """How much the entries of one offset differ, at most."""
    n = len(a)
    return max(np.ptp(np.diagonal(a, t)) for t in range(1 - n, n))


@claim("deberta.dropped")
def test_the_term_left_out_is_one_number_per_offset():
    q, k, keys, queries = random_terms(3)
    rows = row(offset(N), K)
    fourth = np.einsum("ijm,ijm->ij", queries[rows], keys[rows])
    kept = disentangled(q, k, keys, queries, offset(N))[1]
    return at_most(1e-12, right=along_diagonals(fourth), wrong=along_diagonals(kept))


@claim("deberta.rows")
def test_the_last_row_serves_one_offset_more_than_its_mirror_image():
    t, k = np.arange(-12, 13), 4
    want = np.array([max(0, min(2 * k - 1, x + k)) for x in t.tolist()])
    right, wrong = largest(row(t, k) - want), largest(np.clip(t, -k, k) + k - want)
    counts = [int((row(t[abs(t) <= k], k) == r).sum()) for r in (0, 2 * k - 1)]
    return at_most(0.05, right=right, wrong=wrong, first=counts[0], last=counts[1])


@claim("deberta.lookup")
def test_multiplying_first_and_reading_then_is_the_same():
    q, k, keys, queries = random_terms(4)
    rows = row(offset(N), K)
    slow = np.einsum("im,ijm->ij", q, keys[rows]), np.einsum("ijm,jm->ij", queries[rows], k)
    _, *fast = disentangled(q, k, keys, queries, offset(N))
    swapped = (q @ keys.T)[np.arange(N)[:, None], rows.T]
    n, half, d = 2048, 512, 64
    return at_most(
        1e-12,
        right=largest(np.array(slow) - fast),
        wrong=largest(swapped - slow[0]),
        per_pair=n * n * d,
        products=2 * half * n,
        share=n * d / (2 * half),
    )


def variances():
    """Variance of each term and of their sum, 40 draws of 64 × 64 pairs, d = 64."""
    draws = [disentangled(*random_terms(s, 64, 64, 32), offset(64)) for s in range(40)]
    terms = np.stack(draws, 1)
    return terms.reshape(3, -1).var(1) / 64, terms.sum(0).var() / 64


@claim("deberta.scale")
def test_three_terms_have_three_times_the_variance():
    each, together = variances()
    return at_most(
        0.1,
        right=abs(together / 3 - 1),
        wrong=abs(together - 1),
        c2c=each[0],
        c2p=each[1],
        p2c=each[2],
        together=together,
    )


def gaps(encoder, layer, **variant):
    """Greatest difference of weights from the library's."""
    theirs = hf_attention(encoder, tokens())[1][0].detach().numpy()
    return largest(our_weights(layer, tokens(), **variant) - theirs)


@claim("deberta.index")
def test_released_code_reads_one_row_for_both_terms():
    pairs = [(e := v1_encoder(), from_v1(e)), (e := v2_encoder(), from_v2(e))]
    right = [gaps(*pair) for pair in pairs]
    wrong = [gaps(*pair, p2c="paper") for pair in pairs]
    return at_most(1e-6, right=max(right), wrong=min(wrong), v1=wrong[0], v2=wrong[1])


@claim("deberta.factor")
def test_released_code_divides_by_the_root_of_three_d():
    encoder = v2_encoder()
    layer, d = from_v2(encoder), D_MODEL // HEADS
    wrong = gaps(encoder, layer, factor=1 / math.sqrt(d))
    return at_most(1e-6, right=gaps(encoder, layer), wrong=wrong)


@claim("deberta.projections")
def test_version_1_projects_positions_by_matrices_of_their_own():
    encoder = v1_encoder()
    layer = from_v1(encoder)
    wrong = gaps(encoder, layer, tables=(layer.key, layer.query))
    return at_most(1e-6, right=gaps(encoder, layer), wrong=wrong)


@claim("deberta.reversed")
def test_a_reversed_table_turns_the_paper_into_the_code():
    q, k, keys, queries = random_terms(5)
    near = abs(offset(N)) < K
    turned = queries[(2 * K - np.arange(2 * K)) % (2 * K)]
    code, same = (disentangled(q, k, keys, table, offset(N))[2] for table in (queries, turned))
    paper = disentangled(q, k, keys, queries, offset(N), p2c="paper")[2]
    return at_most(
        1e-12,
        right=largest((same - paper)[near]),
        wrong=largest((code - paper)[near]),
        far=largest((same - paper)[~near]),
    )


@claim("deberta.buckets")
def test_released_models_have_the_logarithmic_buckets():
    t = np.arange(-1000, 1001)
    theirs = hf2.make_log_bucket_position(torch.tensor(t), 256, 512).long().numpy()
    ours, linear = log_bucket(t, 256, 512), np.clip(t, -256, 255)
    clipped = np.clip(theirs, -256, 255)
    far = int(np.bincount(np.clip(ours[t > 0], 0, 255))[-2])
    return at_most(
        0.05,
        right=np.sum(ours != theirs),
        wrong=np.sum(linear != clipped),
        together=far,
    )


@claim("deberta.version2")
@torch.no_grad()
def test_a_checkpoint_of_version_3_moves_into_our_layer():
    options = OPTIONS["version 3"]
    encoder, x = v2_encoder(**options), tokens(14)
    want = hf_attention(encoder, x)[0]
    right = from_v2(encoder, n_buckets=4)(x) - want
    torch.manual_seed(0)
    wrong = from_v2(encoder, n_buckets=4, share=False)(x) - want
    return at_most(1e-6, right=largest(right), wrong=largest(wrong))


@claim("deberta.version1")
@torch.no_grad()
def test_a_checkpoint_of_version_1_moves_into_our_layer():
    encoder, x = v1_encoder(), tokens()
    want, layer = hf_attention(encoder, x)[0], from_v1(encoder)
    right = layer(x) - want
    blocks = encoder.layer[0].attention.self.in_proj.weight.chunk(3)
    for ours, weight in zip((layer.query, layer.key, layer.value), blocks, strict=True):
        ours.weight.copy_(weight)
    return at_most(1e-6, right=largest(right), wrong=largest(layer(x) - want))


def model(n_layers=2, seed=0):
    """Layers of disentangled attention with large random weights."""
    torch.manual_seed(seed)
    layers = [Attention(D_MODEL, HEADS, Deberta(D_MODEL, HEADS, 16)) for _ in range(n_layers)]
    for layer in layers:
        torch.nn.init.normal_(layer.encoding.table.weight)
    return [layer.double().requires_grad_(False) for layer in layers]


def encode(layers, x, positions=None, mask=None):
    for layer in layers:
        x = x + layer(x, positions, mask=mask)
    return x


@claim("deberta.shift")
def test_a_stack_of_layers_sees_no_absolute_position():
    layers, x, table = model(3), tokens(), torch.randn(1100, D_MODEL).double()
    here, there = torch.arange(N), torch.arange(1000, 1000 + N)
    right = encode(layers, x, here) - encode(layers, x, there)
    wrong = encode(layers, x + table[here], here) - encode(layers, x + table[there], there)
    return at_most(1e-12, right=largest(right), wrong=largest(wrong))


SENTENCE = ["the", "new", "[MASK]", "opened", "beside", "the", "new", "[MASK]"]


def sentence():
    """Vectors of the sentence, the same for the same word."""
    words = sorted(set(SENTENCE))
    return tokens(len(words))[:, [words.index(word) for word in SENTENCE]]


def decode(layer, h, p, mask):
    """Two steps of one layer; the first asks with the absolute positions added."""
    state = h + p
    for _ in range(2):
        state = state + layer(state, context=h, mask=mask)
    return state


@claim("deberta.masks")
def test_two_masks_after_the_same_word_are_one_until_positions_enter():
    at = torch.arange(8)
    back = at[:, None] - at
    before = (back >= 0) & (back <= 1)
    (layer, decoder), x = model(2), sentence()
    h, whole = encode([layer], x, mask=before), encode([layer], x)
    p = torch.randn(8, D_MODEL, generator=torch.Generator().manual_seed(2)).double()
    made = (h, decode(decoder, h, 0 * p, before), decode(decoder, h, p, before), whole)
    *same, told, seen = [largest(state[0, 2] - state[0, 7]) for state in made]
    return at_most(1e-12, right=max(same), wrong=told, whole=seen)


def counted(model, config):
    """Parameters of a model of the library that are there for relative positions."""
    with torch.device("meta"):
        named = model(config).named_parameters()
    ours = ("rel_embeddings", "pos_proj", "pos_q_proj", "encoder.LayerNorm")
    return sum(
        p.numel() for name, p in named if any(part in name for part in ours[:3]) or ours[3] in name
    )


@claim("deberta.parameters")
def test_the_parameters_of_positions():
    d, layers, options = 768, 12, {**RELATIVE, "max_relative_positions": 512}
    v1 = counted(hf1.DebertaModel, DebertaConfig(**options))
    shared = {"share_att_key": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm"}
    v3 = counted(
        hf2.DebertaV2Model,
        DebertaV2Config(**options, **shared, hidden_size=d, num_attention_heads=12),
    )
    readers, table = layers * (2 * d * d + d), 2 * 512 * d
    off = abs(v1 - table - readers) + abs(v3 - 2 * 256 * d - 2 * d)
    return at_most(
        0.5, right=off, wrong=abs(v1 - layers * table - readers), v1=v1, v3=v3, table=table
    )


# --- errors ------------------------------------------------------------------------------------

A = np.ones((3, 2))
T = np.ones((4, 2))
O = offset(3)  # noqa: E741

TYPE_ERRORS = {
    "offset must hold integers, got dtype float64": lambda: row([0.0], 2),
    "max_distance must be an integer, got 2.0": lambda: row(0, 2.0),
    "offset must hold integers, got dtype bool": lambda: log_bucket([True], 8, 16),
    "n_buckets must be an integer, got '8'": lambda: log_bucket(1, "8", 16),
    "max_distance must be an integer, got 16.5": lambda: log_bucket(1, 8, 16.5),
    "q must hold real numbers, got dtype complex128": lambda: disentangled(1j * A, A, T, T, O),
    "offset must hold integers, got dtype <U1": lambda: disentangled(
        A, A, T, T, np.full((3, 3), "a")
    ),
    "d_head must be an integer, got 8.0": lambda: scale(8.0),
    "n_terms must be an integer, got 2.0": lambda: scale(8, 2.0),
}

VALUE_ERRORS = {
    "max_distance must be at least 1, got 0": lambda: row(0, 0),
    "n_buckets must be a multiple of 2, got 7": lambda: log_bucket(1, 7, 16),
    "max_distance must be at least 6, got 5": lambda: log_bucket(1, 8, 5),
    "q must have shape (1, 2), got (2, 1, 2)": lambda: disentangled(A[:2, None], A, T, T, O),
    "k must have shape (3, 2), got (3, 1)": lambda: disentangled(A, A[:, :1], T, T, O),
    "rows of key_table must be a multiple of 2, got 3": lambda: disentangled(A, A, A, A, O),
    "key_table must have shape (4, 2), got (4, 1)": lambda: disentangled(A, A, T[:, :1], T, O),
    "query_table must have shape (4, 2), got (2, 2)": lambda: disentangled(A, A, T, T[:2], O),
    "offset must have shape (3, 3), got (3, 2)": lambda: disentangled(A, A, T, T, O[:, :2]),
    "p2c must be 'code' or 'paper', got 'hf'": lambda: disentangled(A, A, T, T, O, p2c="hf"),
    "d_head must be at least 1, got 0": lambda: scale(0),
    "n_terms must be between 1 and 3, got 4": lambda: scale(8, 4),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
