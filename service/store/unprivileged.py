"""Run PostgreSQL as another account when the service is root, which PostgreSQL refuses."""

from __future__ import annotations

import os
import pwd
import struct
import sys
from pathlib import Path
from typing import TypedDict

ACCOUNTS = ("postgres", "nobody")
"""Tried in this order; both are common on Linux, and no account is ever created."""

_ACL = "system.posix_acl_access"
_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 0o1


class Account(TypedDict, total=False):
    """Arguments of `subprocess.run` that choose the account; empty for the process's own."""

    user: int
    group: int
    extra_groups: list[int]


def account_for(data: Path) -> Account:
    """Choose the account for the server: the process's own, or instead of root the folder's owner or one of `ACCOUNTS`.

    Raises LookupError when there is none instead of root.
    """
    if os.geteuid() != 0:
        return {}
    if sys.platform != "linux":
        raise LookupError("PostgreSQL does not run as root; use another account")
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return _account(owner.st_uid, owner.st_gid)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in known:
            return _account(known[name].pw_uid, known[name].pw_gid)
    raise LookupError(f"there is no account {' or '.join(ACCOUNTS)} that could run PostgreSQL instead of root")


def _account(user: int, group: int) -> Account:
    return {"user": user, "group": group, "extra_groups": []}


def let_search(folder: Path, user: int) -> None:
    """Let one user search the folder and its parents, where their modes do not.

    An access control list grants search (`x`) only: the user cannot list the folders, and the permissions inside do
    not change. Raises OSError where the file system has no such lists.
    """
    for closed in (folder, *folder.parents):
        status = closed.stat()
        if not status.st_mode & _SEARCH and status.st_uid != user:
            os.setxattr(closed, _ACL, _with_search(_entries(closed, status.st_mode), user))


def _entries(folder: Path, mode: int) -> dict[tuple[int, int], int]:
    """Read the folder's access control list as (tag, id) → permissions; derived from its mode when it has none."""
    try:
        packed = os.getxattr(folder, _ACL)
    except OSError:
        tags = {_OWNER: mode >> 6, _GROUP: mode >> 3, _OTHERS: mode}
        return {(tag, _NO_ID): bits & 0o7 for tag, bits in tags.items()}
    return {(tag, holder): bits for tag, bits, holder in _ENTRY.iter_unpack(packed[_VERSION.size :])}


def _with_search(entries: dict[tuple[int, int], int], user: int) -> bytes:
    mask = (_MASK, _NO_ID)
    group = entries[_GROUP, _NO_ID]
    granted = entries | {
        (_USER, user): entries.get((_USER, user), 0) | _SEARCH,
        mask: entries.get(mask, group) | _SEARCH,
    }
    packed = [_ENTRY.pack(tag, bits, holder) for (tag, holder), bits in sorted(granted.items())]
    return _VERSION.pack(2) + b"".join(packed)
