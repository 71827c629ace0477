"""Checks of tensors that many layers share: rank, shape, dtype and device, never values.

A check on values would make the host wait for the device and break the compiled graph.
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
    if not x.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {x.dtype}")
    if table is not None:
        _device(name, x, table)


def positions(name: str, value: torch.Tensor, x: torch.Tensor) -> None:
    """Raise unless `value` has one integer position for every row of `x`."""
    if value.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 or int32, got {value.dtype}")
    batch, n = x.shape[:2]
    if tuple(value.shape) not in ((n,), (batch, n)):
        wanted = f"({n},) or ({batch}, {n})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")
    _device(name, value, x)


def mask(name: str, value: torch.Tensor, x: torch.Tensor, source: torch.Tensor) -> None:
    """Raise unless `value` is boolean and broadcasts to `(batch, n_q, n_k)`."""
    if value.dtype != torch.bool:
        raise TypeError(f"{name} must be torch.bool, got {value.dtype}")
    wanted = (x.shape[0], x.shape[1], source.shape[1])
    fits = all(
        size in (1, want) for size, want in zip(value.shape[::-1], wanted[::-1], strict=False)
    )
    if value.ndim not in (2, 3) or not fits:
        raise ValueError(f"{name} must broadcast to {wanted}, got shape {tuple(value.shape)}")
    _device(name, value, x)


def _rows(name: str, x: torch.Tensor, width: int, batch: int | None = None) -> None:
    right_batch = x.ndim == 3 and batch in (None, x.shape[0])
    if not right_batch or x.shape[1] < 1 or x.shape[2] != width:
        wanted = f"({'batch' if batch is None else batch}, n >= 1, {width})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")


def _device(name: str, value: torch.Tensor, like: torch.Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{name} must be on device {like.device}, got {value.device}")
