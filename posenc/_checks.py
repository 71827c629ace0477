"""Argument checks that many keys share; each names the argument, what is allowed and the value."""

import numpy as np


def check_count(name: str, value: int, at_least: int = 1) -> int:
    """Return `value` if it is an integer of at least `at_least`."""
    if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return int(value)


def check_real(name: str, value: np.ndarray | float, min_ndim: int = 0) -> np.ndarray:
    """Return `value` in float64 if it is real, finite, not empty, and loses nothing by it."""
    array = np.asarray(value)
    if array.dtype.kind not in {"i", "u", "f"}:
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have at least {min_ndim} axes, got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    exact = np.asarray(array, np.float64)
    with np.errstate(invalid="ignore"):  # what was rounded up may not fit back
        lost = exact.astype(array.dtype) != array
    if lost.any():
        raise ValueError(f"{name} must be exact in float64, got {array[lost].flat[0]}")
    return exact


def check_integers(name: str, value: np.ndarray | int) -> np.ndarray:
    """Return `value` as an array if it holds integers, of any width."""
    array = np.asarray(value)
    if array.dtype.kind not in {"i", "u"}:
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    return array


def check_shape(name: str, array: np.ndarray, wanted: tuple[int, ...]) -> None:
    """Raise unless `array` has exactly the shape `wanted`."""
    if array.shape != wanted:
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")


def check_table(name: str, value: np.ndarray) -> np.ndarray:
    """Return `value` in float64 if it is real and has exactly two axes."""
    rows = check_real(name, value, min_ndim=2)
    check_shape(name, rows, rows.shape[-2:])
    return rows


def check_batches(**arrays: np.ndarray) -> None:
    """Raise unless all axes but the last two broadcast together."""
    leading = [array.shape[:-2] for array in arrays.values()]
    try:
        np.broadcast_shapes(*leading)
    except ValueError:
        names, sizes = ", ".join(arrays), ", ".join(map(str, leading))
        raise ValueError(f"leading axes of {names} must broadcast, got {sizes}") from None


def check_mask(name: str, value: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """Return `value` broadcast to `wanted` if it is boolean and has a True in every row."""
    array = np.asarray(value)
    if array.dtype != np.bool:
        raise TypeError(f"{name} must be boolean, got dtype {array.dtype}")
    try:
        array = np.broadcast_to(array, wanted)
    except ValueError:
        raise ValueError(f"{name} must broadcast to {wanted}, got shape {array.shape}") from None
    if not array.any(axis=-1).all():
        raise ValueError(f"{name} must be True somewhere in every row, got a row of False")
    return array


def check_number(name: str, value: float) -> float:
    """Return `value` in float64 if it is one finite real number."""
    number = check_real(name, value)
    check_shape(name, number, ())
    return float(number)


def check_above(name: str, value: float, bound: float) -> float:
    """Return `value` in float64 if it is one finite real number above `bound`."""
    number = check_number(name, value)
    if not number > bound:
        raise ValueError(f"{name} must be above {bound}, got {value}")
    return number


def check_multiple(name: str, value: int, of: int) -> int:
    """Return `value` if it is a positive multiple of `of`."""
    if check_count(name, value) % of:
        raise ValueError(f"{name} must be a multiple of {of}, got {value}")
    return int(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return value


def check_between(name: str, value: float, low: float, high: float) -> float:
    """Return `value` in float64 if it is one real number from `low` to `high`, both included."""
    number = check_number(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be between {low} and {high}, got {value}")
    return number


def check_reach(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Return how far a reach goes to the left and to the right: one count for both, or two."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"{name} must be one integer or two, got {value!r}")
    left, right = (check_count(name, side, at_least=0) for side in pair)
    return left, right
