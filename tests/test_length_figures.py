"""Figures of the page on the length of the input: the numbers that they show."""

import math

import numpy as np
from transformers import LlamaConfig

from scripts.figures import length as figures


def test_llama_has_the_sizes_of_the_library():
    config, shape = LlamaConfig(), figures.LLAMA
    assert shape.d_model == config.hidden_size
    assert shape.d_ff == config.intermediate_size
    assert shape.n_layers == config.num_hidden_layers
    assert (shape.n_heads, shape.n_kv_heads) == (
        config.num_attention_heads,
        config.num_key_value_heads,
    )


def test_lines_of_cost_cross_once_at_six_times_the_width():
    n, (maps, pairs), factor = figures.cost_data()
    assert set(maps) == {24 * 4096**2 / 1e9}
    np.testing.assert_allclose(pairs, 4 * n * 4096 / 1e9, rtol=1e-12)
    np.testing.assert_array_equal(pairs > maps, n > 6 * 4096)
    np.testing.assert_array_equal(factor > 3, n > 6 * 4096)
    assert 2 < factor[0] < 2.05
    assert 3.9 < factor[-1] < 4


def test_slopes_of_memory_are_two_one_one_and_none():
    n, gib = figures.memory_data()
    slopes = {name: np.diff(np.log2(found)) / np.diff(np.log2(n)) for name, found in gib.items()}
    for name, slope in (("logits", 2), ("cache", 1), ("sums", 1), ("weights", 0)):
        np.testing.assert_allclose(slopes[name], slope, atol=1e-12)
    assert gib["cache"][n == 2048] == 1
    assert gib["logits"][-1] == 64 * 1024
    assert gib["sums"][-1] == 1 / 8
    assert 12 < gib["weights"][0] < 12.5


def test_entropy_rises_by_the_logarithm_and_weight_falls():
    n, equal, normal, plain, scaled = figures.dilution_data()
    np.testing.assert_allclose(equal, [math.log(k) for k in n], rtol=1e-12)
    np.testing.assert_allclose(equal - normal, 0.5, atol=1e-12)
    assert plain[0] == scaled[0] == max(scaled)
    assert (np.diff(plain) < 0).all()
    assert (scaled[1:] > plain[1:]).all()
    assert plain[-1] < 1e-3
    assert scaled[-1] > 500 * plain[-1]
