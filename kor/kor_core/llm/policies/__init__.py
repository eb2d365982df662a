"""The policies of a call: what may be asked, again, next, at once, or not at all.

Each is a small object without I/O. Clock and randomness come in from outside, and one object
serves any number of threads and event loops.
"""
