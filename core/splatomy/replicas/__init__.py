"""One training by several processes: each holds the whole scene and renders its share of a step's views.

``group`` is what a method talks to, ``leading`` starts the other processes, ``following`` is their program.
Nothing is imported here, so that a follower notices its leader's death before it has loaded torch.
"""
