"""Pictures for the UI, as PNG bytes. matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _ACCENT, _WARM, _PALE, _UNKNOWN = "#1f2933", "#2563a8", "#c2410c", "#c9d6e4", "#d5d9de"
_MOST_BARS = 12
_COLOURS = 128
"""Of a picture's palette: a quarter of the bytes of one that has none, which every window's materialization keeps."""
_LETTER = 0.075
"""Width of a letter of 8 points, inches, on the generous side."""


def predicted_against_true(true: np.ndarray, predicted: np.ndarray, *, unit: str, title: str) -> bytes:
    """Points on a diagonal: (n,) true and predicted remaining useful life, in `unit`."""

    def draw(axes: Axes) -> None:
        limit = float(max(np.max(true, initial=1), np.max(predicted, initial=1)))
        axes.scatter(true, predicted, s=8, alpha=0.35, color=_ACCENT, linewidths=0)
        axes.plot([0, limit], [0, limit], color=_INK, linewidth=1.2, linestyle="--", label="exact")
        axes.legend(loc="upper left", frameon=False, fontsize=8)
        axes.set_aspect("equal")
        axes.set_xlabel(f"true remaining useful life ({unit}s)")
        axes.set_ylabel(f"predicted ({unit}s)")
        axes.set_title(title)

    return _png(draw, (5.2, 4.6))


def fleet_health(
    days: Sequence[Any], machines: Sequence[str], rul: np.ndarray, *, cap: float, unit: str, title: str
) -> bytes:
    """A row a machine, a column a day: (machines, days) remaining useful life; NaN where there was no answer."""
    from matplotlib.patches import Patch

    def draw(axes: Axes) -> None:
        # Red to blue, not to green: one man in twelve cannot tell red from green.
        axes.set_facecolor(_UNKNOWN)
        image = axes.imshow(
            rul, aspect="auto", interpolation="nearest", cmap="RdYlBu", vmin=0, vmax=cap, origin="upper"
        )
        axes.figure.colorbar(image, ax=axes, label=f"remaining useful life ({unit}s; {cap:g} = that or more)")
        if np.isnan(rul).any():
            axes.legend(
                handles=[Patch(facecolor=_UNKNOWN, edgecolor=_INK, label="no estimate")],
                loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=7,
            )  # fmt: skip
        columns = np.unique(np.linspace(0, len(days) - 1, min(len(days), 6)).astype(int))
        axes.set_xticks(columns, [str(days[i]) for i in columns], rotation=20, ha="right", fontsize=7)
        rows = np.unique(np.linspace(0, len(machines) - 1, min(len(machines), 30)).astype(int))
        axes.set_yticks(rows, [machines[i] for i in rows], fontsize=7)
        axes.set_title(title)

    return _png(draw, (8.4, max(2.6, min(7.0, 0.22 * len(machines) + 1.4))))


def prognoses_now(
    machines: Sequence[str], rul: np.ndarray, low: np.ndarray, high: np.ndarray, *, unit: str, title: str
) -> bytes:
    """Each machine's prognosis with its interval, the most urgent on top."""

    def draw(axes: Axes) -> None:
        order = np.argsort(-rul)
        place = np.arange(len(order))
        axes.hlines(place, low[order], high[order], color=_PALE, linewidth=5)
        axes.plot(rul[order], place, "o", color=_ACCENT, markersize=4)
        axes.set_yticks(place, [machines[i] for i in order], fontsize=7)
        axes.set_xlabel(f"remaining useful life ({unit}s), 90 % interval")
        axes.set_title(title)

    return _png(draw, (6.4, max(2.4, min(9.0, 0.2 * len(machines) + 1.2))), labels=machines)


def risks_now(machines: Sequence[str], risk: np.ndarray, act_above: np.ndarray, *, what: str, title: str) -> bytes:
    """Each machine's risk, and from which on to act, the highest on top."""

    def draw(axes: Axes) -> None:
        order = np.argsort(risk)
        place = np.arange(len(order))
        colours = [_WARM if risk[i] >= act_above[i] else _ACCENT for i in order]
        axes.barh(place, risk[order], color=colours)
        axes.plot(act_above[order], place, "|", color=_INK, markersize=6, label="act from here on")
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        axes.set_yticks(place, [machines[i] for i in order], fontsize=7)
        axes.set_xlabel(what)
        axes.set_title(title)

    return _png(draw, (6.4, max(2.4, min(9.0, 0.2 * len(machines) + 1.2))), labels=machines)


def risk_against_life(left: np.ndarray, risk: np.ndarray, *, unit: str, what: str, title: str) -> bytes:
    """Points: (n,) life that was left, as far as it is known, in `unit`, and the risk that a model told."""

    def draw(axes: Axes) -> None:
        axes.scatter(left, risk, s=8, alpha=0.35, color=_ACCENT, linewidths=0)
        axes.set_xlabel(f"life that was left, or more ({unit}s)")
        axes.set_ylabel(what)
        axes.set_title(title)

    return _png(draw, (5.2, 4.6))


def drivers(machine: str, sensors: Sequence[str], change: np.ndarray, *, of: str, worse_if_more: bool = False) -> bytes:
    """What an answer rests on: how much each sensor's present state moves it; `of` says what, and in which unit."""

    def draw(axes: Axes) -> None:
        order = np.argsort(np.abs(change))[-10:]
        colours = [_WARM if (change[i] > 0 if worse_if_more else change[i] < 0) else _ACCENT for i in order]
        axes.barh(np.arange(len(order)), change[order], color=colours)
        axes.set_yticks(np.arange(len(order)), [sensors[i] for i in order], fontsize=8)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_xlabel(f"change of the {of}")
        axes.set_title(f"What drives the prognosis of {machine}")

    return _png(draw, (6.0, 3.2), labels=sensors)


def interval_coverage(
    predicted: np.ndarray, share: np.ndarray, width: np.ndarray, *, promised: float, unit: str, title: str
) -> bytes:
    """How often the truth lay inside its interval, by band of predicted life, and how wide the intervals are.

    Args:
        predicted, share, width: (bands,) mean prediction in `unit`, share inside, mean width in `unit`.
        promised: the share that intervals are to hold.
    """

    def draw(axes: Axes) -> None:
        wide = axes.twinx()
        wide.bar(predicted, width, width=0.06 * max(float(np.ptp(predicted)), 1e-9) or 1, color=_PALE)
        wide.set_ylabel(f"mean width of the intervals ({unit}s)", color=_INK)
        wide.spines[["top"]].set_visible(False)
        axes.set_zorder(wide.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.plot(predicted, share, "o-", color=_ACCENT, markersize=4, linewidth=1.2)
        axes.axhline(promised, color=_INK, linewidth=1.2, linestyle="--", label=f"promised: {promised:.0%}")
        axes.set_ylim(0, 1.05)
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        axes.set_xlabel(f"predicted remaining useful life ({unit}s)")
        axes.set_ylabel("share of true values inside", color=_ACCENT)
        axes.set_title(title)

    return _png(draw, (6.0, 4.0))


def calibration(told: np.ndarray, share: np.ndarray, rows: Sequence[int], *, what: str, title: str) -> bytes:
    """How often it happened, by band of the probability that was given; `rows` says of how many readings each."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1.2, linestyle="--", label="as probable as told")
        axes.plot(told, share, "o-", color=_ACCENT, markersize=4, linewidth=1.2)
        for x, y, n in zip(told, share, rows, strict=True):
            axes.annotate(f"{n}", (x, y), xytext=(4, -10), textcoords="offset points", fontsize=7, color=_INK)
        axes.legend(loc="upper left", frameon=False, fontsize=8)
        axes.set_xlim(-0.02, 1.06)
        axes.set_ylim(-0.06, 1.04)
        axes.set_xlabel(f"{what}, mean of each band")
        axes.set_ylabel("share of readings after which it failed")
        axes.set_title(title)

    return _png(draw, (5.2, 4.6))


def false_alarms(score: np.ndarray, share: np.ndarray, *, promised: float, what: str, title: str) -> bytes:
    """Which share of normal readings is scored so high or higher, against the limit of alarm, 1."""

    def draw(axes: Axes) -> None:
        axes.plot(score, share, "o-", color=_ACCENT, markersize=4, linewidth=1.2)
        axes.axvline(1.0, color=_INK, linewidth=1.2, linestyle="--", label="limit of alarm")
        axes.plot([1.0], [promised], "_", color=_WARM, markersize=14, label=f"at most {promised:.0%} may alarm")
        axes.set_ylim(-0.02, 1.04)
        axes.legend(loc="upper right", frameon=False, fontsize=8)
        axes.set_xlabel(what)
        axes.set_ylabel("share of normal readings, this or more")
        axes.set_title(title)

    return _png(draw, (5.2, 4.0))


def feature_drift(sensors: Sequence[str], psi: np.ndarray, allowed: np.ndarray, *, title: str) -> bytes:
    """Each sensor's population stability index and how much is allowed of it, the worst on top."""

    def draw(axes: Axes) -> None:
        order = np.argsort(psi - allowed)[-_MOST_BARS:]
        place = np.arange(len(order))
        axes.barh(place, psi[order], color=[_WARM if psi[i] > allowed[i] else _ACCENT for i in order])
        axes.plot(allowed[order], place, "|", color=_INK, markersize=9)
        axes.set_yticks(place, [sensors[i] for i in order], fontsize=8)
        axes.set_xlim(0)
        axes.set_xlabel("population stability index  ( | = allowed)")  # a legend costs a fifth of the drawing
        axes.set_title(title, fontsize=9)

    return _png(draw, (6.0, max(2.0, 0.25 * min(len(sensors), _MOST_BARS) + 1.2)), labels=sensors)


def _png(draw: Any, size: tuple[float, float], *, labels: Sequence[str] = ()) -> bytes:
    """A picture of `size` in inches.

    Args:
        labels: of the rows, where there is nothing but rows: the margins are then known, and need not be found by
            drawing everything twice.
    """
    # The object interface, not pyplot: no global state, and no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    (wide, high), margin = size, _LETTER * max(map(len, labels), default=0) + 0.2
    known = bool(labels) and margin <= wide / 2
    figure = Figure(figsize=size, dpi=90, layout=None if known else "constrained")
    if known:
        figure.subplots_adjust(left=margin / wide, right=1 - 0.2 / wide, bottom=0.5 / high, top=1 - 0.35 / high)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    draw(axes)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    target = io.BytesIO()
    drawn.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(target, format="png")
    return target.getvalue()
