"""Actions of the angiography inspection page."""

from splatomy_gui.actions.registry import ActionSpec

_S = "angiography"

ANGIOGRAPHY: tuple[ActionSpec, ...] = (
    ActionSpec("angio_volume", "Slices and 3D", "Show three linked slices and the volume", ("1",), _S, "Inspect", "slices", True),
    ActionSpec("angio_projections", "Frames and C-arm", "Show the recorded frames beside synthetic DSA", ("2",), _S, "Inspect", "video", True),
    ActionSpec("angio_auto_window", "Auto window", "Set brightness and contrast for vessels", ("W",), _S, "Inspect", "smart"),
    ActionSpec("angio_crosshair", "Crosshair", "Show the crosshair on the slices", ("H",), _S, "Inspect", "add", True, True),
    ActionSpec("angio_curve", "Time curve", "Click points to see how contrast passes there", ("T",), _S, "Inspect", "chart", True),
    ActionSpec("angio_curves_clear", "Clear time curves", "Take all picked points away", (), _S, "Inspect", "delete"),
    ActionSpec("angio_subtract", "Subtraction", "Show subtracted frames; off: frames as recorded", ("S",), _S, "Inspect", "hidden", True, True),
    ActionSpec("angio_invert", "Invert frames", "Exchange black and white in the frames", ("Shift+I",), _S, "Inspect", "invert", True, True),
    ActionSpec("angio_front", "Front", "Look at the volume from the front", ("Ctrl+Alt+1",), _S, "Inspect"),
    ActionSpec("angio_left", "Left side", "Look at the volume from the patient's left", ("Ctrl+Alt+2",), _S, "Inspect"),
    ActionSpec("angio_head", "Head", "Look at the volume from above the head", ("Ctrl+Alt+3",), _S, "Inspect"),
)  # fmt: skip
