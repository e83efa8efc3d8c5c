"""What the Surface module does with the views of a still scene, without a panel. Inside Slicer only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from SplatomyLib.actions import Actions, is_chosen
from SplatomyLib.bridge_case import INPUT
from SplatomyLib.bridge_inputs import parts_of, picture_shape
from SplatomyLib.bridge_view_masks import VIEW_MASKS, are_changed, save_view_masks
from SplatomyLib.logic import masks_beside, new_run_folder

STAGES = {
    "pulled_surface": ("splat_steps", "joint_steps", "finish_steps"),
    "completed_object": ("coarse_steps", "fine_steps"),
}
"""The stages of each method, by the names of their steps."""


class SurfaceActions(Actions):
    """Loading of image sets and their reconstruction."""

    def __init__(self, session: Any) -> None:
        super().__init__(session, _("Load an image set first."))

    def options(self, parameters: Any) -> dict[str, Any]:
        """The input's options, as the job file names them."""
        return {"masks": str(parameters.masksPath)} if is_chosen(parameters.masksPath) else {}

    def reconstruct(self, parameters: Any, over: Any) -> Any:
        """Starts a run of the shown views, with the masks as they are in the scene.

        Raises:
            UnusableFile: masks were changed that the engine cannot take.
        """
        config = dict.fromkeys(STAGES[parameters.method], parameters.steps) if parameters.steps else {}
        stem = Path(parameters.browser.GetAttribute(INPUT)).stem
        out = new_run_folder(Path(parameters.outputFolder), stem)
        options = {**self.options(parameters), **self._painted(parameters.browser, masks_beside(out))}
        return self.start(parameters, over, out=out, method=parameters.method, config=config, options=options)

    def _painted(self, browser: Any, folder: Path) -> dict[str, Any]:
        """The options that bring masks to the engine which a person changed; they are kept in the folder."""
        sequence, shape = parts_of(browser).get(VIEW_MASKS), picture_shape(browser)
        if sequence is None or not are_changed(sequence, shape):
            return {}
        return save_view_masks(sequence, shape, folder)
