"""Response ids, from which any replica with the same key can read which service, version and experiment answered.

An id is a prefix of the API ("chatcmpl-", "cmpl-") and URL-safe base64 of nonce, MAC and the origin's fields. It is
authenticated: an id that was made up or changed reads as none. It hides nothing, and holds nothing that is secret.
"""

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_NONCE: Final = 9
_MAC: Final = 12
_SEPARATOR: Final = "\0"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answered. `service` is namespace/name; `experiment` is empty outside of one."""

    service: str
    version: str
    experiment: str = ""
    weight: int = 0
    """Percent of the traffic that the challenger had then."""
    key: str = ""
    """What the version was drawn by: the split's hash, as 16 hexadecimal digits. Empty where no score will count."""


class ResponseIds:
    """Issues and reads ids. `entropy(n)` gives n random bytes."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._fields = lru_cache(maxsize=1024)(_fields)
        # Keying costs more than hashing the few bytes of an id, so it is done once and copied.
        self._keyed = hashlib.blake2b(key=hashlib.blake2b(key).digest(), digest_size=_MAC, person=b"tandem-id")

    def issue(self, prefix: str, origin: Origin) -> str:
        """An id that nobody has had before."""
        nonce = self._entropy(_NONCE)
        fields = self._fields(origin)
        token = urlsafe_b64encode(nonce + self._mac(prefix, nonce, fields) + fields)
        return prefix + token.rstrip(b"=").decode()

    def read(self, prefix: str, id: str) -> Origin | None:
        """Whom an id with that prefix names; None where it is not one of ours."""
        if not id.startswith(prefix):
            return None
        text = id[len(prefix) :]
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return None
        if urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
            # The decoder overlooks what is no base64; there is one spelling of an id.
            return None
        nonce, mac, fields = raw[:_NONCE], raw[_NONCE : _NONCE + _MAC], raw[_NONCE + _MAC :]
        if not hmac.compare_digest(mac, self._mac(prefix, nonce, fields)):
            return None
        service, version, *trial = fields.decode().split(_SEPARATOR)
        if not trial:
            return Origin(service, version)
        experiment, weight, key = trial
        return Origin(service, version, experiment, int(weight), key)

    def _mac(self, prefix: str, nonce: bytes, fields: bytes) -> bytes:
        state = self._keyed.copy()
        state.update(prefix.encode() + nonce + fields)
        return state.digest()


def _fields(origin: Origin) -> bytes:
    fields = [origin.service, origin.version]
    if origin.experiment:
        fields += [origin.experiment, str(origin.weight), origin.key]
    return _SEPARATOR.join(fields).encode()
