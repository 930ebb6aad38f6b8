"""Work on many values at once inside of kernels, which the compiler does not find by itself.

It does not know that two arrays are apart, and it keeps the order of sums. Here sums run in `SUMS` lanes on each
machine, whatever its vectors hold, so that results do not depend on it. Nothing checks bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

COPIED = 32
"""Values that `copy_values` copies."""
SUMS = 16
"""Values that are added at once, each to a sum of its own."""


def _lanes(context: Any, builder: Any, kind: Any, array: Any, index: Any, count: int) -> Any:
    """Pointer to some values of an array from a position on."""
    data = context.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(context.get_data_type(kind.dtype), count)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _aligned(kind: Any) -> int:
    return int(kind.dtype.bitwidth) // 8


def _copy_values(_: Any, target: Any, at: Any, source: Any, begin: Any) -> Any:
    """Copy `COPIED` values of `source` from `begin` on to `target` from `at` on; both are of one type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        to = _lanes(context, builder, kind, arguments[0], arguments[1], COPIED)
        out_of = _lanes(context, builder, kind, arguments[2], arguments[3], COPIED)
        builder.store(builder.load(out_of, align=_aligned(kind)), to, align=_aligned(kind))
        return context.get_dummy_value()

    return types.void(target, at, source, begin), generate


def _over_blocks(
    context: Any, builder: Any, kind: Any, values: Any, blocks: Any, starts: list[Any], step: Callable[..., list[Any]]
) -> list[Any]:
    """Pass blocks of `SUMS` values through `step`, which takes what there is and the block; return what is left."""
    kept: list[Any] = [cgutils.alloca_once_value(builder, start) for start in starts]  # type: ignore[no-untyped-call]  # of numba
    with cgutils.for_range(builder, blocks) as loop:
        index = builder.mul(loop.index, ir.Constant(loop.index.type, SUMS))
        place = _lanes(context, builder, kind, values, index, SUMS)
        block = builder.load(place, align=_aligned(kind))
        for own, new in zip(kept, step([builder.load(own) for own in kept], block), strict=True):
            builder.store(new, own)
    return [builder.load(own) for own in kept]


def _wide(builder: Any, block: Any) -> Any:
    """Turn values into float64."""
    wide = ir.VectorType(ir.DoubleType(), SUMS)
    return block if block.type == wide else builder.fpext(block, wide)


def _lane_totals(_: Any, values: Any, blocks: Any, sums: Any, low: Any, high: Any) -> Any:
    """Sum, smallest and largest value of each lane of finite real values.

    `blocks` is the number of blocks of `SUMS` values; the last three, `SUMS` long, receive the results, `low` and
    `high` in the type of the values.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        own = ir.VectorType(context.get_data_type(kind.dtype), SUMS)
        wide = ir.VectorType(ir.DoubleType(), SUMS)
        starts = [ir.Constant(wide, [0.0] * SUMS), *(ir.Constant(own, [end] * SUMS) for end in (_INF, -_INF))]

        def step(kept: list[Any], block: Any) -> list[Any]:
            total, least, most = kept
            less, more = builder.fcmp_ordered("<", block, least), builder.fcmp_ordered(">", block, most)
            return [
                builder.fadd(total, _wide(builder, block)),
                builder.select(less, block, least),
                builder.select(more, block, most),
            ]

        found = _over_blocks(context, builder, kind, arguments[0], arguments[1], starts, step)
        zero = ir.Constant(arguments[1].type, 0)
        for value, target, array in zip(found, signature.args[2:], arguments[2:], strict=True):
            place = _lanes(context, builder, target, array, zero, SUMS)
            builder.store(value, place, align=_aligned(target))
        return context.get_dummy_value()

    return types.void(values, blocks, sums, low, high), generate


def _lane_squares(_: Any, values: Any, blocks: Any, mean: Any, sums: Any) -> Any:
    """Sum of squared deviations from a mean of each lane of real values; parameters as of `_lane_totals`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, target = signature.args[0], signature.args[3]
        wide = ir.VectorType(ir.DoubleType(), SUMS)
        mean_of_lanes: Any = ir.Constant(wide, ir.Undefined)
        for i in range(SUMS):
            mean_of_lanes = builder.insert_element(mean_of_lanes, arguments[2], ir.Constant(ir.IntType(32), i))

        def step(kept: list[Any], block: Any) -> list[Any]:
            away = builder.fsub(_wide(builder, block), mean_of_lanes)
            return [builder.fadd(kept[0], builder.fmul(away, away))]

        starts = [ir.Constant(wide, [0.0] * SUMS)]
        found = _over_blocks(context, builder, kind, arguments[0], arguments[1], starts, step)
        place = _lanes(context, builder, target, arguments[3], ir.Constant(arguments[1].type, 0), SUMS)
        builder.store(found[0], place, align=_aligned(target))
        return context.get_dummy_value()

    return types.void(values, blocks, mean, sums), generate


_INF = float("inf")

copy_values: Any = intrinsic(_copy_values)
lane_totals: Any = intrinsic(_lane_totals)
lane_squares: Any = intrinsic(_lane_squares)
