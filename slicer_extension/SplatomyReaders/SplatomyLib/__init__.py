"""What the Splatomy modules of 3D Slicer share.

geometry, files, casefile         pure Python and numpy: axes, mesh files, run and case folders
protocol, process, install        the engine as a process of its own: messages, supervision, environment
bridge_*                          plain functions between folders of the engine and nodes of a MRML scene
logic, preview, samples, signal   runs of the engine in a scene, without any widget

Nothing here imports the engine's package: its files and its job protocol are the whole interface.
"""
