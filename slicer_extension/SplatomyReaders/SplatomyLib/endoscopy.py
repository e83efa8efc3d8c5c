"""What the Endoscopy module does with a clip in the scene, without a panel. Inside Slicer only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from SplatomyLib.actions import Actions, is_chosen
from SplatomyLib.bridge_case import CASE, INPUT
from SplatomyLib.bridge_inputs import (
    case_of_input,
    changed_frames,
    masks_of_input,
    parts_of,
    remember_masks,
    save_input_masks,
    take_masks,
)
from SplatomyLib.bridge_masks import read_stack, set_state, stack_masks
from SplatomyLib.bridge_nodes import world_transform
from SplatomyLib.casefile import is_case, open_case
from SplatomyLib.files import UnusableFile
from SplatomyLib.geometry import World
from SplatomyLib.logic import new_run_folder
from SplatomyLib.protocol import JobSpec, State


class EndoscopyActions(Actions):
    """Loading, masks and reconstruction of clips."""

    def __init__(self, session: Any) -> None:
        super().__init__(session, _("Load a clip first."))
        self._asked = 0

    def options(self, parameters: Any) -> dict[str, Any]:
        """The chosen frames, as the job file names them; none when all are wanted."""
        first, last, step = parameters.firstFrame, parameters.lastFrame, parameters.frameStep
        return {} if (first, last, step) == (0, 0, 1) else {"frames": [first, last or None, step]}

    def words(self, parameters: Any) -> list[str]:
        """The same, as the engine's command line names them."""
        first, last, step = parameters.firstFrame, parameters.lastFrame, parameters.frameStep
        return ["--frames", f"{first}:{last or ''}:{step}"] if self.options(parameters) else []

    def load(self, parameters: Any, done: Any, failed: Any) -> Any:
        """Has the clip unpacked and brings it into the scene."""
        source = Path(parameters.inputPath)
        # A case holds its own options.
        words = [] if is_case(source) else self.words(parameters)

        def loaded(found: Any) -> None:
            if "masks" in found.nodes:
                remember_masks(found.nodes["browser"])
            done(found)

        return self._session.logic.unpack(source, self._session.new_folder("frames"), loaded, failed, words)

    def has_masks(self, browser: Any) -> bool:
        """True for a clip that was loaded by this module."""
        return "masks" in parts_of(browser)

    def mask_node(self, browser: Any) -> Any:
        """The segmentation of the frame that is shown."""
        return browser.GetProxyNode(parts_of(browser)["masks"])

    def picture_node(self, browser: Any) -> Any:
        """The frame that is shown."""
        return browser.GetProxyNode(parts_of(browser)["frames"])

    def case_folder(self, parameters: Any) -> Path:
        """The case that the shown clip's masks belong to, or would be made in."""
        source = Path(parameters.browser.GetAttribute(INPUT))
        return case_of_input(parameters.browser) or Path(parameters.outputFolder) / f"{source.stem}.splatomy"

    def make_masks(self, parameters: Any, propagate: bool, told: Any) -> Any:
        """Has the engine propose masks, or carry the reviewed ones on; a person's masks are saved before.

        Raises:
            UnusableFile: the masks in the scene cannot be read or saved.
        """
        browser = parameters.browser
        case = self.case_folder(parameters)
        if case_of_input(browser) is not None:
            save_input_masks(browser)
            words = ["masks", str(case), "--out", str(case)]
        else:
            # What cannot be kept afterwards is said before the engine works.
            masks_of_input(browser)
            words = ["masks", browser.GetAttribute(INPUT), "--out", str(case), *self.words(parameters)]
        if propagate:
            words.append("--propagate")

        def over(run: Any) -> None:
            if run.job.state is not State.DONE:
                told(run.job.text(self._session.logic.now_s()))
                return
            try:
                self._take_proposals(browser, case)
            except UnusableFile as error:
                told(str(error))
            else:
                told(self.review_text(browser))

        return self._session.logic.command(_("Masks"), words, over)

    def _take_proposals(self, browser: Any, case: Path) -> None:
        """Brings the engine's masks into the scene, but not over those that a person painted meanwhile."""
        mine, my_states = masks_of_input(browser)
        # Painted before there was a case, or while the engine worked.
        kept = changed_frames(browser)
        opened = open_case(case)
        masks, states = opened.masks.copy(), list(opened.states)
        for number in kept:
            masks[number], states[number] = mine[number], my_states[number]
        take_masks(slicer.mrmlScene, browser, masks, states)
        browser.SetAttribute(CASE, str(case))
        remember_masks(browser)
        if kept:
            save_input_masks(browser)

    def review_text(self, browser: Any) -> str:
        """How far the review is."""
        masks, states = masks_of_input(browser)
        share = 100 * float(masks.mean()) if masks.size else 0.0
        return _("{confirmed} of {count} frames confirmed; {share:.1f} % of the pictures is hidden.").format(
            confirmed=states.count("confirmed"), count=len(states), share=share
        )

    def confirm(self, browser: Any, everything: bool) -> None:
        """Marks the shown frame's mask, or those of all frames, as right.

        Raises:
            UnusableFile: a mask cannot be read; none is marked.
        """
        masks_of_input(browser)
        sequence = parts_of(browser)["masks"]
        set_state(self.mask_node(browser), "confirmed")
        if everything:
            for number in range(sequence.GetNumberOfDataNodes()):
                set_state(sequence.GetNthDataNode(number), "confirmed")

    def save_masks(self, browser: Any) -> int:
        """Writes the masks into their case; how many frames changed."""
        return save_input_masks(browser)

    def to_stack(self, browser: Any) -> tuple[Any, Any]:
        """All frames as a volume, and their masks as its segmentation."""
        masks, _states = masks_of_input(browser)
        return stack_masks(slicer.mrmlScene, browser, masks, browser.GetName())

    def from_stack(self, browser: Any, stack: tuple[Any, Any]) -> None:
        """Brings a stack's masks back to the frames; those that changed count as edited."""
        before, states = masks_of_input(browser)
        volume, segmentation = stack
        masks = read_stack(segmentation, before.shape)
        changed = (masks != before).any((1, 2))
        found = ["edited" if differs else state for differs, state in zip(changed, states)]
        take_masks(slicer.mrmlScene, browser, masks, found)
        for node in (segmentation, volume):
            slicer.mrmlScene.RemoveNode(node)

    def reconstruct(self, parameters: Any, over: Any) -> Any:
        """Starts a run of the shown clip, with the masks as they are in the scene.

        Raises:
            UnusableFile: masks were changed that belong to no case.
        """
        browser = parameters.browser
        config = {"steps": parameters.steps} if parameters.steps else {}
        case = case_of_input(browser)
        if case is not None:
            save_input_masks(browser)
            return self.start(parameters, over, case, config=config)
        if changed_frames(browser):
            raise UnusableFile(
                _("Masks were changed, but they belong to no case yet. Use Propose first: it makes one and "
                  "keeps your changes.")
            )  # fmt: skip
        return self.start(parameters, over, config=config, options=self.options(parameters))

    def live(self, parameters: Any, over: Any) -> Any:
        """Starts a live session; it gets a transform of its own, since nothing was loaded before.

        Raises:
            UnusableFile: no source or no folder was chosen.
        """
        text = parameters.liveSource.strip()
        if not text:
            raise UnusableFile(
                _("Name a source first: a video or folder, folder:PATH, camera:0 or rtsp://host/stream.")
            )
        if not is_chosen(parameters.outputFolder):
            raise UnusableFile(_("Choose a folder for the runs first."))
        named = text.startswith(("camera:", "rtsp://", "rtsps://"))
        stem = "live" if named else f"{Path(text.removeprefix('folder:')).stem}-live"
        spec = JobSpec(
            text, new_run_folder(Path(parameters.outputFolder), stem), method="live_scene",
            device=parameters.device, live={"rate": "real"},
        )  # fmt: skip
        world = World("first camera", metric=False)
        transform = world_transform(slicer.mrmlScene, world, spec.out.name)
        return self._session.logic.reconstruct(spec, world, transform, True, over)

    def tell(self, run: Any, name: str, **fields: Any) -> str:
        """Sends a surgeon's command to a session; its id, by which ``run.job.commands`` answers."""
        self._asked += 1
        identifier = f"slicer-{self._asked}"
        run.runner.ask(name, id=identifier, **fields)
        return identifier
