"""Checks of tensors that many layers share: rank, shape, dtype and device, never values.

A check on values would make the host wait for the device and break the compiled graph. Sizes are
compared by `==` alone: in a graph compiled for sizes that vary, `in` does not find a size that is
there, and the message of the error, which nobody should see, breaks the graph.
"""

import torch


def vectors(name: str, x: torch.Tensor, weight: torch.Tensor, batch: int | None = None) -> None:
    """Raise unless `x` is `(batch, n, width)` and the linear map `weight` can take it."""
    _rows(name, x, weight.shape[1], batch)
    # Under autocast the linear maps cast what they get.
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name} must have the layer's dtype {weight.dtype}, got {x.dtype}")
    _device(name, x, weight)


def tokens(name: str, x: torch.Tensor, width: int, table: torch.Tensor | None = None) -> None:
    """Raise unless `x` is `(batch, n, width)`, of a floating dtype, and where the `table` is."""
    _rows(name, x, width)
    floating(name, x)
    if table is not None:
        _device(name, x, table)


def heads(name: str, x: torch.Tensor, width: int) -> None:
    """Raise unless `x` is `(batch, heads, n, width)` and of a floating dtype."""
    if x.ndim != 4 or x.shape[2] < 1 or x.shape[3] != width:
        wanted = f"(batch, heads, n >= 1, {width})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")
    floating(name, x)


def floating(name: str, x: torch.Tensor) -> None:
    """Raise unless `x` is of a floating dtype."""
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {x.dtype}")


def integers(name: str, value: torch.Tensor) -> None:
    """Raise unless `value` is int64 or int32."""
    if value.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 or int32, got {value.dtype}")


def positions(
    name: str,
    value: torch.Tensor,
    x: torch.Tensor,
    axes: int | None = None,
    in_order: bool = False,
) -> None:
    """Raise unless `value` has an integer, or one for each of `axes`, for every row of `x`."""
    integers(name, value)
    batch, n = x.shape[:2]
    shape, allowed = tuple(value.shape), [(n,), (batch, n)]
    if axes is not None:
        allowed += [(n, axes), (batch, n, axes)]
        if batch == n == axes and shape == (n, n):
            wanted = f"({n},) or {(batch, n, axes)} here"
            raise ValueError(f"{name} must have shape {wanted}, as {(n, n)} may mean two things")
    if not any(shape == right for right in allowed):
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"{name} must have shape {wanted}, got {shape}")
    if in_order and has_axes(value, x, axes):
        wanted = "one number per token if causal, for lack of an order"
        raise ValueError(f"{name} must have {wanted}, got shape {shape}")
    _device(name, value, x)


def has_axes(value: torch.Tensor, x: torch.Tensor, axes: int | None) -> bool:
    """Tell positions `(n, axes)` or `(batch, n, axes)` from `(n,)` or `(batch, n)`."""
    return axes is not None and tuple(value.shape[-2:]) == (x.shape[1], axes)


def mask(name: str, value: torch.Tensor, x: torch.Tensor, source: torch.Tensor) -> None:
    """Raise unless `value` is boolean and broadcasts to `(batch, n_q, n_k)`."""
    if value.dtype != torch.bool:
        raise TypeError(f"{name} must be torch.bool, got {value.dtype}")
    wanted = (x.shape[0], x.shape[1], source.shape[1])
    fits = all(
        size == 1 or size == want
        for size, want in zip(value.shape[::-1], wanted[::-1], strict=False)
    )
    if value.ndim not in (2, 3) or not fits:
        raise ValueError(f"{name} must broadcast to {wanted}, got shape {tuple(value.shape)}")
    _device(name, value, x)


def _rows(name: str, x: torch.Tensor, width: int, batch: int | None = None) -> None:
    right_batch = x.ndim == 3 and (batch is None or batch == x.shape[0])
    if not right_batch or x.shape[1] < 1 or x.shape[2] != width:
        wanted = f"({'batch' if batch is None else batch}, n >= 1, {width})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")


def _device(name: str, value: torch.Tensor, like: torch.Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name} must be on device {like.device}, got {value.device}")
