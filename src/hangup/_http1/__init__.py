"""HTTP/1.1 without I/O: request heads and bodies, response heads, the PROXY protocol."""
