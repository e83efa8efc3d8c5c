"""What the Angiography module does with a run in the scene, without a panel. Inside Slicer only."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from SplatomyLib.actions import Actions, is_chosen

TRAINED = "dynamic_vessels"
"""The method that has steps."""


class AngiographyActions(Actions):
    """Loading of angiography runs and their reconstruction."""

    def __init__(self, session: Any) -> None:
        super().__init__(session, _("Load a run first."))

    def options(self, parameters: Any) -> dict[str, Any]:
        """The input's options, as the job file names them."""
        files = {"geometry": parameters.geometryPath, "mask": parameters.maskRunPath}
        found: dict[str, Any] = {name: str(path) for name, path in files.items() if is_chosen(path)}
        if parameters.binning > 1:
            found["bin"] = parameters.binning
        return found

    def reconstruct(self, parameters: Any, over: Any) -> Any:
        """Starts a run of the shown input."""
        steps = parameters.steps if parameters.method == TRAINED else 0
        return self.start(
            parameters, over, method=parameters.method, config={"steps": steps} if steps else {},
            options=self.options(parameters), views=parameters.views or None,
        )  # fmt: skip
