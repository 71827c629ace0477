"""Claims: sentences of the site with a test that measures them.

A claim test returns :func:`at_most`. It passes when what is right stays within the bound *and*
the named wrong variant leaves it at least tenfold, so that every claim is seen to be able to fail.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

RESULTS: dict[str, dict] = {}
_TEST_OF_ID: dict[str, str] = {}


@dataclass(frozen=True)
class Measurement:
    """What a claim test measured."""

    bound: float
    right: float
    wrong: float
    values: dict[str, float]


def at_most(bound: float, *, right: float, wrong: float, **values: float) -> Measurement:
    """Measurement of a claim: `right <= bound`, while the wrong variant reaches `10 * bound`."""
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(f"bound must be finite and positive, got {bound}")
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"value {name} must be finite, got {value}")
    numbers = {name: float(value) for name, value in values.items()}
    return Measurement(float(bound), float(right), float(wrong), numbers)


def claim(claim_id: str) -> Callable[[Callable], Callable]:
    """Mark a test as the evidence of a claim; the test returns `at_most(...)`."""

    def decorate(test: Callable) -> Callable:
        file = Path(inspect.unwrap(test).__code__.co_filename).name
        where = f"tests/{file}::{test.__name__}"
        if _TEST_OF_ID.setdefault(claim_id, where) != where:
            raise ValueError(f"claim {claim_id} is made twice: {_TEST_OF_ID[claim_id]}, {where}")

        @functools.wraps(test)
        def run(*args, **kwargs) -> None:
            try:
                RESULTS[claim_id] = {**_judge(claim_id, test(*args, **kwargs)), "test": where}
            except Exception as error:
                message = str(error) or type(error).__name__
                RESULTS[claim_id] = {"failed": message, "test": where}
                raise

        return pytest.mark.claim(run)

    return decorate


def _judge(claim_id: str, measured: object) -> dict:
    if not isinstance(measured, Measurement):
        raise AssertionError(f"claim {claim_id}: its test must return at_most(...)")
    right, wrong, bound = measured.right, measured.wrong, measured.bound
    if not right >= 0:
        raise AssertionError(f"claim {claim_id}: measured {right:.3g} is not a size")
    if right > bound:
        raise AssertionError(
            f"claim {claim_id}: measured {right:.3g} exceeds its bound {bound:.3g}"
        )
    if not (math.isfinite(wrong) and wrong >= 10 * bound):
        raise AssertionError(
            f"claim {claim_id}: the wrong variant passes: "
            f"{wrong:.3g} is below ten times the bound {bound:.3g}"
        )
    return {"measured": right, "bound": bound, "wrong": wrong, "values": measured.values}
