"""Actions of every inspection page: camera, measuring, comparing."""

from splatomy_gui.actions.registry import ActionSpec

_S = "inspect"

INSPECT = (
    ActionSpec("view_fit", "Fit to view", "Show everything", ("F",), _S, "Inspect", "fit"),
    ActionSpec("view_screenshot", "Screenshot of the view...", "Save a picture of the view", ("Ctrl+Shift+V",), _S, "Inspect", "camera"),
    ActionSpec("view_bookmark", "Keep camera", "Keep this camera as a bookmark", ("Ctrl+B",), _S, "Inspect", "bookmark"),
    ActionSpec("view_film", "Film along cameras...", "Make a film that flies through the kept cameras", ("Ctrl+Shift+F",), _S, "Inspect", "video"),
    ActionSpec("view_maximise", "One view", "Enlarge the view under the pointer, or show all", ("M",), _S, "Inspect", "cube", True),
    ActionSpec("compare_hold", "Compare", "Hold to show the recorded frame", ("C",), _S, "Inspect", "compare"),
    ActionSpec("measure_distance", "Distance", "Measure between two points", ("D",), _S, "Measure", "ruler", True),
    ActionSpec("measure_angle", "Angle", "Measure an angle at the second of three points", ("A",), _S, "Measure", "angle", True),
    ActionSpec("measure_polyline", "Polyline", "Measure along several points", ("P",), _S, "Measure", "polyline", True),
    ActionSpec("measure_area", "Area", "Measure an area on the surface", ("Shift+A",), _S, "Measure", "polygon", True),
    ActionSpec("measure_diameter", "Diameter", "Measure a diameter", ("Shift+D",), _S, "Measure", "diameter", True),
    ActionSpec("measure_point", "Point", "Read the value at a point", ("I",), _S, "Measure", "point", True),
    ActionSpec("measure_finish", "End measurement", "End the polyline or the area at its last point", ("Return", "Enter"), _S, "Measure", "done"),
    ActionSpec("measure_back", "Take point back", "Take the last point of the measurement back", ("Backspace",), _S, "Measure", "previous"),
    ActionSpec("measure_cancel", "Stop measuring", "Drop the measurement in the making and put the tool away", ("Esc",), _S, "Measure", "close"),
    ActionSpec("measure_delete", "Delete measurement", "Delete the chosen measurement", ("Delete",), _S, "Measure", "delete"),
    ActionSpec("measure_export", "Export measurements...", "Save the measurements as a table (CSV)", (), _S, "Measure", "export"),
)  # fmt: skip
