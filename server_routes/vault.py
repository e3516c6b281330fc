"""What durable jobs leave on disk, unreadable without the operator's key: AES-256-GCM (NIST SP 800-38D).

Each sealed value is bound to its place by the context it is sealed with, so none can stand in for another.
"""

from __future__ import annotations

import base64
import binascii
import os

_KEY_BYTES = 32
_NONCE_BYTES = 12


class VaultError(ValueError):
    """The key cannot be used, or a sealed value does not belong to it; the message shows neither."""


class Vault:
    """Seals and opens; safe to call from any thread.

    Args:
        key: base64 of 32 random bytes.

    Raises:
        VaultError: the key has another form, or the ``cryptography`` package is missing.
    """

    def __init__(self, key: str) -> None:
        try:
            raw = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError) as error:
            raise VaultError("the key is not base64") from error
        if len(raw) != _KEY_BYTES:
            raise VaultError(f"the key has {len(raw)} bytes and must have {_KEY_BYTES}")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise VaultError("durable jobs need the package cryptography: pip install cryptography") from error
        self._cipher = AESGCM(raw)

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt; the random nonce comes first in the result."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt.

        Raises:
            VaultError: another key, another context, or damaged data.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise VaultError("the value was sealed with another key, or is damaged") from error
