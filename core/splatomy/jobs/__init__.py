"""The job protocol: one reconstruction as a process that a front end supervises.

``splatomy job run JOB.json``. JOB is a JSON object::

    {"contract": 1, "input": PATH, "out": RUN,                        required
     "method": NAME, "preset": NAME, "config": {SETTING: VALUE}, "device": "auto",
     "replicas": 1, "seed": 0, "views": N, "options": {OPTION: VALUE},    of the input: crop, bin, mask, ...
     "detached": false, "resume": false, "force": false}

Paths are absolute, or relative to the working folder. Resuming a run that was continued goes on to
the larger number of steps; a job with "resume" and a larger "steps" trains a finished run further.

stdout, one strict JSON object a line (nothing else is ever printed there)::

    {"event": "progress", "stage", "step", "total", "metrics", "eta_s", "gpu_mem_mb"}   null = unknown
    {"event": "snapshot", "stage", "step", "files": {"preview", "gaussians", "volume"}}
    {"event": "notice", "level": "info|warning", "code", "text"}      with "id" when it answers a render
    {"event": "render", "id", "file"}
    {"event": "error", "code": "input|backend|memory|disk|defect", "text", "hint"}
    {"event": "done", "run"}

The files of a snapshot (a PNG, Gaussians as PLY, a coarse time-mean volume; those the scene can give)
and of a render lie in RUN/live/; each stays for a while after newer ones are announced: read or copy
it at once. The same lines, with "time" (seconds since 1970), go to RUN/events.jsonl.

stdin, one JSON object a line::

    {"command": "pause"}   {"command": "resume"}   {"command": "cancel"}
    {"command": "continue", "steps": N}
    {"command": "render", "id": ANY, "camera": CAMERA, "time_s": S, "size": [WIDTH, HEIGHT]}

continue: training goes on N steps beyond the planned ones, until "done" is sent. The engine
finishes the planned steps, keeps the checkpoint and trains on from it with the schedule stretched to
the new total; files made from the scene are made again. Several of them add up.
render: answered between steps from the newest snapshot, while paused too; a newer request replaces
one that waits. CAMERA is either {"intrinsics": 3x3 px, "camera_from_world": 4x4 mm} with OpenCV axes
(x right, y down, z forward) for pictures of that size, or {"primary_deg": A, "secondary_deg": B}, a
C-arm about the centre of the scene, as wide as the scene. Without time_s: the middle of the recording.
A line that is no such command gets a notice and changes nothing.

When stdin closes, or stdout can no longer be written, the job keeps its checkpoint and stops. With
"detached" it goes on: a new front end follows RUN/events.jsonl and puts each command as a file
RUN/commands/NAME.json (write it under another name, then rename; it is removed when read). Files
that lay there before the job started are dropped. Start it in a session of its own, so that a Ctrl-C
meant for the front end does not reach it. SIGTERM and Ctrl-C are the command cancel.

``splatomy job view RUN`` answers render commands for a finished run, and nothing else, until stdin
closes; its first line is a snapshot, when the scene is loaded.

A job with the key "live", {"rate": "real|max", "replay": PATH}, is a live session of the source that
"input" names. It also sends {"event": "live", "frame", "time_s", "state", "generation", "rung",
"metrics"} and answers the surgeon's commands (mask, region, mark, scale, rewind, freeze, undo, each with
"id") by {"event": "command", "id", "state": "received|applied|rejected", "generation", "reason"}; its
cancel ends the session with its report. resources/docs/interfaces.md holds every field.

Exit codes: 0 done; 1 a defect of ours; 2 the job, the input, the memory or the disk does not do;
3 a missing backend; 4 stopped, result and checkpoint kept.
"""

from splatomy.jobs.session import run_job
from splatomy.jobs.viewing import view_run

__all__ = ["run_job", "view_run"]
