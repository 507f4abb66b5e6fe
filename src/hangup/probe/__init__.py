"""``hangup probe``: leave any server at every point of a request, and report what it did.

It stands alone: nothing here imports anything of the server.
"""
