"""The applications of ``traffic.py``: the same paths, and the same content, four times."""
