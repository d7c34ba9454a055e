"""The sweep as tables and as sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.sweep import Outcome

#: Attribute, title, format: what a table is made of.
TABLES = (
    ("seen_pct", "Landmarks in the picture, %", "{:.0f}"),
    ("focal_err_pct", "Focal length error, %", "{:+.1f}"),
    ("gravity_err_deg", "Gravity error, degrees", "{:.1f}"),
    ("height_err_m", "Camera height error, m", "{:+.2f}"),
    ("mpjpe_mm", "MPJPE, mm", "{:.0f}"),
    ("wmpjpe_mm", "W-MPJPE, mm", "{:.0f}"),
    ("root_err_mm", "Root path error, mm", "{:.0f}"),
)
#: Cells in which at least this share of the landmarks is in the picture count as whole people.
WHOLE_PCT = 90.0
#: What each mode must hold, by attribute: the size of the error above which a cell has broken.
EXACT = {"focal_err_pct": 1.0, "gravity_err_deg": 0.5, "mpjpe_mm": 5.0}
NOISY = {"focal_err_pct": 15.0, "gravity_err_deg": 5.0, "height_err_m": 0.20}
_NAMES = {"focal_err_pct": "focal length within {:g} %", "gravity_err_deg": "gravity within {:g} degrees",
          "mpjpe_mm": "joints within {:g} mm", "height_err_m": "camera height within {:g} m"}  # fmt: skip


def report(outcomes: Sequence[Outcome], noisy: bool) -> Iterator[str]:
    """The lines to print."""
    yield f"{'Noisy' if noisy else 'Exact'} landmarks, {len(outcomes)} cells."
    for attribute, title, form in TABLES:
        yield ""
        yield from table(outcomes, attribute, title, form)
    yield ""
    yield from conclusions(outcomes, noisy)


def axes_of(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float], list[float]]:
    """Focal lengths, pitches and distances that there are."""
    return (
        sorted({o.focal for o in outcomes}),
        sorted({o.pitch_deg for o in outcomes}),
        sorted({o.distance_m for o in outcomes}),
    )


def table(outcomes: Sequence[Outcome], attribute: str, title: str, form: str) -> Iterator[str]:
    """One line a focal length, one column a distance and pitch."""
    focals, pitches, distances = axes_of(outcomes)
    at = {(o.focal, o.pitch_deg, o.distance_m): getattr(o, attribute) for o in outcomes}
    known = np.abs([v for v in at.values() if v is not None])
    middle = f"median of sizes {np.median(known):.3g}, worst {known.max():.3g}" if known.size else "nothing known"
    yield f"{title} ({middle})"
    width = 6 * len(pitches) + 2
    yield "         " + "".join(f"{f'{d:g} m':^{width}}" for d in distances)
    yield " f/height" + "  ".join("".join(f"{f'{p:+.0f}°':>6}" for p in pitches) for _ in distances)
    for focal in focals:
        cells = ("".join(_cell(at.get((focal, p, d)), form) for p in pitches) for d in distances)
        yield f"{focal:>9.2f}" + "  ".join(cells)


def _cell(value: float | None, form: str) -> str:
    return f"{'-' if value is None else form.format(value):>6}"


def conclusions(outcomes: Sequence[Outcome], noisy: bool) -> Iterator[str]:
    """Sentences: what holds over whole people, where it breaks, and whether the spreads are honest."""
    whole = [o for o in outcomes if o.seen_pct >= WHOLE_PCT]
    lost = sum(o.mpjpe_mm is None for o in outcomes)
    yield (f"{len(whole)} cells show at least {WHOLE_PCT:.0f} % of the landmarks, {len(outcomes) - len(whole) - lost} "
           f"cut people off, in {lost} nobody can be recovered.")  # fmt: skip
    for attribute, most in (NOISY if noisy else EXACT).items():
        for name, group in (("whole people", whole), ("people cut off", _cut_off(outcomes))):
            values = [(abs(v), o) for o in group if (v := getattr(o, attribute)) is not None]
            if values:
                yield _sentence(attribute, most, name, values)
    yield from _where_it_breaks(whole, noisy)
    for name in ("focal", "gravity", "height"):
        for group_name, group in (("whole people", whole), ("people cut off", _cut_off(outcomes))):
            within = [w for o in group if (w := getattr(o, f"{name}_within")) is not None]
            if within:
                share = 100 * np.mean(within)
                verdict = "honest" if share >= 80 else "too small"
                yield (f"The {name} spread is {verdict} for {group_name}: the truth lies within two spreads in "
                       f"{share:.0f} % of {len(within)} cells.")  # fmt: skip
    if noisy and whole:
        raw, pa = (np.median([getattr(o, k) for o in whole]) for k in ("raw_mpjpe_mm", "raw_pa_mpjpe_mm"))
        ours = np.median([o.mpjpe_mm for o in whole if o.mpjpe_mm is not None])
        yield f"MPJPE of whole people: raw landmarks {raw:.0f} mm ({pa:.0f} after Procrustes), recovered {ours:.0f} mm."


def _cut_off(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.seen_pct < WHOLE_PCT]


def _sentence(attribute: str, most: float, name: str, values: Sequence[tuple[float, Outcome]]) -> str:
    sizes = np.array([v for v, _ in values])
    worst = max(values, key=lambda pair: pair[0])[1]
    what = _NAMES[attribute].format(most)
    return (
        f"{what[0].upper()}{what[1:]} in {100 * np.mean(sizes <= most):.0f} % of the cells with {name} (median "
        f"{_short(np.median(sizes))}); worst {_short(sizes.max())} at f {worst.focal:g} x height, "
        f"pitch {worst.pitch_deg:+.0f}°, {worst.distance_m:g} m."
    )


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _where_it_breaks(whole: Sequence[Outcome], noisy: bool) -> Iterator[str]:
    """For each axis, its values at which the median error of whole people is beyond the bound."""
    axes: tuple[tuple[str, Callable[[Outcome], float], str], ...] = (
        ("focal length (x height)", lambda o: o.focal, "{:g}"),
        ("pitch", lambda o: o.pitch_deg, "{:+.0f}°"),
        ("distance", lambda o: o.distance_m, "{:g} m"),
    )
    for attribute, most in (NOISY if noisy else EXACT).items():
        beyond, among = [], 0
        for name, of, form in axes:
            for value in sorted({of(o) for o in whole}):
                sizes = [abs(v) for o in whole if of(o) == value and (v := getattr(o, attribute)) is not None]
                among += bool(sizes)
                if sizes and np.median(sizes) > most:
                    beyond.append(f"{name} {form.format(value)} ({_short(np.median(sizes))})")
        where = "nowhere" if not beyond else "everywhere" if len(beyond) == among else ", ".join(beyond)
        yield f'Where the median breaks "{_NAMES[attribute].format(most)}": {where}.'
