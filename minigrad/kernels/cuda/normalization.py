"""The normalization family on a GPU: sets shared by a cluster of blocks, rows in registers, columns by strips.

The statistics are float32 for float32 and half inputs, as the text's, and never wider: at |x| above 1e19, where the
text goes over to float64, y and the gradients are still right (sums are taken in double), and the variance, which does
not fit float32, comes back as infinity. Masks, arrays that are not contiguous and rows too long for shared memory are
left to the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.cuda import normalization_plans as plans
from minigrad.kernels.cuda.launch import (
    compute_capability,
    here,
    kernel,
    multiprocessors,
    pointer,
    shared_limit,
    takes,
)
from minigrad.kernels.cuda.normalization_plans import Gpu, Plan, Sets
from minigrad.kernels.registry import accelerates
from minigrad.ops.normalization_texts import (
    ActivatedBatchNorm,
    BatchNorm,
    BatchNormInference,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    ResidualBatchNorm,
    RMSNorm,
)

FLOAT = np.dtype(np.float32)


# ------------------------------------------------------------------ what can be taken


def _plain(*arrays: Any) -> bool:
    """Whether all are absent, or as `takes` wants them: gradients, residuals and results are of x's shape."""
    return takes(*[a for a in arrays if a is not None])


def _parameters(*arrays: Any) -> bool:
    """Whether all are absent or float32."""
    return here(*arrays) and all(a is None or (a.dtype == FLOAT and a.flags.c_contiguous) for a in arrays)


def _gpu(x: Any) -> Gpu:
    return Gpu(multiprocessors(x), shared_limit(x), 8 if compute_capability(x) >= 90 else 1)


def _run(plan: Plan, name: str, *arguments: Any) -> None:
    """Launch the kernel `name` of a plan's source."""
    kernel(plan.file, name, plan.shared, **plan.macros)(plan.grid, plan.block, arguments, shared_mem=plan.shared)


def _planned(op: Any, sets: Sets, arrays: int, *seen: Any) -> Plan | None:
    """The plan for an operation on arrays of x's shape, so many of which shared memory keeps; None if none fits."""
    dtype, activation, gpu = seen[0].dtype.name, getattr(op, "activation", ""), _gpu(seen[0])
    if sets.layout == "column":
        return plans.column(sets, dtype, activation, gpu)
    if sets.layout == "row":
        return plans.row(sets, dtype, plans.width(sets.channels, *seen), arrays, op.centred, gpu)
    return plans.segmented(sets, dtype, plans.width(sets.places, *seen), arrays, activation, gpu)


# ------------------------------------------------------------------ forward


def _forward(op: Any, x: Any, weight: Any, bias: Any, residual: Any = None) -> Any:
    """(y, statistics (3, …)); NotImplemented where no kernel fits."""
    if not _plain(x, residual) or not _parameters(weight, bias):
        return NotImplemented
    import cupy

    sets = plans.view(op.__class__, op.axes, x.shape)
    y = cupy.empty_like(x)
    plan = _planned(op, sets, 1, *(a for a in (x, y, residual) if a is not None))
    if plan is None:
        return NotImplemented
    op._remember(weight, bias)
    statistics = cupy.empty((3, *(1 if a in op.axes else n for a, n in enumerate(x.shape))), np.float32)
    found = y, statistics[0], statistics[1], statistics[2]
    if sets.layout == "row":
        _run(plan, "row_forward", x, pointer(weight), pointer(bias), *found, np.int32(sets.sets), np.int32(plan.packs),
             float(op.eps))
        return found
    arguments = x, pointer(residual), pointer(weight), pointer(bias), *found
    sizes = np.int32(sets.segments), np.int32(sets.channels)
    if sets.layout == "column":
        _run(plan, "column_forward", *arguments, *sizes, float(op.eps))
    else:
        _run(plan, f"forward_{'staged' if plan.shared else 'reread'}", *arguments, np.int32(sets.sets), *sizes,
             np.int32(plan.packs), float(op.eps))
    return found


@accelerates(BatchNorm, "forward", device="cuda")
@accelerates(ActivatedBatchNorm, "forward", device="cuda")
@accelerates(LayerNorm, "forward", device="cuda")
@accelerates(GroupNorm, "forward", device="cuda")
@accelerates(InstanceNorm, "forward", device="cuda")
def forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them."""
    return _forward(op, x, weight, bias)


@accelerates(ResidualBatchNorm, "forward", device="cuda")
def residual_forward(op: Any, x: Any, weight: Any, bias: Any, residual: Any) -> Any:
    """(y, mean, variance, rstd), as the text gives them."""
    return _forward(op, x, weight, bias, residual)


@accelerates(RMSNorm, "forward", device="cuda")
def rms_forward(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    """(y, mean square, its inverse root), as the text gives them."""
    found = _forward(op, x, weight, bias)
    return found if found is NotImplemented else (found[0], *found[2:])


# ------------------------------------------------------------------ backward


def _backward(op: Any, x: Any, y: Any, weight: Any, mean: Any, rstd: Any, needs: Any, gy: Any,
              gresidual: bool = False) -> Any:
    """(gx, gweight, gbias, gresidual); NotImplemented where no kernel fits. `y` is what a fused activation gave."""
    if not needs[0] or gy.dtype != x.dtype or not here(gy) or not _plain(x, y) or not _parameters(weight, mean, rstd):
        return NotImplemented
    import cupy

    gy = cupy.ascontiguousarray(gy)  # such as one that was spread over places
    sets = plans.view(op.__class__, op.axes, x.shape)
    gx = cupy.empty_like(x)
    plan = _planned(op, sets, 2, *(a for a in (x, gy, y) if a is not None))
    if plan is None:
        return NotImplemented
    more = None
    if sets.layout in ("row", "group"):
        gweight, gbias = _backward_by_parts(plan, sets, x, gy, weight, mean, rstd, gx, needs)
    else:
        more = cupy.empty_like(x) if gresidual else None
        gweight, gbias = (cupy.empty(sets.channels, np.float32) if need else None for need in needs[1:3])
        arguments = (x, gy, pointer(y), pointer(weight), mean, rstd, gx, pointer(more), pointer(gweight),
                     pointer(gbias))
        sizes = np.int32(sets.segments), np.int32(sets.channels)
        if sets.layout == "column":
            _run(plan, "column_backward", *arguments, *sizes)
        else:
            _run(plan, f"backward_{'staged' if plan.shared else 'reread'}", *arguments, np.int32(sets.sets), *sizes,
                 np.int32(plan.packs), np.int32(plan.kept))
    return gx, *(None if g is None else g.reshape(op._parameter) for g in (gweight, gbias)), more


def _backward_by_parts(plan: Plan, sets: Sets, x: Any, gy: Any, weight: Any, mean: Any, rstd: Any, gx: Any,
                       needs: Any) -> tuple[Any, Any]:
    """gx by the kernels of rows and groups, and the sums of what their blocks found for the parameters."""
    import cupy

    rows = plan.grid[0] if sets.layout == "row" else (
        sets.sets * sets.segments // sets.channels * plan.macros["BLOCKS"])
    partial = cupy.empty((2, rows, sets.channels), np.float32) if needs[1] or needs[2] else None
    arguments = x, gy, pointer(weight), pointer(mean), rstd, gx, pointer(partial)
    if sets.layout == "row":
        _run(plan, "row_backward", *arguments, np.int32(sets.sets), np.int32(plan.packs))
    else:
        _run(plan, f"grouped_backward_{'staged' if plan.shared else 'reread'}", *arguments, np.int32(sets.sets),
             np.int32(sets.segments), np.int32(sets.channels), np.int32(plan.packs), np.int32(plan.kept))
    return _summed(partial, needs[1:3])


def _summed(partial: Any, needs: Any) -> tuple[Any, Any]:
    """The sums over the rows of (2, rows, C), as far as they are needed."""
    if partial is None:
        return None, None
    import cupy

    _, rows, columns = partial.shape
    found = cupy.empty((2, columns), np.float32)
    _run(plans.sums(columns), "sum_of_columns", partial, found, np.int32(rows), np.int32(columns))
    return (found[0] if needs[0] else None), (found[1] if needs[1] else None)


@accelerates(BatchNorm, "backward", device="cuda")
@accelerates(ActivatedBatchNorm, "backward", device="cuda")
@accelerates(LayerNorm, "backward", device="cuda")
@accelerates(GroupNorm, "backward", device="cuda")
@accelerates(InstanceNorm, "backward", device="cuda")
def backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> Any:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    if gy is None or any(g is not None for g in others):
        return NotImplemented
    x, weight, mean, rstd, *activated = saved
    found = _backward(op, x, activated[0] if activated else None, weight, mean, rstd, needs, gy)
    return found if found is NotImplemented else found[:3]


@accelerates(ResidualBatchNorm, "backward", device="cuda")
def residual_backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> Any:
    """(gx, gweight, gbias, gresidual), as the text gives them where only y has a gradient."""
    if gy is None or any(g is not None for g in others):
        return NotImplemented
    x, weight, mean, rstd, y = saved
    return _backward(op, x, y, weight, mean, rstd, needs, gy, gresidual=needs[3])


@accelerates(RMSNorm, "backward", device="cuda")
def rms_backward(op: Any, saved: Any, needs: Any, gy: Any, *others: Any) -> Any:
    """(gx, gweight, gbias), as the text gives them where only y has a gradient."""
    if gy is None or any(g is not None for g in others):
        return NotImplemented
    x, weight, rstd = saved
    found = _backward(op, x, None, weight, None, rstd, needs, gy)
    return found if found is NotImplemented else found[:3]


# ------------------------------------------------------------------ evaluation


def _affine(plan: Plan, sets: Sets, eps: float, x: Any, mean: Any, variance: Any, weight: Any, bias: Any) -> Any:
    """γ·(x − μ)·r + β, with 0 for an absent μ or β."""
    import cupy

    y = cupy.empty_like(x)
    _run(plan, "affine", x, pointer(mean), variance, pointer(weight), pointer(bias), y,
         np.int32(x.size // plan.macros["VEC"]), np.int32(plan.packs), np.int32(sets.channels), np.float32(eps))
    return y


def _affine_plan(x: Any, reducing: bool, *others: Any) -> tuple[Plan, Sets]:
    """The plan, and the channels that it sees; sums of columns are taken element by element."""
    sets = plans.view(BatchNorm, (), x.shape)
    columns = sets.layout == "column"
    wide = 1 if reducing and columns else plans.width(sets.channels if columns else sets.places, x, *others)
    return plans.affine(sets, x.dtype.name, wide, reducing, _gpu(x)), sets


@accelerates(BatchNormInference, "forward", device="cuda")
def inference_forward(op: Any, x: Any, mean: Any, variance: Any, weight: Any, bias: Any) -> Any:
    """y, as the text gives it."""
    if not _plain(x) or not _parameters(mean, variance, weight, bias):
        return NotImplemented
    return _affine(*_affine_plan(x, False), op.eps, x, mean, variance, weight, bias)


@accelerates(BatchNormInference, "backward", device="cuda")
def inference_backward(op: Any, saved: Any, needs: Any, gy: Any) -> Any:
    """(gx, None, None, gweight, gbias), as the text gives them; gradients of the statistics are left to it."""
    import cupy

    x, mean, variance, weight = saved
    if needs[1] or needs[2] or not _parameters(mean, variance, weight):
        return NotImplemented
    gy = cupy.ascontiguousarray(gy)
    if not (needs[3] or needs[4]):
        if not _plain(gy):
            return NotImplemented
        return _affine(*_affine_plan(gy, False), op.eps, gy, None, variance, weight, None), None, None, None, None
    if x is None or not _plain(x, gy):
        return NotImplemented
    plan, sets = _affine_plan(x, True, gy)
    gx = cupy.empty_like(x) if needs[0] else None
    partial = cupy.empty((2, plan.grid[1], sets.channels), np.float32)
    _run(plan, "affine_backward", x, gy, mean, variance, pointer(weight), pointer(gx), partial, np.int32(sets.segments),
         np.int32(plan.packs), np.int32(sets.channels), np.float32(op.eps))
    return gx, None, None, *_summed(partial, needs[3:5])
