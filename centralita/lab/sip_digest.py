"""A client's side of HTTP digest authentication in SIP (RFC 8760, RFC 7616), with the algorithms that a phone knows."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection

_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def challenges(answer: str) -> list[dict[str, str]]:
    """Return the digest challenges of an answer, in order: header, realm, nonce, algorithm, qop and so on."""
    found = []
    for header, text in re.findall(r"(?mi)^((?:WWW|Proxy)-Authenticate):\s*Digest\s+([^\r\n]*)", answer):
        fields = {name.lower(): quoted or bare for name, quoted, bare in re.findall(
            r'([A-Za-z]+)=(?:"([^"]*)"|([^\s,]+))', text)}  # fmt: skip
        found.append({"header": header, "algorithm": "MD5", **fields})
    return found


def authorization(
    answer: str, method: str, uri: str, user: str, secret: str, known: Collection[str] = tuple(_HASHES)
) -> str | None:
    """Return the header line that answers the first challenge whose algorithm is ``known``; None where none is."""
    for challenge in challenges(answer):
        if challenge["algorithm"] not in known:
            continue
        hashed = _HASHES[challenge["algorithm"]]

        def digest(*parts: str, hashed: object = hashed) -> str:
            assert callable(hashed)
            return str(hashed(":".join(parts).encode()).hexdigest())

        realm, nonce, client = challenge["realm"], challenge["nonce"], secrets.token_hex(8)
        ha1, ha2 = digest(user, realm, secret), digest(method, uri)
        fields = f'username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm={challenge["algorithm"]}'
        if "qop" in challenge:
            response = digest(ha1, nonce, "00000001", client, "auth", ha2)
            fields += f', qop=auth, nc=00000001, cnonce="{client}"'
        else:
            response = digest(ha1, nonce, ha2)
        if "opaque" in challenge:
            fields += f', opaque="{challenge["opaque"]}"'
        name = "Authorization" if challenge["header"].lower().startswith("www") else "Proxy-Authorization"
        return f'{name}: Digest {fields}, response="{response}"'
    return None
