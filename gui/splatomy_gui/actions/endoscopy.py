"""Actions of the endoscopy inspection page."""

from splatomy_gui.actions.registry import ActionSpec

_S = "endoscopy"

ENDOSCOPY = (
    ActionSpec("tissue_one", "One view", "Show one view", ("1",), _S, "Inspect", "layout_one", True),
    ActionSpec("tissue_two", "Two views", "Show picture and surface side by side", ("2",), _S, "Inspect", "layout_two", True),
    ActionSpec("tissue_four", "Four views", "Show picture, depth, surface and rendered view", ("4",), _S, "Inspect", "layout_four", True),
    ActionSpec("tissue_compare_next", "Next comparison", "Go to the next way to compare recorded and rendered", ("X",), _S, "Inspect", "compare"),
    ActionSpec("tissue_camera", "Camera of the recording", "Look from where the endoscope was", ("R",), _S, "Inspect", "endoscopy"),
    ActionSpec("tissue_wireframe", "Wireframe", "Show the surface as a net of triangles", ("W",), _S, "Inspect", "wireframe", True, True),
    ActionSpec("tissue_normals", "Normals", "Show which way the surface looks", ("N",), _S, "Inspect", "normals", True, True),
    ActionSpec("tissue_reference", "Deformation from here", "Measure deformation from the frame on show", ("Shift+R",), _S, "Inspect", "refresh"),
    ActionSpec("tissue_panel", "Measurements and cameras", "Show or hide the tables below the views", ("T",), _S, "Inspect", "chart", True),
)  # fmt: skip
