"""Event loops, worker threads, the request queue, and the engine that holds them together."""
