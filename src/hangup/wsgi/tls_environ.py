"""What an application is told of TLS, and of the client's certificate: mod_ssl's variables.

WSGI and CGI say nothing of TLS but the scheme; applications look for what Apache's mod_ssl has always
given them (its documentation, "Environment Variables"), and so do cheroot's.  ``SSL_CLIENT_CERT`` is
werkzeug's, too.

It is made once for each connection, at its first request.
"""

import ssl
from typing import Any

from .._connection.connection import Connection

__all__ = ["tls_environ"]

# RFC 4514 §3, and mod_ssl's own for the rest.  The names are OpenSSL's long ones.
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "domainComponent": "DC",
    "title": "T",
    "initials": "I",
    "givenName": "G",
    "surname": "S",
    "description": "D",
    "userId": "UID",
    "emailAddress": "Email",
}
_IN_A_NAME = {"emailAddress": "emailAddress", "givenName": "GN", "surname": "SN", "title": "title"}
_SPECIAL = {ord(sign): f"\\{sign}" for sign in ',+"\\<>;'}
_ALTERNATIVES = {"DNS": "DNS", "email": "Email"}

_Name = tuple[tuple[tuple[str, str], ...], ...]


def tls_environ(connection: Connection) -> dict[str, str]:
    """``SSL_…``: the protocol and the cipher, and who the client is, if it has shown a certificate.

    ``SSL_CLIENT_VERIFY`` is always there, ``SUCCESS`` or ``NONE``: a client whose certificate nobody
    vouches for does not come so far.
    """
    environ = {"SSL_CLIENT_VERIFY": "NONE", "SSL_PROTOCOL": connection.transport.ask("version") or ""}
    if cipher := connection.transport.ask("cipher"):
        environ["SSL_CIPHER"] = cipher[0]
        environ["SSL_CIPHER_USEKEYSIZE"] = str(cipher[2])
    if binary := connection.transport.ask("getpeercert", True):
        environ["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(binary)
        if certificate := connection.transport.ask("getpeercert"):
            environ["SSL_CLIENT_VERIFY"] = "SUCCESS"
            environ.update(_client(certificate))
    return environ


def _client(certificate: dict[str, Any]) -> dict[str, str]:
    """What a certificate says, as :meth:`ssl.SSLSocket.getpeercert` has it."""
    told = {
        "SSL_CLIENT_M_VERSION": str(certificate.get("version", "")),
        "SSL_CLIENT_M_SERIAL": certificate.get("serialNumber", ""),
        "SSL_CLIENT_V_START": certificate.get("notBefore", ""),
        "SSL_CLIENT_V_END": certificate.get("notAfter", ""),
    }
    for variable, key in (("SSL_CLIENT_S_DN", "subject"), ("SSL_CLIENT_I_DN", "issuer")):
        name: _Name = certificate.get(key, ())
        told[variable] = _native(_distinguished(name))
        seen: dict[str, int] = {}
        for kind, value in (pair for part in name for pair in part):
            if short := _SHORT_NAMES.get(kind):
                number = seen[short] = seen.get(short, -1) + 1
                told[f"{variable}_{short}" + (f"_{number}" if number else "")] = _native(value)
    counts = dict.fromkeys(_ALTERNATIVES.values(), 0)
    for kind, value in certificate.get("subjectAltName", ()):
        if short := _ALTERNATIVES.get(kind):
            told[f"SSL_CLIENT_SAN_{short}_{counts[short]}"] = _native(value)
            counts[short] += 1
    return told


def _distinguished(name: _Name) -> str:
    """A name as a string (RFC 4514 §2: the last part first)."""
    return ",".join(
        "+".join(f"{_IN_A_NAME.get(kind) or _SHORT_NAMES.get(kind, kind)}={_escaped(value)}"
                 for kind, value in part)
        for part in reversed(name)
    )  # fmt: skip


def _escaped(value: str) -> str:
    """RFC 4514 §2.4."""
    escaped = value.translate(_SPECIAL).replace("\0", "\\00")
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if value.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped


def _native(text: str) -> str:
    """PEP 3333: text is bytes that stand as latin-1."""
    return text.encode().decode("latin-1")
