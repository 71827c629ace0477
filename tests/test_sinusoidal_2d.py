"""The encoding of an image: printed facts, properties, oracles and errors; the claims."""

import math
import re

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.kernel import kernel
from posenc.equations.sinusoidal import column_order, shift_matrix, sinusoidal
from posenc.equations.sinusoidal_2d import grid, kernel_2d, sinusoidal_2d
from posenc.layers.sinusoidal_2d import Sinusoidal2d

reals = st.floats(-500, 500)
places = st.tuples(reals, reals)
widths = st.integers(1, 16).map(lambda quarter: 4 * quarter)
orders = st.sampled_from(["hw", "wh"])
layouts = st.sampled_from(["interleaved", "halves"])


def largest(x):
    return float(np.abs(x).max())


def by_loop(positions, d, base=10000.0, order="hw", layout="interleaved"):
    """One number at a time: which axis a column belongs to, which pair, sine or cosine."""
    table = np.zeros((len(positions), d))
    for p, place in enumerate(positions):
        named = dict(zip("hw", map(float, place), strict=True))
        for column in range(d):
            axis, inner = order[column // (d // 2)], column % (d // 2)
            if layout == "interleaved":
                pair, is_cosine = inner // 2, inner % 2
            else:
                pair, is_cosine = inner % (d // 4), inner // (d // 4)
            angle = named[axis] / base ** (4 * pair / d)
            table[p, column] = math.cos(angle) if is_cosine else math.sin(angle)
    return table


def of_the_notes(positions, d, base=10000.0):
    """The notes' exponent 2i/d with i = 0 .. d/4-1: half of the right one."""
    theta = base ** (-2 * np.arange(d // 4) / d)
    angle = np.asarray(positions, float)[..., None] * theta
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(*angle.shape[:-2], d)


def column_by_column(height, width):
    """What `meshgrid` of width and height with "ij" says of the patches, row by row."""
    return grid(width, height)[:, ::-1]


def gram(vectors):
    return vectors @ vectors.T


def around(radius, steps=181):
    """Offsets of one length, in all directions of a quarter."""
    turn = np.linspace(0, np.pi / 2, steps)
    return radius * np.cos(turn), radius * np.sin(turn)


# --- printed facts -----------------------------------------------------------------------------


def test_the_first_patch_is_zeros_and_ones():
    np.testing.assert_array_equal(sinusoidal_2d([0, 0], 8), [0, 1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(sinusoidal_2d([0, 0], 8, layout="halves"), [0, 0, 1, 1] * 2)


def test_frequencies_of_width_eight_are_one_and_one_over_the_root_of_the_base():
    got = sinusoidal_2d([3, 5], 8, base=16)
    want = [f(k / t) for k in (3, 5) for t in (1, 4) for f in (math.sin, math.cos)]
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_width_four_has_one_frequency_and_no_base():
    np.testing.assert_array_equal(sinusoidal_2d([2, 7], 4), sinusoidal_2d([2, 7], 4, base=7.0))


def test_the_right_neighbour_keeps_the_first_half_and_the_lower_one_the_second():
    here, right, below = sinusoidal_2d([[2, 3], [2, 4], [3, 3]], 12)
    np.testing.assert_array_equal(here[:6], right[:6])
    np.testing.assert_array_equal(here[6:], below[6:])
    assert (here[6:] != right[6:]).all()
    assert (here[:6] != below[:6]).all()


@pytest.mark.parametrize(("height", "width"), [(3, 5), (7, 2), (1, 4), (4, 1), (1, 1)])
def test_grid_runs_along_the_rows(height, width):
    want = [(h, w) for h in range(height) for w in range(width)]
    np.testing.assert_array_equal(grid(height, width), want)
    assert grid(height, width).dtype == np.int64


def test_a_patch_number_is_the_row_times_the_width_plus_the_column():
    h, w = grid(7, 2).T
    np.testing.assert_array_equal(2 * h + w, np.arange(14))


# --- properties --------------------------------------------------------------------------------


@given(places, widths, st.floats(1.5, 1e6), orders, layouts)
def test_every_vector_has_the_same_length(place, d, base, order, layout):
    vector = sinusoidal_2d(np.array(place), d, base, order=order, layout=layout)
    assert vector @ vector == pytest.approx(d / 2, rel=1e-13)


@given(places, widths, layouts)
def test_each_half_is_the_encoding_of_its_axis(place, d, layout):
    first, second = np.split(sinusoidal_2d(np.array(place), d, layout=layout), 2)
    np.testing.assert_array_equal(first, sinusoidal(place[0], d // 2, layout=layout))
    np.testing.assert_array_equal(second, sinusoidal(place[1], d // 2, layout=layout))


@given(places, widths, layouts)
def test_the_other_order_is_the_same_of_the_mirrored_image(place, d, layout):
    got = sinusoidal_2d(np.array(place), d, order="wh", layout=layout)
    np.testing.assert_array_equal(got, sinusoidal_2d(np.array(place[::-1]), d, layout=layout))


@given(places, widths, orders)
def test_layouts_differ_by_one_permutation_of_each_half(place, d, order):
    inner = column_order(d // 2, "halves")
    both = np.concatenate([inner, inner + d // 2])
    pairs = sinusoidal_2d(np.array(place), d, order=order)
    halves = sinusoidal_2d(np.array(place), d, order=order, layout="halves")
    np.testing.assert_array_equal(halves, pairs[both])


@given(places, st.tuples(reals, reals), widths)
def test_kernel_is_the_inner_product_of_two_places(place, offset, d):
    here, there = sinusoidal_2d(np.array([place, np.add(place, offset)]), d)
    want = kernel_2d(*offset, d)
    assert 2 / d * here @ there == pytest.approx(want, abs=1e-9)  # place + offset is rounded


@given(reals, reals, widths)
def test_kernel_knows_neither_sign_nor_axis(dh, dw, d):
    want = kernel_2d(dh, dw, d)
    assert kernel_2d(-dh, dw, d) == kernel_2d(dh, -dw, d) == want
    assert kernel_2d(dw, dh, d) == want
    assert abs(want) <= 1


def test_leading_axes_are_kept():
    image = grid(3, 5).reshape(3, 5, 2)
    got = sinusoidal_2d(image, 8)
    assert got.shape == (3, 5, 8)
    np.testing.assert_array_equal(got.reshape(15, 8), sinusoidal_2d(grid(3, 5), 8))
    assert kernel_2d(np.zeros((3, 1)), np.zeros(5), 8).shape == (3, 5)
    assert kernel_2d(0, 0, 8) == 1


def test_integers_and_float32_are_computed_in_float64():
    want = sinusoidal_2d([[3.0, 5.0]], 8)
    for dtype in (np.int32, np.uint8, np.float16, np.float32):
        got = sinusoidal_2d(np.array([[3, 5]], dtype), 8)
        np.testing.assert_array_equal(got, want, strict=True)


def test_arguments_are_not_changed():
    positions = np.array([[1.0, 2.0], [3.0, 5.0]])
    kept = positions.copy()
    sinusoidal_2d(positions, 8, order="wh")
    kernel_2d(positions, positions, 8)
    np.testing.assert_array_equal(positions, kept)


# --- oracles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("order", ["hw", "wh"])
@pytest.mark.parametrize(("height", "width", "d"), [(3, 5, 4), (7, 2, 12), (2, 9, 64)])
def test_table_equals_the_double_loop(height, width, d, order, layout):
    got = sinusoidal_2d(grid(height, width), d, 500.0, order=order, layout=layout)
    want = by_loop(grid(height, width), d, 500.0, order, layout)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@given(places, st.sampled_from([4, 8, 24]))
def test_real_positions_equal_mpmath(place, d):
    with mpmath.workdps(40):
        angles = [
            k / mpmath.mpf(10000) ** (mpmath.mpf(4 * m) / d)
            for k in map(mpmath.mpf, place)
            for m in range(d // 4)
        ]
        want = [float(f(angle)) for angle in angles for f in (mpmath.sin, mpmath.cos)]
    np.testing.assert_allclose(sinusoidal_2d(np.array(place), d), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(3, 5), (7, 2)])
def test_table_equals_that_of_masked_autoencoders(height, width):
    """Their library writes the height first; pretrained weights have the halves swapped."""
    from transformers.models.vit_mae.modeling_vit_mae import (
        build_2d_sinusoidal_position_embedding,
    )

    peer = build_2d_sinusoidal_position_embedding(
        height, width, 48, cls_token=True, dtype=torch.float64
    ).numpy()
    got = sinusoidal_2d(grid(height, width), 48, layout="halves")
    np.testing.assert_allclose(got, peer[1:], rtol=0, atol=1e-14)
    assert not peer[0].any()


def test_a_masked_autoencoder_has_the_width_first():
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEConfig, ViTMAEEmbeddings

    peer = ViTMAEEmbeddings(ViTMAEConfig(hidden_size=16, image_size=12, patch_size=4))
    peer.initialize_weights()
    got = peer.position_embeddings[0].numpy()
    want = sinusoidal_2d(grid(3, 3), 16, order="wh", layout="halves")
    np.testing.assert_allclose(got[1:], want, rtol=0, atol=1e-7)
    assert np.abs(got[1:] - sinusoidal_2d(grid(3, 3), 16, layout="halves")).max() > 0.5


@pytest.mark.parametrize(("height", "width"), [(3, 5), (7, 2)])
@pytest.mark.parametrize("normalize", [False, True])
def test_table_equals_that_of_detr_at_its_real_positions(height, width, normalize):
    """DETR counts from 1, or scales the image to a circle; the height comes first."""
    from transformers.models.detr.modeling_detr import (
        DetrSinePositionEmbedding,
    )

    peer = DetrSinePositionEmbedding(num_position_features=24, normalize=normalize)
    want = peer((1, 48, height, width), "cpu", torch.float64)[0].flatten(1).T.numpy()
    positions = grid(height, width) + 1.0
    if normalize:
        positions *= 2 * math.pi / (np.array([height, width]) + 1e-6)
    np.testing.assert_allclose(sinusoidal_2d(positions, 48), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), [(3, 5), (7, 2)])
def test_omdet_numbers_the_patches_column_by_column(height, width):
    from transformers.models.omdet_turbo.modeling_omdet_turbo import (
        OmDetTurboHybridEncoder,
    )

    peer = OmDetTurboHybridEncoder.build_2d_sincos_position_embedding(
        width, height, 16, dtype=torch.float64
    )[0].numpy()
    options = {"order": "wh", "layout": "halves"}
    wrong = sinusoidal_2d(column_by_column(height, width), 16, **options)
    np.testing.assert_allclose(peer, wrong, rtol=0, atol=1e-14)
    assert largest(peer - sinusoidal_2d(grid(height, width), 16, **options)) > 0.8


# --- errors ------------------------------------------------------------------------------------

TYPE_ERRORS = {
    "height must be an integer, got 3.0": lambda: grid(3.0, 5),
    "width must be an integer, got True": lambda: grid(3, True),
    "positions must hold real numbers, got dtype bool": lambda: sinusoidal_2d([True, False], 8),
    "positions must hold real numbers, got dtype complex128": lambda: sinusoidal_2d([1j, 0], 8),
    "d_model must be an integer, got 8.0": lambda: sinusoidal_2d([0, 0], 8.0),
    "base must hold real numbers, got dtype <U1": lambda: sinusoidal_2d([0, 0], 8, "a"),
    "dh must hold real numbers, got dtype complex128": lambda: kernel_2d(1j, 0, 8),
    "dw must hold real numbers, got dtype bool": lambda: kernel_2d(0, True, 8),
    "d_model must be an integer, got '8'": lambda: kernel_2d(0, 0, "8"),
}

VALUE_ERRORS = {
    "height must be at least 1, got 0": lambda: grid(0, 5),
    "width must be at least 1, got -2": lambda: grid(3, -2),
    "positions must have at least 1 axes, got shape ()": lambda: sinusoidal_2d(3, 8),
    "positions must have shape (2,), got (3,)": lambda: sinusoidal_2d([0, 1, 2], 8),
    "positions must have shape (5, 2), got (5, 1)": lambda: sinusoidal_2d(np.ones((5, 1)), 8),
    "positions must not be empty, got shape (0, 2)": lambda: sinusoidal_2d(np.ones((0, 2)), 8),
    "positions must be finite, got nan": lambda: sinusoidal_2d([0, math.nan], 8),
    "d_model must be a multiple of 4, got 6": lambda: sinusoidal_2d([0, 0], 6),
    "d_model must be at least 1, got 0": lambda: sinusoidal_2d([0, 0], 0),
    "base must be above 1, got 1": lambda: sinusoidal_2d([0, 0], 8, 1),
    "base must be finite, got inf": lambda: sinusoidal_2d([0, 0], 8, math.inf),
    "order must be 'hw' or 'wh', got 'xy'": lambda: sinusoidal_2d([0, 0], 8, order="xy"),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: sinusoidal_2d(
        [0, 0], 8, layout="x"
    ),
    "dh must be finite, got nan": lambda: kernel_2d(math.nan, 0, 8),
    "dw must not be empty, got shape (0,)": lambda: kernel_2d(0, [], 8),
    "d_model must be a multiple of 4, got 2": lambda: kernel_2d(0, 0, 2),
    "base must be above 1, got 0.5": lambda: kernel_2d(0, 0, 8, 0.5),
    "dh and dw must broadcast, got (2,) and (3,)": lambda: kernel_2d([0, 1], [0, 1, 2], 8),
}


def test_both_axes_have_the_base_that_is_given():
    there, here = sinusoidal_2d([[3, 5], [0, 0]], 8, base=100)
    assert kernel_2d(3, 5, 8, base=100) == pytest.approx(there @ here / 4, rel=1e-14)


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims ------------------------------------------------------------------------------------


@claim("sinusoidal_2d.neighbours")
def test_the_neighbour_below_is_as_near_as_the_one_to_the_right():
    here, right, below = sinusoidal_2d([[2, 3], [2, 4], [3, 3]], 512)
    numbers = sinusoidal(np.array([31, 32, 45]), 512)  # 14 patches a row
    wrapped = sinusoidal_2d([[2, 13], [3, 0]], 512)
    return at_most(
        1e-12,
        right=abs(here @ right - here @ below) / 256,
        wrong=abs(numbers[0] @ numbers[1] - numbers[0] @ numbers[2]) / 256,
        neighbour=here @ right / 256,
        by_number_right=numbers[0] @ numbers[1] / 256,
        by_number_below=numbers[0] @ numbers[2] / 256,
        wrapped=wrapped[0] @ wrapped[1] / 256,
    )


@claim("sinusoidal_2d.halves")
def test_each_half_encodes_its_own_axis():
    got, want = sinusoidal_2d(grid(3, 5), 64), by_loop(grid(3, 5), 64)
    return at_most(1e-14, right=largest(got - want), wrong=largest(np.roll(got, 32, axis=1) - want))


@claim("sinusoidal_2d.exponent")
def test_exponent_is_four_m_over_d():
    places = grid(3, 5) * 40
    want = by_loop(places, 512)
    return at_most(
        1e-12,
        right=largest(sinusoidal_2d(places, 512) - want),
        wrong=largest(of_the_notes(places, 512) - want),
        frequency=10000.0 ** (-4 * 127 / 512),
        frequency_notes=10000.0 ** (-2 * 127 / 512),
        wavelength=2 * math.pi * 10000.0 ** (4 * 127 / 512),
        wavelength_notes=2 * math.pi * 10000.0 ** (2 * 127 / 512),
    )


@claim("sinusoidal_2d.base")
def test_the_exponent_of_the_notes_is_the_root_of_the_base():
    places = grid(3, 5) * 40
    got = of_the_notes(places, 512)
    slowest = 10000.0 ** (-4 * np.arange(128) / 512)
    return at_most(
        1e-12,
        right=largest(got - sinusoidal_2d(places, 512, base=100)),
        wrong=largest(got - sinusoidal_2d(places, 512)),
        pairs=128,
        slow_pairs=np.sum(13 * slowest < np.pi / 2),
    )


@claim("sinusoidal_2d.one_axis")
def test_one_axis_stays_positive_for_two_thousand_patches():
    steps = np.stack([np.arange(3001), np.zeros(3001, int)], axis=-1)
    right, wrong = (
        table[:, :256] @ table[0, :256] / 128
        for table in (sinusoidal_2d(steps, 512), of_the_notes(steps, 512))
    )
    return at_most(
        1e-3,
        right=max(0.0, -right[:2001].min()),
        wrong=-wrong[:2001].min(),
        first=np.argmax(right < 0),
        first_notes=np.argmax(wrong < 0),
        at_14=right[14],
        at_14_notes=wrong[14],
        lowest=right[:2001].min(),
        lowest_notes=wrong[:2001].min(),
    )


@claim("sinusoidal_2d.shift")
def test_a_shift_is_a_block_for_each_axis():
    places, blank = grid(3, 5) - 0.5, np.zeros((32, 32))
    by_h, by_w = shift_matrix(2.5, 32), shift_matrix(-7, 32)
    moved = sinusoidal_2d(places + np.array([2.5, -7]), 64)
    stay = sinusoidal_2d(places, 64)
    return at_most(
        1e-12,
        right=largest(stay @ np.block([[by_h, blank], [blank, by_w]]) - moved),
        wrong=largest(stay @ np.block([[by_w, blank], [blank, by_h]]) - moved),
    )


@claim("sinusoidal_2d.kernel")
def test_inner_product_is_the_mean_of_two_kernels():
    places, d = grid(7, 12), 64
    h, w = (places[:, None] - places).transpose(2, 0, 1)
    got = gram(sinusoidal_2d(places, d)) / (d / 2)
    return at_most(
        1e-12,
        right=largest(got - kernel_2d(h, w, d)),
        wrong=largest(got - kernel(h, d // 2) * kernel(w, d // 2)),
    )


@claim("sinusoidal_2d.floor")
def test_patches_of_one_row_share_half_of_their_vectors():
    far = np.arange(2001)
    along, across = kernel_2d(0, far, 512), kernel_2d(far, far, 512)
    row = sinusoidal_2d(np.stack([np.zeros(2001), far], axis=-1), 512)
    np.testing.assert_allclose(row @ row[0] / 256, (1 + kernel(far, 256)) / 2, rtol=0, atol=1e-12)
    return at_most(
        1e-3,
        right=max(0.0, 0.5 - along.min()),
        wrong=0.5 - across.min(),
        along=along.min(),
        across=across.min(),
    )


@claim("sinusoidal_2d.near")
def test_near_the_centre_only_the_length_counts():
    tiny, near, far = (kernel_2d(*around(radius), 512) for radius in (0.01, 1, 10))
    fall = (1 - tiny) / (0.01**2 * np.mean(10000.0 ** (-8 * np.arange(128) / 512)))
    return at_most(
        1e-4,
        right=largest(4 * fall - 1),
        wrong=largest(2 * fall - 1),
        near=np.ptp(near),
        far=np.ptp(far),
    )


@claim("sinusoidal_2d.isotropy")
def test_equal_distances_are_not_equally_similar():
    diagonal = math.sqrt(50)
    here, along, across = sinusoidal_2d([[0, 0], [0, 10], [diagonal, diagonal]], 512)
    got = np.array([here @ along, here @ across]) / 256
    return at_most(
        5e-4,
        right=largest(got - [0.838, 0.733]),
        wrong=abs(got[0] - got[1]),
        along=got[0],
        across=got[1],
        lowest=kernel_2d(*around(10), 512).min(),
        as_far_in_a_row=np.argmax(kernel_2d(0, np.arange(200), 512) < got[1]),
    )


@claim("sinusoidal_2d.far")
def test_far_away_only_the_product_of_the_offsets_counts():
    steps = np.arange(8, 81)
    got = kernel_2d(steps[:, None], steps, 768)
    product = np.log(np.multiply.outer(steps, steps)) / 2
    length = np.log(np.hypot(steps[:, None], steps))
    by_product, by_length = (
        1 - (log + np.euler_gamma) / math.log(10000) for log in (product, length)
    )
    return at_most(0.0125, right=largest(got - by_product), wrong=largest(got - by_length))


@claim("sinusoidal_2d.directions")
def test_more_directions_make_the_kernel_round():
    offsets = np.stack(around(10), axis=-1)
    two, sixteen = (np.cos(offsets @ waves(n)).mean(axis=1) for n in (2, 16))
    np.testing.assert_allclose(two, kernel_2d(*offsets.T, 512), rtol=0, atol=1e-14)
    two_40, sixteen_40 = (np.cos(4 * offsets @ waves(n)).mean(axis=1) for n in (2, 16))
    assert np.ptp(np.cos(2 * offsets @ waves(16)).mean(axis=1)) < 1e-5
    return at_most(
        1e-12,
        right=np.ptp(sixteen),
        wrong=np.ptp(two),
        two=np.ptp(two),
        sixteen=np.ptp(sixteen),
        all_around=sixteen.mean(),
        two_40=np.ptp(two_40),
        sixteen_40=np.ptp(sixteen_40),
    )


def waves(directions, d_model=512):
    """Wave vectors as columns: every frequency in each of some directions, d/2 in all."""
    n = d_model // 2 // directions
    turn = np.pi * np.arange(directions) / directions
    theta = 10000.0 ** (-np.arange(n) / n)
    return np.multiply.outer([np.cos(turn), np.sin(turn)], theta).reshape(2, -1)


@claim("sinusoidal_2d.order")
def test_the_order_of_the_axes_changes_no_inner_product():
    want = gram(sinusoidal_2d(grid(3, 5), 64))
    mixed = column_by_column(3, 5)
    square = gram(sinusoidal_2d(grid(4, 4), 64)) - gram(sinusoidal_2d(column_by_column(4, 4), 64))
    return at_most(
        1e-12,
        right=largest(gram(sinusoidal_2d(grid(3, 5), 64, order="wh")) - want),
        wrong=largest(gram(sinusoidal_2d(mixed, 64)) - want),
        square=largest(square),
        misplaced=(mixed != grid(3, 5)).any(axis=1).sum(),
        patches=len(mixed),
    )


@claim("sinusoidal_2d.width")
def test_a_square_root_is_not_the_width_of_an_image():
    places, square = grid(8, 32), grid(16, 16)
    by_width, by_root = (
        Sinusoidal2d(64, width)(torch.zeros(1, 256, 64))[0].double().numpy() for width in (32, 16)
    )
    want = sinusoidal_2d(places, 64)
    below = by_root[0] @ by_root[32] / 32
    return at_most(
        1e-6,
        right=largest(by_width - want),
        wrong=largest(by_root - want),
        misplaced=(places != square).any(axis=1).sum(),
        patches=256,
        below=below,
        below_right=want[0] @ want[32] / 32,
    )


@claim("sinusoidal_2d.resolution")
def test_positions_between_patches_need_no_table():
    table = sinusoidal_2d(grid(14, 14), 768)
    places = (grid(28, 28) + 0.5) / 2 - 0.5
    want = sinusoidal_2d(places, 768)
    image = torch.tensor(table.T.reshape(1, 768, 14, 14))
    resized = torch.nn.functional.interpolate(image, scale_factor=2, mode="bicubic")
    off = np.abs(resized[0].flatten(1).T.numpy() - want).max(axis=1)
    inside = ((places > 1) & (places < 12)).all(axis=1)
    errors = []
    for dh, dw in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
        by_h, by_w = shift_matrix(dh, 384), shift_matrix(dw, 384)
        moved = np.hstack([table[:, :384] @ by_h, table[:, 384:] @ by_w])
        new = want[((places - (dh, dw)) % 1 == 0).all(axis=1)]
        errors.append(largest(new - moved))
    return at_most(
        1e-12,
        right=max(errors),
        wrong=off.max(),
        inside=off[inside].max(),
        edge=off.max(),
    )


@claim("sinusoidal_2d.separation")
def test_no_two_patches_are_nearer_than_two_places_of_an_axis():
    places = grid(14, 16)
    both = np.split(sinusoidal_2d(places, 512), 2, axis=1)
    axis = nearest(sinusoidal(np.arange(16), 256))
    joined, added = nearest(np.hstack(both)), nearest(both[0] + both[1])
    return at_most(
        1e-12,
        right=abs(joined - axis),
        wrong=abs(added - axis),
        nearest=joined,
        typical=np.median(distances(np.hstack(both))),
    )


def distances(vectors):
    first, second = np.triu_indices(len(vectors), 1)
    return np.linalg.norm(vectors[first] - vectors[second], axis=1)


def nearest(vectors):
    return distances(vectors).min()


@claim("sinusoidal_2d.layer")
def test_layer_equals_the_equation():
    places, kept = grid(7, 12), [80, 3, 41, 12, 60]
    got = Sinusoidal2d(64, width=12)(torch.zeros(1, 5, 64), torch.tensor(kept))[0]
    want = sinusoidal_2d(places[kept], 64)
    recounted = Sinusoidal2d(64, width=12).embed(torch.zeros(1, 5, 64), torch.arange(5))[0]
    return at_most(
        1e-7, right=largest(got.double().numpy() - want), wrong=largest(recounted.numpy() - want)
    )
