"""Ray's token authentication: which mode this process is in, and where its token comes from.

Ray (2.52 and newer) reads the mode from RAY_AUTH_MODE, and the token from RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH,
or ~/.ray/auth_token, in this order.
"""

from __future__ import annotations

import os
from pathlib import Path

HOW_TO_EXPORT = (
    "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN=... (or RAY_AUTH_TOKEN_PATH=FILE) with the token of the cluster; "
    "on its head `ray get-auth-token` prints it"
)


def token_mode() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def token_source() -> str | None:
    """Where Ray finds a token; None where it finds none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path:
        return f"RAY_AUTH_TOKEN_PATH ({path})" if holds_text(Path(path)) else None
    return "~/.ray/auth_token" if holds_text(Path.home() / ".ray" / "auth_token") else None


def holds_text(path: Path) -> bool:
    try:
        return bool(path.read_text().strip())
    except (OSError, UnicodeDecodeError):
        return False


def require_token() -> None:
    """Raises ValueError where Ray would end the process: in token mode, without a token."""
    if token_mode() and token_source() is None:
        raise ValueError(f"RAY_AUTH_MODE is token, and there is no token: {HOW_TO_EXPORT}")
