"""Actions of the whole window, and of playing."""

from splatomy_gui.actions.registry import ActionSpec

SHELL = (
    ActionSpec("new", "Start page", "Go to the start page", ("Ctrl+N",), menu="File", icon="start"),
    ActionSpec("open_file", "Open file...", "Open a video, an image stack, DICOM, a volume or a case", ("Ctrl+O",), menu="File", icon="open"),
    ActionSpec("open_folder", "Open folder...", "Open a folder of frames, a DICOM folder, a run or a case", ("Ctrl+Shift+O",), menu="File", icon="folder"),
    ActionSpec("save", "Save", "Save the case", ("Ctrl+S",), menu="File", icon="save"),
    ActionSpec("close_case", "Close case", "Close the case; it is saved first", ("Ctrl+W",), menu="File", icon="close"),
    ActionSpec("reveal_case", "Show case in folder", "Show the case in the file manager", menu="File", icon="folder"),
    ActionSpec("preferences", "Preferences...", "Theme, device, memory, models and paths", ("Ctrl+,",), menu="File", icon="preferences"),
    ActionSpec("quit", "Quit", "Close the app", ("Ctrl+Q",), menu="File", icon="close"),
    ActionSpec("undo", "Undo", "Take the last change back", ("Ctrl+Z",), menu="Edit", icon="undo"),
    ActionSpec("redo", "Redo", "Do the change again", ("Ctrl+Shift+Z", "Ctrl+Y"), menu="Edit", icon="redo"),
    ActionSpec("next_step", "Next step", "Go to the next step of the case", ("Ctrl+PgDown",), menu="Go", icon="next"),
    ActionSpec("previous_step", "Previous step", "Go to the step before", ("Ctrl+PgUp",), menu="Go", icon="previous"),
    ActionSpec("show_jobs", "Jobs", "Show all reconstructions and their progress", ("Ctrl+J",), menu="Go", icon="jobs"),
    ActionSpec("show_log", "Log", "Show what the app and the engine wrote down", ("Ctrl+L",), menu="Go", icon="log"),
    ActionSpec("toggle_case_tree", "Case tree", "Show or hide the case's content", ("Ctrl+1",), menu="View", checkable=True),
    ActionSpec("toggle_jobs", "Jobs and log", "Show or hide jobs and log at the bottom", ("Ctrl+2",), menu="View", checkable=True),
    ActionSpec("toggle_history", "Undo history", "Show or hide the list of changes", ("Ctrl+3",), menu="View", checkable=True),
    ActionSpec("full_screen", "Full screen", "Fill the screen", ("F11",), menu="View", checkable=True),
    ActionSpec("theme", "Switch theme", "Switch between the dark and the light theme", ("Ctrl+T",), menu="View", icon="invert"),
    ActionSpec("screenshot", "Screenshot...", "Save a picture of the window", ("Ctrl+Shift+S",), menu="View", icon="camera"),
    ActionSpec("palette", "Find an action...", "Find any action by its name", ("Ctrl+Shift+P",), menu="Help", icon="search"),
    ActionSpec("shortcuts", "Keyboard shortcuts", "Show all keyboard shortcuts", ("F1", "?"), menu="Help", icon="help"),
    ActionSpec("support", "Save support bundle...", "Save log, versions and settings without patient data", menu="Help", icon="report"),
    ActionSpec("about", "About Splatomy", "Version, licences and the research-use notice", menu="Help", icon="info"),
)  # fmt: skip

PLAYBACK = (
    ActionSpec("play", "Play or pause", "Play the frames, or pause", ("Space",), "playback", "Play", "play"),
    ActionSpec("frame_next", "Next frame", "Show the next frame", ("Right",), "playback", "Play", "next"),
    ActionSpec("frame_previous", "Previous frame", "Show the frame before", ("Left",), "playback", "Play", "previous"),
    ActionSpec("frames_next", "Ten frames on", "Go ten frames on", ("Shift+Right",), "playback", "Play"),
    ActionSpec("frames_previous", "Ten frames back", "Go ten frames back", ("Shift+Left",), "playback", "Play"),
    ActionSpec("frame_first", "First frame", "Show the first frame", ("Home",), "playback", "Play", "first"),
    ActionSpec("frame_last", "Last frame", "Show the last frame", ("End",), "playback", "Play", "last"),
    ActionSpec("play_back", "Play backwards", "Play the frames backwards", ("J",), "playback", "Play"),
    ActionSpec("play_stop", "Stop playing", "Stop playing", ("K",), "playback", "Play", "stop"),
    ActionSpec("play_forward", "Play forwards", "Play the frames forwards", ("L",), "playback", "Play"),
    ActionSpec("mark_in", "Set in mark", "Play from this frame", ("Ctrl+I",), "playback", "Play"),
    ActionSpec("mark_out", "Set out mark", "Play up to this frame", ("Ctrl+Shift+I",), "playback", "Play"),
)  # fmt: skip
