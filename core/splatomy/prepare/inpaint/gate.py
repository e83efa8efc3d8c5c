"""How well an inpainter does on this very clip: holes of other places cut into tissue that is visible.

There the truth is known, so the error in such a transplanted hole is what to expect of the real ones, and two
inpainters can be compared without any other data. A transplant is a run of consecutive frames, in which the
hole moves along time as the instruments do: tissue stays hidden for as long as behind the real ones. Both
kinds of holes together leave less to fill them from, and what they are compared with has noise: the forecast
is as a rule some dB below what the real holes turn out to have.

    trials = transplants(images, occluded, seed)
    error = yield from score(inpaint_frames, images, occluded, trials)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import check_shapes
from splatomy.events import Notice, Task
from splatomy.prepare.inpaint.fields import Bool, Float32, grown
from splatomy.prepare.inpaint.provenance import Inpainting

Inpainter = Callable[[Float32, Bool, NDArray[np.integer] | None], Task[Inpainting]]
"""images (T, H, W, 3), what is hidden (T, H, W), which frames are wanted (None = all) -> the filled clip."""

_RIM_PX = 3
_LEAST_SHARE = 0.002
"""Share of a frame's pixels from which a transplanted hole is worth scoring."""
_RUN_FRAMES, _RUN_BYTES = 64, 2**30
"""A transplant's most frames, and the memory they may take: a shorter run lacks the frames that show what is
behind a hole, and forecasts more error than the clip will have."""
_FRAMES_PER_SCORED = 16


@dataclass(frozen=True)
class Transplant:
    """Holes cut into a run of consecutive frames.

    frames: (F,) consecutive numbers of frames of the clip. extra: (F, H, W), True = visible tissue that shall
        count as hidden too. scored: (S,) places in ``frames`` of those that are filled and compared with the
        truth; the holes of the others only take tissue away, as real instruments do.
    """

    frames: NDArray[np.int64]
    extra: Bool
    scored: NDArray[np.int64]


@dataclass(frozen=True)
class HoleError:
    """What to expect in the holes of a clip.

    psnr_db: over all transplanted pixels, NaN when nothing could be transplanted. psnr_per_frame_db: (F,)
    in the order of ``frames`` (F,). num_pixels: scored ones.
    """

    psnr_db: float
    psnr_per_frame_db: NDArray[np.float64]
    frames: NDArray[np.int64]
    num_pixels: int


@dataclass(frozen=True)
class Verdict:
    """Which of two inpainters is better on a clip, with both errors; chosen: 0 or 1."""

    chosen: int
    errors: tuple[HoleError, HoleError]

    @property
    def text(self) -> str:
        """The decision in one sentence."""
        first, second = (error.psnr_db for error in self.errors)
        taken = ("first", "second")[self.chosen]
        return (
            f"Held-out holes: {first:.2f} dB with the first, {second:.2f} dB with the second; {taken} kept."
        )


def transplants(
    images: Float32, occluded: Bool, seed: int = 0, num_scored: int | None = None, outside: Bool | None = None
) -> list[Transplant]:
    """Runs of frames with holes cut into visible tissue, shaped and moving as the real ones.

    A run's holes are the clip's own masks of the same frames, mirrored left to right, upside down or both,
    and perhaps backwards in time: whichever of these, drawn by ``seed``, covers much visible tissue. So they
    enter from the border, move and hide for as long as the real ones do. The rims of real holes are left
    out: they are not pure tissue.

    images: (T, H, W, 3). occluded: (T, H, W). outside: (H, W), True = no tissue there; None = nowhere.
    seed: another one draws other mirrored masks and other scored frames.
    num_scored: frames scored in all, None = one of 16 frames, at least 3.

    Source: held-out test with foreign masks, as in the video inpainting literature; the choice is ours.
    """
    check_shapes(images=(images, "T H W 3"), occluded=(occluded, "T H W"))
    num_frames = len(occluded)
    if num_frames < 2 or not occluded.any():
        return []
    generator = np.random.default_rng(seed)
    wanted = max(3, num_frames // _FRAMES_PER_SCORED) if num_scored is None else num_scored
    per_frame = int(np.prod(images.shape[1:])) * 4
    most = min(_RUN_FRAMES, _RUN_BYTES // per_frame)
    length = min(max(8, most), num_frames)
    num_runs = min(wanted, 3, max(1, num_frames // (4 * length)))
    found = []
    for run in range(num_runs):
        start = round((num_frames - length) * (run + 0.5) / num_runs)
        frames = np.arange(start, start + length)
        extra = _mirrored(occluded[frames], outside, generator)
        scored = _scored(extra, wanted // num_runs + (run < wanted % num_runs), generator)
        if len(scored):
            found.append(Transplant(frames, extra, scored))
    return found


def _mirrored(occluded: Bool, outside: Bool | None, generator: np.random.Generator) -> Bool:
    """Holes (F, H, W) in visible tissue: mirrored masks that cover much of it, with a random preference."""
    real = np.stack([grown(hidden, _RIM_PX) for hidden in occluded])
    if outside is not None:
        real |= grown(outside, _RIM_PX)
    best, most = np.zeros(real.shape, np.bool_), -1.0
    for axes in ((2,), (1,), (1, 2), (0,), (0, 2), (0, 1), (0, 1, 2)):
        holes = np.flip(occluded, axes) & ~real
        covered = float(np.count_nonzero(holes)) * generator.uniform(0.5, 1.0)
        if covered > most:
            best, most = holes, covered
    return best


def _scored(extra: Bool, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of ``wanted`` frames with holes worth scoring, one drawn from each equal part of the run."""
    worth = np.flatnonzero(extra.sum((1, 2)) >= _LEAST_SHARE * extra[0].size)
    parts = np.array_split(worth, min(wanted, len(worth))) if len(worth) else []
    return np.array([generator.choice(part) for part in parts], np.int64)


def score(
    inpainter: Inpainter, images: Float32, occluded: Bool, trials: Sequence[Transplant]
) -> Task[HoleError]:
    """The error to expect in the holes of a clip with an inpainter, from transplanted holes.

    The inpainter gets each run of frames as a clip of its own, with the transplanted holes hidden and
    emptied, and is asked for the scored frames only.

    images: (T, H, W, 3). occluded: (T, H, W). trials: of ``transplants``.
    """
    squared, frames = [], []
    for trial in trials:
        hidden = occluded[trial.frames] | trial.extra
        truth = np.asarray(images[trial.frames], np.float32)
        # What lies under a transplant is taken away, lest an inpainter looks at it.
        emptied = np.where(trial.extra[..., None], np.float32(0), truth)
        found = yield from inpainter(emptied, hidden, trial.scored)
        for place in trial.scored:
            hole = trial.extra[place]
            error = found.images[place][hole] - truth[place][hole]
            squared.append((error**2).mean(-1, dtype=np.float64))
            frames.append(trial.frames[place])
    if not squared:
        text = "No hole could be tried on visible tissue; the error of the filling is unknown."
        yield Notice("warning", "no-transplants", text)
        return HoleError(float("nan"), np.zeros(0), np.zeros(0, np.int64), 0)
    per_frame = np.array([_db(float(values.mean())) for values in squared])
    everything = np.concatenate(squared)
    return HoleError(_db(float(everything.mean())), per_frame, np.array(frames, np.int64), everything.size)


def _db(mean_squared: float) -> float:
    return float(-10 * np.log10(mean_squared)) if mean_squared > 0 else float("inf")


def better_inpainter(
    images: Float32,
    occluded: Bool,
    first: Inpainter,
    second: Inpainter,
    gain_db: float = 0.2,
    trials: Sequence[Transplant] | None = None,
) -> Task[Verdict]:
    """The better of two inpainters on the same transplanted holes of a clip; trials: None = drawn here.

    The second is chosen only when it is better by at least ``gain_db``; the first, which should be the
    simpler one, also when nothing can be measured.
    """
    if trials is None:
        trials = transplants(images, occluded)
    errors = []
    for inpainter in (first, second):
        errors.append((yield from score(inpainter, images, occluded, trials)))
    chosen = int(errors[1].psnr_db >= errors[0].psnr_db + gain_db)
    verdict = Verdict(chosen, (errors[0], errors[1]))
    yield Notice("info", "inpainter-chosen", verdict.text)
    return verdict
