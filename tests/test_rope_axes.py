"""Rotary encoding with several axes: printed facts, properties, oracles and errors; the claims."""

import cmath
import functools
import importlib
import math
import re

import numpy as np
import pytest
import scipy.linalg
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.rope import rotate
from posenc.equations.rope_axes import (
    axis_map,
    axis_string,
    kernel_axes,
    multimodal_positions,
    rotate_axes,
    wave_vectors,
)
from posenc.equations.sinusoidal_2d import grid, kernel_2d
from posenc.layers.rope_axes import RopeAxes

QWEN2, QWEN3 = [16, 24, 24], [24, 20, 20]
sections = st.lists(st.integers(1, 12), min_size=1, max_size=4)
arrangements = st.sampled_from(["chunked", "interleaved"])
ladders = st.sampled_from(["shared", "own"])
layouts = st.sampled_from(["interleaved", "halves"])
seeds = st.integers(0, 2**32 - 1)


def largest(x):
    return float(np.abs(x).max())


def rng(seed=0):
    return np.random.default_rng(seed)


def by_hand(sizes, interleaved):
    """Deal the axes out one after the other, from what is left of each."""
    left, axes = list(sizes), []
    while any(left):
        for axis, remaining in enumerate(left):
            if remaining:
                count = 1 if interleaved else remaining
                axes += [axis] * count
                left[axis] -= count
    return axes


def by_loop(x, places, axes, frequencies, halves=False):
    """Turn one pair after the other, as a complex number."""
    n, d = x.shape
    out = np.empty((n, d))
    for row in range(n):
        for m, (axis, theta) in enumerate(zip(axes, frequencies, strict=True)):
            first, second = (m, m + d // 2) if halves else (2 * m, 2 * m + 1)
            z = complex(x[row, first], x[row, second])
            z *= cmath.exp(1j * float(places[row][axis]) * theta)
            out[row, first], out[row, second] = z.real, z.imag
    return out


def scores(q, k, places, waves, **options):
    """All scores of queries and keys that stand at the same places."""
    return rotate_axes(q, places, waves, **options) @ rotate_axes(k, places, waves, **options).T


def oblique(n_pairs, base=10000.0, directions=8):
    """As many waves in eight directions: every direction has a ladder of its own."""
    theta = base ** (-np.arange(n_pairs // directions) / (n_pairs // directions))
    turn = np.pi * np.arange(directions) / directions
    return np.multiply.outer(theta, np.stack([np.sin(turn), np.cos(turn)], -1)).reshape(-1, 2)


# --- printed facts -----------------------------------------------------------------------------


def test_qwen2_vl_has_its_axes_in_chunks():
    assert axis_string(QWEN2) == "T" * 16 + "H" * 24 + "W" * 24


def test_qwen3_vl_deals_its_axes_out_and_ends_with_time():
    assert axis_string(QWEN3, arrangement="interleaved") == "THW" * 20 + "TTTT"


def test_unequal_sections_drop_out_one_after_the_other():
    assert axis_string([11, 11, 10], arrangement="interleaved") == "THW" * 10 + "TH"
    assert axis_string(QWEN2, arrangement="interleaved") == "THW" * 16 + "HW" * 8
    assert axis_string([1, 3, 2], arrangement="interleaved", names="abc") == "abcbcb"


def test_shared_ladder_has_each_frequency_once():
    waves = wave_vectors([1, 2, 1], base=16.0, arrangement="interleaved")
    want = np.array([[1, 0, 0], [0, 0.5, 0], [0, 0, 0.25], [0, 0.125, 0]])
    np.testing.assert_allclose(waves, want, rtol=1e-15)


def test_own_ladders_start_at_one_on_every_axis():
    waves = wave_vectors([1, 2, 4], base=16.0, ladder="own")
    assert waves.shape == (7, 3)
    np.testing.assert_allclose(waves[:1, 0], [1])
    np.testing.assert_allclose(waves[1:3, 1], [1, 0.25])
    np.testing.assert_allclose(waves[3:, 2], [1, 0.5, 0.25, 0.125])
    assert (waves != 0).sum() == 7


def test_positions_of_text_image_text():
    got = multimodal_positions([2, (1, 3, 2), 2])
    want = [(0, 0, 0), (1, 1, 1)]
    want += [(2, 2 + y, 2 + x) for y in range(3) for x in range(2)]
    want += [(5, 5, 5), (6, 6, 6)]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int64


def test_a_long_video_moves_the_text_behind_its_last_frame():
    got = multimodal_positions([1, (5, 1, 2), 1])
    np.testing.assert_array_equal(got[:, 0], [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6])
    np.testing.assert_array_equal(got[-1], [6, 6, 6])


# --- properties --------------------------------------------------------------------------------


@given(sections, arrangements)
def test_axes_are_those_dealt_out_by_hand(sizes, arrangement):
    got = axis_map(sizes, arrangement=arrangement)
    np.testing.assert_array_equal(got, by_hand(sizes, arrangement == "interleaved"))
    assert got.dtype == np.int64


@given(sections, arrangements, ladders, st.floats(1.5, 1e6))
def test_every_pair_has_one_axis_and_one_frequency(sizes, arrangement, ladder, base):
    waves = wave_vectors(sizes, base, arrangement=arrangement, ladder=ladder)
    pair, axis = np.nonzero(waves)
    np.testing.assert_array_equal(pair, np.arange(sum(sizes)))
    np.testing.assert_array_equal(axis, axis_map(sizes, arrangement=arrangement))
    for a, size in enumerate(sizes):
        got = waves[axis == a, a]
        assert (np.diff(got) < 0).all()  # the slower, the later
        if ladder == "own":
            np.testing.assert_allclose(got, [base ** (-r / size) for r in range(size)], rtol=1e-13)
    if ladder == "shared":
        want = [base ** (-m / sum(sizes)) for m in range(sum(sizes))]
        np.testing.assert_allclose(waves.sum(axis=1), want, rtol=1e-13)


@given(seeds, sections, arrangements, ladders, layouts)
def test_rotation_equals_the_loop_over_complex_numbers(seed, sizes, arrangement, ladder, layout):
    d, n = 2 * sum(sizes), 3
    x, places = rng(seed).normal(size=(n, d)), rng(seed).integers(-50, 50, (n, len(sizes)))
    waves = wave_vectors(sizes, 100.0, arrangement=arrangement, ladder=ladder)
    axes = by_hand(sizes, arrangement == "interleaved")
    want = by_loop(x, places, axes, waves.sum(axis=1), layout == "halves")
    np.testing.assert_allclose(rotate_axes(x, places, waves, layout=layout), want, atol=1e-12)


@given(seeds, sections, arrangements, ladders, layouts)
def test_lengths_stay(seed, sizes, arrangement, ladder, layout):
    x, at = rng(seed).normal(size=2 * sum(sizes)), rng(seed).normal(size=len(sizes)) * 100
    waves = wave_vectors(sizes, arrangement=arrangement, ladder=ladder)
    got = rotate_axes(x, at, waves, layout=layout)
    assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(x), rel=1e-13)


@given(seeds, sections, arrangements)
def test_kernel_is_the_score_of_equal_vectors(seed, sizes, arrangement):
    waves, at = wave_vectors(sizes, arrangement=arrangement), rng(seed).normal(size=len(sizes)) * 9
    x = np.exp(1j * rng(seed).uniform(0, 7, sum(sizes)))
    x = np.stack([x.real, x.imag], axis=-1).ravel()
    got = rotate_axes(x, 0 * at, waves) @ rotate_axes(x, at, waves)
    assert kernel_axes(at, waves) == pytest.approx(got / sum(sizes), abs=1e-13)


@given(st.lists(st.integers(1, 5) | st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=5))
def test_parts_follow_one_another_without_overlap(parts):
    got, start = multimodal_positions(parts), 0
    for part in parts:
        n = part if isinstance(part, int) else math.prod(part)
        block, got = got[:n], got[n:]
        assert block.min() == start
        assert (block[0] == start).all()
        assert len({tuple(place) for place in block}) == n
        start = block.max() + 1
    assert len(got) == 0


def test_one_axis_is_plain_rope():
    x, at = rng().normal(size=(5, 16)), np.arange(5)
    got = rotate_axes(x, at[:, None], wave_vectors([8]))
    np.testing.assert_allclose(got, rotate(x, at), rtol=0, atol=1e-14)


def test_leading_axes_broadcast():
    x, places = rng().normal(size=(2, 1, 15, 8)), grid(3, 5)
    got = rotate_axes(x, places, wave_vectors([2, 2]))
    assert got.shape == (2, 1, 15, 8)
    np.testing.assert_array_equal(got[1, 0], rotate_axes(x[1, 0], places, wave_vectors([2, 2])))
    assert kernel_axes(np.zeros((3, 5, 2)), wave_vectors([2, 2])).shape == (3, 5)


def test_arguments_are_not_changed():
    x, places, waves = np.ones((3, 8)), np.ones((3, 2)), wave_vectors([2, 2])
    kept = x.copy(), places.copy(), waves.copy()
    rotate_axes(x, places, waves, layout="halves")
    kernel_axes(places, waves)
    for array, was in zip((x, places, waves), kept, strict=True):
        np.testing.assert_array_equal(array, was)


def test_sizes_may_be_arrays():
    np.testing.assert_array_equal(
        multimodal_positions([np.int64(2), np.array([1, 2, 3])]),
        multimodal_positions([2, (1, 2, 3)]),
    )


# --- oracles -----------------------------------------------------------------------------------


@functools.cache
def peer(model, name):
    """A class of the library, or its configuration."""
    kind = "configuration" if name.endswith("Config") else "modeling"
    return getattr(importlib.import_module(f"transformers.models.{model}.{kind}_{model}"), name)


def turned_by_qwen(x, places, model, **rope):
    """Rotate (n, 128) vectors by the text model's own code; places are (n, 3)."""
    prefix, config = ("Qwen2VL", "Qwen2VLTextConfig")
    if model == "qwen3_vl":
        prefix, config = ("Qwen3VLText", "Qwen3VLTextConfig")
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 128}
    config = peer(model, config)(hidden_size=128, **heads)
    config.rope_parameters = {"rope_type": "default", **rope}
    table = peer(model, f"{prefix}RotaryEmbedding")(config)
    q, at = torch.tensor(x)[None, None], torch.tensor(places).T[:, None]
    cos, sin = table(q, at)
    return peer(model, "apply_rotary_pos_emb")(q, q, cos, sin)[0][0, 0].numpy()


@functools.cache
def qwen_case():
    """Vectors, and positions of a text, an image that is not square, a video, a text."""
    places = multimodal_positions([2, (1, 3, 5), (3, 2, 4), 2])
    return rng(1).normal(size=(len(places), 128)), places


def test_interleaved_sections_of_the_library_are_those_of_the_stride():
    """It takes every third pair up to three times the section, and gives time the rest."""
    x, places = qwen_case()
    rope = {"rope_theta": 1e6, "mrope_section": QWEN2}
    got = turned_by_qwen(x, places, "qwen3_vl", **rope)
    axes = np.tile([0, 1, 2], 22)[:64]
    assert np.bincount(axes).tolist() == [22, 21, 21]
    want = by_loop(x, places, axes, 1e6 ** (-np.arange(64) / 64), halves=True)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)
    ours = wave_vectors(QWEN2, 1e6, arrangement="interleaved")
    assert largest(rotate_axes(x, places, ours, layout="halves") - got) > 1e-4


def vision_angles(model, prefix, options):
    """Angles (15, 16) that a vision tower gives to its columns at the places of a 3 × 5 image."""
    table = peer(model, f"{prefix}RotaryEmbedding")(peer(model, f"{prefix}Config")(**options))
    places = torch.tensor(grid(3, 5))
    cos, sin = table(torch.zeros(1), places[None] if model == "gemma4" else places)
    return torch.atan2(sin, cos).reshape(15, 16).numpy()


def wrapped(angles):
    return np.angle(np.exp(1j * np.asarray(angles)))


OWN = wave_vectors([4, 4], ladder="own")
PIXTRAL = wave_vectors([4, 4], arrangement="interleaved")
DEALT = wave_vectors([4, 4], ladder="own", arrangement="interleaved")
HEAD = {"hidden_size": 16, "num_attention_heads": 1}
TOWERS = {
    # model: its prefix, its options, and for every column its wave vector
    "qwen2_vl": ("Qwen2VLVision", {"embed_dim": 16, "num_heads": 1}, np.tile(OWN, (2, 1))),
    "sam3": ("Sam3ViT", HEAD, np.repeat(OWN, 2, axis=0)),
    "kimi_k25": ("Kimi_K25Vision", HEAD, np.tile(DEALT[:, ::-1], (2, 1))),
    "pixtral": (
        "PixtralVision",
        HEAD,
        np.tile(np.concatenate([PIXTRAL[::2], PIXTRAL[1::2]]), (2, 1)),
    ),
    "gemma4": (
        "Gemma4Vision",
        HEAD | {"head_dim": 16, "rope_parameters": {"rope_theta": 1e4}},
        np.concatenate([OWN[:4], OWN[:4], OWN[4:], OWN[4:]]),
    ),
}


@pytest.mark.parametrize("model", TOWERS)
def test_columns_of_vision_towers_turn_with_these_waves(model):
    prefix, options, columns = TOWERS[model]
    got = vision_angles(model, prefix, options)
    np.testing.assert_allclose(got, wrapped(grid(3, 5) @ columns.T), rtol=0, atol=1e-5)


def test_axial_rotation_equals_that_of_the_vision_tower():
    config = peer("qwen2_vl", "Qwen2VLVisionConfig")(embed_dim=32, num_heads=2)
    table = peer("qwen2_vl", "Qwen2VLVisionRotaryEmbedding")(config)
    q, places = rng(2).normal(size=(15, 16)), grid(3, 5)
    cos, sin = table(torch.zeros(1), torch.tensor(places))
    apply = peer("qwen2_vl", "apply_rotary_pos_emb_vision")
    got = apply(torch.tensor(q)[:, None], torch.tensor(q)[:, None], cos, sin)[0][:, 0].numpy()
    want = rotate_axes(q, places, wave_vectors([4, 4], ladder="own"), layout="halves")
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["lang", "pixel"])
def test_axial_rotation_equals_that_of_another_library(kind):
    """It pairs neighbours; for pixels it spreads positions over [-1, 1] and frequencies evenly."""
    from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb

    table = RotaryEmbedding(dim=8, freqs_for=kind, max_freq=10)
    x = rng(3).normal(size=(3, 5, 16)).astype(np.float32)
    got = apply_rotary_emb(table.get_axial_freqs(3, 5), torch.tensor(x)).detach().numpy()
    waves, places = wave_vectors([4, 4], ladder="own"), grid(3, 5).astype(float)
    if kind == "pixel":
        theta = math.pi * np.linspace(1, 5, 4)
        waves = np.kron(np.eye(2), theta[:, None])
        places = places / [1, 2] - 1
    want = rotate_axes(x, places.reshape(3, 5, 2), waves)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def positions_of_the_library(parts):
    """Positions that `get_rope_index` of Qwen2-VL gives to texts, images and videos."""
    configs = {"text_config": {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}}
    config = peer("qwen2_vl", "Qwen2VLConfig")(**configs)
    model = peer("qwen2_vl", "Qwen2VLModel").__new__(peer("qwen2_vl", "Qwen2VLModel"))
    torch.nn.Module.__init__(model)
    model.config = config
    merge = config.vision_config.spatial_merge_size
    kinds, grids = [], {1: [], 2: []}
    for part in parts:
        kind = 0 if isinstance(part, int) else 1 if part[0] == 1 else 2
        kinds += [kind] * (part if kind == 0 else math.prod(part))
        if kind:
            grids[kind].append([part[0], part[1] * merge, part[2] * merge])
    grids = [torch.tensor(sizes) if sizes else None for sizes in grids.values()]
    kinds = torch.tensor([kinds])
    return model.get_rope_index(0 * kinds, kinds, *grids)[0][:, 0].T.numpy()


def test_positions_equal_those_of_the_library_for_wide_and_high_images():
    parts = [2, (1, 3, 5), 1, (1, 4, 2), (2, 2, 3), 3]
    parts.insert(4, 1)  # two grids in a row would be one group there
    np.testing.assert_array_equal(positions_of_the_library(parts), multimodal_positions(parts))


def test_text_after_a_long_video_stands_among_its_frames_in_the_library():
    """Only rows and columns move the start there, frames do not."""
    parts = [1, (6, 2, 2), 2]
    got, ours = positions_of_the_library(parts), multimodal_positions(parts)
    np.testing.assert_array_equal(got[:-2], ours[:-2])
    np.testing.assert_array_equal(got[-2:], [[3] * 3, [4] * 3])
    np.testing.assert_array_equal(ours[-2:], [[7] * 3, [8] * 3])
    assert got[-3, 0] == 6  # the last frame is later than both words behind it


# --- errors ------------------------------------------------------------------------------------

WAVES = wave_vectors([2, 2])
TYPE_ERRORS = {
    "section must be an integer, got 2.0": lambda: axis_map([2.0, 2]),
    "section must be an integer, got True": lambda: axis_string([True]),
    "section must be an integer, got '2'": lambda: wave_vectors("22"),
    "base must hold real numbers, got dtype <U1": lambda: wave_vectors([2], "a"),
    "x must hold real numbers, got dtype complex128": lambda: rotate_axes(
        np.ones(8) * 1j, [0, 0], WAVES
    ),
    "positions must hold real numbers, got dtype bool": lambda: rotate_axes(
        np.ones(8), [True, False], WAVES
    ),
    "waves must hold real numbers, got dtype complex128": lambda: rotate_axes(
        np.ones(8), [0, 0], 1j * WAVES
    ),
    "offsets must hold real numbers, got dtype bool": lambda: kernel_axes([True, True], WAVES),
    "number of tokens must be an integer, got 2.0": lambda: multimodal_positions([2.0]),
    "size of a grid must be an integer, got 1.5": lambda: multimodal_positions([(1.5, 1, 1)]),
}

VALUE_ERRORS = {
    "sections must not be empty, got []": lambda: axis_map([]),
    "section must be at least 1, got 0": lambda: axis_map([2, 0]),
    "arrangement must be 'chunked' or 'interleaved', got 'x'": lambda: axis_map(
        [2], arrangement="x"
    ),
    "names must have one letter for each of 3 axes, got 'HW'": lambda: axis_string(
        [1, 2, 3], names="HW"
    ),
    "section must be at least 1, got -1": lambda: wave_vectors([-1]),
    "base must be above 1, got 1": lambda: wave_vectors([2], 1),
    "ladder must be 'shared' or 'own', got 'axial'": lambda: wave_vectors([2], ladder="axial"),
    "positions must have at least 1 axes, got shape ()": lambda: rotate_axes(np.ones(8), 1, WAVES),
    "positions must have shape (2,), got (3,)": lambda: rotate_axes(np.ones(8), [0, 0, 0], WAVES),
    "positions must be finite, got nan": lambda: rotate_axes(np.ones(8), [0, math.nan], WAVES),
    "waves must have at least 2 axes, got shape (4,)": lambda: rotate_axes(
        np.ones(8), [0, 0], WAVES[:, 0]
    ),
    "angles must have shape (5,), got (4,)": lambda: rotate_axes(np.ones(10), [0, 0], WAVES),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: rotate_axes(
        np.ones(8), [0, 0], WAVES, layout="x"
    ),
    "offsets must have shape (5, 2), got (5, 3)": lambda: kernel_axes(np.ones((5, 3)), WAVES),
    "offsets must have at least 1 axes, got shape ()": lambda: kernel_axes(1, WAVES),
    "parts must not be empty, got []": lambda: multimodal_positions([]),
    "grid must have 3 sizes, got (2, 3)": lambda: multimodal_positions([1, (2, 3)]),
    "number of tokens must be at least 1, got 0": lambda: multimodal_positions([0]),
    "size of a grid must be at least 1, got 0": lambda: multimodal_positions([(1, 0, 1)]),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims ------------------------------------------------------------------------------------


@claim("rope_axes.pairs")
def test_every_pair_turns_by_the_angle_of_its_own_axis():
    x, places = rng().normal(size=(15, 16)), grid(3, 5)
    got = rotate_axes(x, places, wave_vectors([4, 4], ladder="own"))
    theta = [10000 ** (-r / 4) for r in range(4)] * 2
    want = by_loop(x, places, [0] * 4 + [1] * 4, theta)
    swapped = by_loop(x, places, [1] * 4 + [0] * 4, theta)
    return at_most(1e-13, right=largest(got - want), wrong=largest(swapped - want))


@claim("rope_axes.relative")
def test_scores_depend_on_the_offset_vector_alone():
    q, k, waves = *rng().normal(size=(2, 15, 64)), wave_vectors([16, 16], ladder="own")
    shift = np.array([100, -37])
    want = scores(q, k, grid(3, 5), waves)
    by_number = [rotate(x, grid(3, 5) @ (14, 1)) for x in (q, k)]
    wider = [rotate(x, grid(3, 5) @ (15, 1)) for x in (q, k)]
    return at_most(
        1e-12,
        right=largest(scores(q, k, grid(3, 5) + shift, waves) - want),
        wrong=largest(by_number[0] @ by_number[1].T - wider[0] @ wider[1].T),
    )


def generators(n, seed=0):
    """Two random skew matrices, and two that commute: both from the same 2 × 2 blocks."""
    r = rng(seed)
    free = [(a - a.T) / 2 for a in r.normal(size=(2, n, n))]
    frame = scipy.linalg.qr(r.normal(size=(n, n)))[0]
    J = np.kron(np.eye(n // 2), [[0, -1], [1, 0]])
    angles = r.uniform(-1, 1, (2, n // 2))
    commuting = [frame @ (np.repeat(a, 2)[:, None] * J) @ frame.T for a in angles]
    return free, commuting, frame, angles


def turn(p, B):
    return scipy.linalg.expm(p[0] * B[0] + p[1] * B[1])


@claim("rope_axes.commute")
def test_rotations_are_relative_only_if_their_generators_commute():
    free, commuting, _, _ = generators(6)
    p, s = np.array([0.7, -0.4]), np.array([0.3, 0.9])
    off = [largest(turn(p, B).T @ turn(s, B) - turn(s - p, B)) for B in (commuting, free)]
    bracket = [largest(B[0] @ B[1] - B[1] @ B[0]) for B in (commuting, free)]
    return at_most(1e-13, right=off[0], wrong=off[1], bracket=bracket[1])


@claim("rope_axes.planes")
def test_commuting_generators_turn_the_same_planes():
    """The planes are read off one combination of the generators, the angles off each."""
    free, commuting, _, _ = generators(6, seed=1)
    p = np.array([2.0, -3.0])

    def from_planes(B):
        mixture = B[0] + math.pi * B[1]
        values, vectors = np.linalg.eigh(1j * mixture)
        z = vectors[:, values > 0].T  # one complex vector for every plane
        frame = math.sqrt(2) * np.stack([z.real, z.imag], axis=1).reshape(6, 6)
        kappa = [
            [float(v @ G @ u) for G in B] for u, v in zip(frame[::2], frame[1::2], strict=True)
        ]
        return rotate_axes(frame.T, p, kappa) @ frame

    return at_most(
        1e-12,
        right=largest(from_planes(commuting).T - turn(p, commuting)),
        wrong=largest(from_planes(free).T - turn(p, free)),
    )


@claim("rope_axes.kernel")
def test_kernel_of_axial_rope_is_that_of_the_sinusoidal_encoding():
    offsets = grid(9, 13) - (4, 6)
    want = kernel_2d(*offsets.T, 64)
    own = kernel_axes(offsets, wave_vectors([16, 16], ladder="own"))
    shared = kernel_axes(offsets, wave_vectors([16, 16]))
    return at_most(1e-14, right=largest(own - want), wrong=largest(shared - want))


def mixed_difference(q, k, waves):
    """How far scores are from a sum: f(h, w) - f(h, 0) - f(0, w) + f(0, 0), largest of 3 × 5."""
    at = scores(q, np.tile(k, (15, 1)), grid(3, 5), waves)[0].reshape(3, 5)
    return largest(at - at[:, :1] - at[:1] + at[0, 0])


@claim("rope_axes.additive")
def test_on_the_axes_a_score_is_a_sum_over_the_axes():
    q, k = rng().normal(size=(15, 64)), rng(9).normal(size=64)
    stripes = np.multiply.outer(100.0 ** (-np.arange(32) / 32), [0.5**0.5, -(0.5**0.5)])
    window = grid(15, 15) - 7
    stripe = kernel_axes(window, stripes).reshape(15, 15)
    fitted = stripe.mean(0) + stripe.mean(1)[:, None] - stripe.mean()
    return at_most(
        1e-12,
        right=mixed_difference(q, k, wave_vectors([16, 16], ladder="own")),
        wrong=mixed_difference(q, k, oblique(32)),
        fitted=fitted.var() / stripe.var(),
    )


@claim("rope_axes.text")
def test_equal_coordinates_are_plain_rope_on_a_shared_ladder():
    x, at = rng().normal(size=(9, 128)), np.arange(9) * 1000
    want, same = rotate(x, at, 1e6), np.repeat(at[:, None], 3, axis=1)
    shared = [wave_vectors(QWEN2, 1e6), wave_vectors(QWEN3, 1e6, arrangement="interleaved")]
    own = wave_vectors([22, 21, 21], 1e6, ladder="own")
    return at_most(
        1e-9,
        right=max(largest(rotate_axes(x, same, waves) - want) for waves in shared),
        wrong=largest(rotate_axes(x, same, own) - want),
        distinct=len(np.unique(own.sum(axis=1).round(12))),
    )


@claim("rope_axes.qwen2")
def test_chunked_axes_are_those_of_qwen2_vl():
    x, places = qwen_case()
    got = turned_by_qwen(x, places, "qwen2_vl", rope_theta=1e6, mrope_section=QWEN2)
    right, wrong = (
        rotate_axes(x, places, wave_vectors(QWEN2, 1e6, arrangement=arrangement), layout="halves")
        for arrangement in ("chunked", "interleaved")
    )
    text = (places == places[:, :1]).all(axis=1)
    return at_most(
        2e-5,
        right=largest(right - got),
        wrong=largest(wrong - got),
        text=largest((wrong - right)[text]),
        image=largest((wrong - right)[~text]),
    )


@claim("rope_axes.qwen3")
def test_interleaved_axes_are_those_of_qwen3_vl():
    x, places = qwen_case()
    got = turned_by_qwen(x, places, "qwen3_vl", rope_theta=1e6, mrope_section=QWEN3)
    right, wrong = (
        rotate_axes(x, places, wave_vectors(QWEN3, 1e6, arrangement=arrangement), layout="halves")
        for arrangement in ("interleaved", "chunked")
    )
    return at_most(2e-5, right=largest(right - got), wrong=largest(wrong - got))


@claim("rope_axes.chatglm")
def test_half_a_head_for_each_position_is_axial():
    """ChatGLM-6B turns each half of a head by itself, its pairs being halves of that half."""
    x = rng().normal(size=(7, 64))
    places = np.array([(i, 0) for i in range(4)] + [(2, b) for b in (1, 2, 3)])
    parts = [rotate(x[:, 32 * a : 32 * a + 32], places[:, a], layout="halves") for a in (0, 1)]
    columns = np.arange(64).reshape(2, 2, 16).swapaxes(0, 1).ravel()
    waves = wave_vectors([16, 16], ladder="own")
    got = rotate_axes(x[:, columns], places, waves, layout="halves")[:, np.argsort(columns)]
    unsorted = rotate_axes(x, places, waves, layout="halves")
    want = np.hstack(parts)
    return at_most(1e-13, right=largest(got - want), wrong=largest(unsorted - want))


def along(waves, axis):
    """Frequencies of the pairs that turn with one axis."""
    return waves[waves[:, axis] != 0, axis]


@claim("rope_axes.width")
def test_chunks_leave_the_width_almost_still():
    chunked, dealt = wave_vectors(QWEN2, 1e6), wave_vectors(QWEN3, 1e6, arrangement="interleaved")
    values = {}
    for name, waves in (("chunked", chunked), ("dealt", dealt)):
        for axis, letter in enumerate("thw"):
            theta = along(waves, axis)
            values[f"{name}_{letter}_shortest"] = 2 * math.pi / theta.max()
            values[f"{name}_{letter}_longest"] = 2 * math.pi / theta.min()
            values[f"{name}_{letter}_kernel"] = kernel_axes(100 * np.eye(3)[axis], waves)
    return at_most(
        0.02,
        right=100 * along(chunked, 2).max(),
        wrong=100 * along(dealt, 2).max(),
        degrees=math.degrees(100 * along(chunked, 2).max()),
        height_degrees=math.degrees(100 * along(chunked, 1).max()),
        product=math.sqrt(128) / along(chunked, 2).sum(),
        dealt_product=math.sqrt(128) / along(dealt, 2).sum(),
        **values,
    )


@claim("rope_axes.time")
def test_chunks_leave_time_no_slow_pair():
    chunked, dealt = (
        along(wave_vectors(s, 1e6, arrangement=a), 0)
        for s, a in ((QWEN2, "chunked"), (QWEN3, "interleaved"))
    )
    kernels = [np.cos(np.multiply.outer(np.arange(5001), t)).mean(axis=1) for t in (chunked, dealt)]
    late = kernels[0][81:]
    return at_most(
        200,
        right=2 * math.pi / chunked.min(),
        wrong=2 * math.pi / dealt.min(),
        lowest=late.min(),
        highest=late.max(),
        highest_at=81 + late.argmax(),
        as_near=np.argmax(kernels[0] < late.max()),
        dealt_lowest=kernels[1][81:].min(),
    )


@claim("rope_axes.transpose")
def test_axial_kernel_does_not_know_which_axis_is_which():
    h, w = np.indices((33, 33)).reshape(2, -1)
    own = wave_vectors([32, 32], ladder="own")
    shared = wave_vectors(QWEN3, 1e6, arrangement="interleaved")[:, 1:]
    there, back = np.stack([h, w], -1), np.stack([w, h], -1)
    off = [largest(kernel_axes(there, K) - kernel_axes(back, K)) for K in (own, shared)]
    return at_most(1e-13, right=off[0], wrong=off[1])


@claim("rope_axes.positions")
def test_positions_are_those_of_the_library():
    parts = [3, (1, 3, 5), 2]
    want = positions_of_the_library(parts)
    got = multimodal_positions(parts)
    slots = np.repeat(np.arange(len(got))[:, None], 3, axis=1)
    return at_most(
        0.01,
        right=largest(got - want),
        wrong=largest(slots - want),
        tokens=len(got),
        numbers=got.max() + 1,
    )


@claim("rope_axes.doubled")
def test_both_columns_of_a_pair_need_the_same_axis():
    """Sections doubled for a table of width d, where pair m is in columns m and m + d/2."""
    x, places = rng().normal(size=(15, 128)), np.insert(grid(3, 5) * 7, 0, 5, axis=1)
    theta = np.tile(1e6 ** (-np.arange(64) / 64), 2)

    def length(axes):
        angle = places[:, axes] * theta
        half = np.concatenate([-x[:, 64:], x[:, :64]], axis=1)
        turned = x * np.cos(angle) + half * np.sin(angle)
        return np.linalg.norm(turned, axis=1) / np.linalg.norm(x, axis=1)

    repeated, doubled = np.tile(np.repeat([0, 1, 2], QWEN2), 2), np.repeat([0, 1, 2], [32, 48, 48])
    split = np.count_nonzero(doubled[:64] != doubled[64:])
    return at_most(
        1e-13,
        right=largest(length(repeated) - 1),
        wrong=largest(length(doubled) - 1),
        pairs=split,
    )


@claim("rope_axes.stride")
def test_interleaved_axes_have_the_pairs_that_they_are_promised():
    ours = np.bincount(axis_map(QWEN2, arrangement="interleaved"))
    stride = np.zeros(64, int)
    for axis in (1, 2):
        stride[axis : 3 * QWEN2[axis] : 3] = axis
    by_stride = np.bincount(stride)
    counts = dict(zip("thw", by_stride, strict=True))
    return at_most(0.1, right=largest(ours - QWEN2), wrong=largest(by_stride - QWEN2), **counts)


@claim("rope_axes.layer")
def test_layer_equals_the_equation():
    x, places = qwen_case()
    layer = RopeAxes(128, QWEN3, 1e6, arrangement="interleaved", layout="halves")
    q, at = torch.tensor(x, dtype=torch.float32)[None, None], torch.tensor(places)
    got = layer.rotate(q, q, at, at)[0][0, 0].double().numpy()
    right, wrong = (
        rotate_axes(x, p, wave_vectors(QWEN3, 1e6, arrangement="interleaved"), layout="halves")
        for p in (places, places[:, [0, 2, 1]])
    )
    return at_most(1e-6, right=largest(got - right), wrong=largest(got - wrong))
