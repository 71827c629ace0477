"""Four terms of a score: printed facts, properties, oracles and errors; the claims."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.relative import offsets

counts = st.integers(1, 9)


@given(counts, counts, st.integers(0, 9))
def test_an_offset_is_key_position_minus_query_position(n_q, n_k, start):
    got = offsets(n_q, n_k, start)
    want = [[j - i for j in range(n_k)] for i in range(start, start + n_q)]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int64


# --- errors ------------------------------------------------------------------------------------

ERRORS = {
    "n_queries must be an integer, got 2.0": lambda: offsets(2.0, 3),
    "n_keys must be an integer, got True": lambda: offsets(2, True),
    "start must be an integer, got 0.5": lambda: offsets(2, 3, 0.5),
    "n_queries must be at least 1, got 0": lambda: offsets(0, 3),
    "n_keys must be at least 1, got 0": lambda: offsets(2, 0),
    "start must be at least 0, got -1": lambda: offsets(2, 3, -1),
}


@pytest.mark.parametrize("message", ERRORS)
def test_a_wrong_argument_is_named(message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        ERRORS[message]()
