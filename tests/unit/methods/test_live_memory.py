"""A live map where memory ends: it stays whole, gets smaller settings, and keeps what it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from live_streams import observation, online_for, played
from torch.utils._python_dispatch import TorchDispatchMode

from splatomy.methods.live_scene.config import Config, halved
from splatomy.methods.live_scene.editing import edit_mask
from splatomy.methods.live_scene.frames import Observation
from splatomy.methods.live_scene.mapping import SurfelMap
from splatomy.methods.live_scene.online import Online
from splatomy.phantoms.stream import PRESETS, StreamPhantom

WIDE = replace(PRESETS["tiny"], width_px=128, height_px=104, disturbances=())
BENDING = Config(profile="deforming", steps_per_frame=2)


class EndsAt(TorchDispatchMode):
    """Memory that ends with a certain tensor that torch makes, and is free again after it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What changes a tensor in place, or shows a part of it, takes no memory.
        if not func._schema.is_mutable and not func.is_view:
            self.left -= 1
            if self.left == -1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def seen() -> tuple[StreamPhantom, list[Observation]]:
    phantom = StreamPhantom(WIDE, 0)
    return phantom, [observation(frame) for frame in phantom.frames(0, 12)]


@pytest.fixture(scope="module")
def mapped(seen: tuple[StreamPhantom, list[Observation]]) -> Online:
    phantom, frames = seen
    online = online_for(phantom, BENDING)
    played(online, frames[:4])
    return online


def again(online: Online, phantom: StreamPhantom, config: Config = BENDING) -> Online:
    copy = online_for(phantom, config)
    copy.restore(*online.state())
    return copy


def arrays_of(surfels: SurfelMap) -> dict[str, Any]:
    arrays, _ = surfels.state()
    return {name: array for name, array in arrays.items() if name != "in_front"}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def work(online: Online, frames: list[Observation], what: str) -> Callable[[], Any]:
    """One change of the map, whose memory may end anywhere."""
    online.observe(frames[4])
    current, surfels, motion = online.current, online.part.surfels, online.part.motion
    assert current is not None and surfels.store is not None
    if what == "drop":
        return lambda: surfels.drop(torch.arange(len(surfels)) % 3 == 0)
    if what == "learn":
        return lambda: surfels.learn(current.level, online.pose, 1.0, motion)
    surfels.drop(torch.arange(len(surfels)) % 3 > 0)
    return lambda: surfels.grow(current.level, online.pose, 1.0, motion, 2000)


@pytest.mark.parametrize("what", ["grow", "drop", "learn"])
def test_a_change_happens_altogether_or_not_at_all(
    mapped: Online, seen: tuple[StreamPhantom, list[Observation]], what: str
) -> None:
    phantom, frames = seen
    online = again(mapped, phantom)
    surfels, change = online.part.surfels, work(online, frames, what)
    before, ends, number = arrays_of(surfels), 0, 0
    trained = [f"parameter.{name}" for name in surfels.store.parameters] if surfels.store else []
    while True:
        mode = EndsAt(number)
        try:
            with mode:
                change()
            break
        except torch.OutOfMemoryError:
            now = arrays_of(surfels)
            # Of a step the moments may have taken something already, which moves nothing.
            names = trained if what == "learn" else list(before)
            assert all(np.array_equal(before[name], now[name]) for name in names), number
            assert {len(now[name]) for name in now if not name.startswith("step")} == {len(surfels)}
        number, ends = number + 1, ends + 1
    assert ends > 20
    assert not same(before, arrays_of(surfels))


def test_a_session_goes_on_with_half_wherever_memory_ends(
    mapped: Online, seen: tuple[StreamPhantom, list[Observation]]
) -> None:
    phantom, frames = seen
    with EndsAt(10**9) as mode:
        played(again(mapped, phantom), frames[4:5])
    total = 10**9 - mode.left
    assert total > 500
    # What is made once is made by now: a few tensors less.
    for number in np.linspace(0, 0.9 * total, 24).astype(int).tolist():
        online = again(mapped, phantom)
        with pytest.raises(torch.OutOfMemoryError), EndsAt(number):
            played(online, frames[4:5])
        before = arrays_of(online.part.surfels)
        smaller = halved(online.config, WIDE.width_px)
        assert smaller is not None
        online.go_on_with(smaller)
        assert same(before, arrays_of(online.part.surfels)), number
        outcomes = played(online, frames[5:7])
        assert [str(o.state) for o in outcomes] == ["ok", "ok"], number
        assert online.current is not None and online.current.level.size == (64, 52)


def test_a_map_beyond_its_budget_keeps_what_matters_most_as_it_is(
    mapped: Online, seen: tuple[StreamPhantom, list[Observation]]
) -> None:
    phantom, frames = seen
    online = again(mapped, phantom)
    store = online.part.surfels.store
    assert store is not None
    store.side["region"][:100] = 1.0
    before = arrays_of(online.part.surfels)
    budget = len(store) // 2
    online.go_on_with(replace(BENDING, max_surfels=budget))
    after = arrays_of(online.part.surfels)
    assert len(online.part.surfels) == budget
    place = {row.tobytes(): n for n, row in enumerate(before["parameter.means_mm"])}
    kept = np.array([place[row.tobytes()] for row in after["parameter.means_mm"]])
    rows = [name for name in before if not name.startswith("step")]
    assert all(np.array_equal(before[name][kept], after[name]) for name in rows)
    assert set(range(100)) <= set(kept.tolist())
    # A state from before is brought into the budget too.
    other = again(mapped, phantom, replace(BENDING, max_surfels=budget))
    assert len(other.part.surfels) == budget
    assert str(played(online, frames[4:5])[0].state) == "ok"


def test_keyframes_from_before_are_learnt_from_and_edited_at_their_own_size(
    mapped: Online, seen: tuple[StreamPhantom, list[Observation]]
) -> None:
    phantom, frames = seen
    online = again(mapped, phantom)
    smaller = halved(online.config, WIDE.width_px)
    assert smaller is not None
    online.go_on_with(smaller)
    outcomes = played(online, frames[4:])
    kept = online.part.keyframes.kept
    assert any(o.is_keyframe for o in outcomes)
    assert {k.size for k in kept} == {(128, 104), (64, 52)}
    assert np.isfinite(float(online.replay(kept[0])))
    usable = int(kept[0].usable.sum())
    polygon = np.array([[40.0, 40.0], [80.0, 40.0], [80.0, 70.0], [40.0, 70.0]])
    undo = edit_mask(online, kept[0].index, polygon, True)
    assert usable - int(online.part.keyframes.kept[0].usable.sum()) == pytest.approx(41 * 31, rel=0.2)
    undo()
    assert int(online.part.keyframes.kept[0].usable.sum()) == usable


def test_settings_are_halved_from_what_a_frame_has() -> None:
    config = Config()
    sizes = []
    while (smaller := halved(config, 160)) is not None:
        sizes.append((smaller.learn_px, smaller.track_px, smaller.max_surfels))
        config = smaller
    assert sizes == [(80, 80, 75_000)]
