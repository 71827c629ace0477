"""The tool for layers: it equals the equation, whatever form the positions have."""

import pytest
import torch

from posenc.equations import relative as equations
from posenc.layers.relative import offsets


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_offsets_equal_the_equation(dtype):
    got = offsets(torch.arange(2, 5, dtype=dtype), torch.arange(6, dtype=dtype))
    assert torch.equal(got, torch.from_numpy(equations.offsets(3, 6, start=2)).to(dtype))
    assert got.dtype == dtype


def test_each_row_of_a_batch_has_its_own_offsets():
    q_at, k_at = torch.tensor([[0, 5], [-3, 2]]), torch.tensor([[1, 2, 9], [0, 0, -1]])
    rows = torch.stack([offsets(q, k) for q, k in zip(q_at, k_at, strict=True)])
    assert torch.equal(offsets(q_at, k_at), rows)
    assert torch.equal(offsets(q_at[0], k_at), torch.stack([offsets(q_at[0], k) for k in k_at]))


@pytest.mark.parametrize("name", ["q_positions", "k_positions"])
def test_positions_that_are_no_integers_are_named(name):
    at = {"q_positions": torch.arange(3), "k_positions": torch.arange(3)}
    at[name] = at[name].float()
    with pytest.raises(TypeError, match=rf"^{name} must be int64 or int32, got torch.float32$"):
        offsets(**at)
