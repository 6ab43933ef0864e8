"""Downloads that go on where they were cut, and are verified before they count."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any

from sillar.data.sets import File, NamedSet, Report
from sillar.errors import ConfigError, DataError

_TRIES = 3  # in a row that bring nothing
_WAIT = 30.0  # seconds without a byte
_PIECE = 1 << 16  # bytes
_FAULTS = (OSError, http.client.HTTPException)


def download(wanted: NamedSet, file: File, path: Path, report: Report) -> None:
    """Bring a file to `path`; what is there in part is kept as `path`.part."""
    address = _address(wanted, file)
    part = path.with_name(f"{path.name}.part")
    fault: Exception | None = None
    left = _TRIES
    while left:
        before = _size(part)
        try:
            if _transfer(address, part, file, report):
                break
        except urllib.error.HTTPError as error:
            raise _refused(wanted, address, error) from None
        except _FAULTS as error:
            fault = error
        left = _TRIES if _size(part) > before else left - 1
        time.sleep(0.1 if left == _TRIES else 0.1 * 2 ** (_TRIES - left))
    else:
        raise _unreachable(wanted, address, fault)
    wrong = file.fault(part)
    if wrong:
        part.unlink()
        raise DataError(
            f"data: {wanted.name}: what {address} sends is not the file: {wrong}; try"
            f" again, or get it from {wanted.home} and pass --from DIR"
        )
    part.replace(path)


def _transfer(address: str, part: Path, file: File, report: Report) -> bool:
    """Ask for what is missing, once; say whether the file is all there."""
    have = _size(part)
    request = urllib.request.Request(address, headers={"User-Agent": "sillar"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_WAIT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # nothing is missing, or all is different
            raise
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        error.close()
        if total == str(have):
            return True
        part.unlink()
        return False
    with answer:
        start = have if _goes_on(answer, have) else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        with open(part, "ab" if start else "wb") as out:
            got = _receive(answer, out, start, (file, total), report)
    return got >= total if total is not None else True


def _goes_on(answer: Any, have: int) -> bool:
    span = answer.headers.get("Content-Range") or ""
    return answer.status == 206 and span.startswith(f"bytes {have}-")


def _receive(
    answer: Any,
    out: IO[bytes],
    start: int,
    expected: tuple[File, int | None],
    report: Report,
) -> int:
    """Write what comes; return how many bytes of the file are there."""
    file, total = expected
    got, most = start, 2 * file.size + 2**20  # packed anew it may be a little longer
    while piece := answer.read(_PIECE):
        got += len(piece)
        if got > most:
            raise DataError(
                f"data: {file.name}: expected {file.size:,} bytes, more than"
                f" {most:,} came; this is another file"
            )
        out.write(piece)
        report(file.name, got, total or file.size)
    return got


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _address(wanted: NamedSet, file: File) -> str:
    mirror = os.environ.get("SILLAR_MIRROR")
    address = file.address
    if mirror:
        address = f"{mirror.rstrip('/')}/{wanted.name}/{urllib.parse.quote(file.name)}"
    if not address:
        raise ConfigError(
            f"data: {wanted.name} cannot be downloaded file by file: get it from"
            f" {wanted.home} and pass --from DIR, or name a mirror in SILLAR_MIRROR"
        )
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise ConfigError(
            f"data: expected an address that begins with https:// or http://, got"
            f" {address!r:.80}"
        )
    return address


def _refused(
    wanted: NamedSet, address: str, error: urllib.error.HTTPError
) -> DataError:
    error.close()
    return DataError(
        f"data: {wanted.name}: {address} answers {error.code} {error.reason}; get the"
        f" files from {wanted.home} and pass --from DIR"
    )


def _unreachable(wanted: NamedSet, address: str, fault: Exception | None) -> DataError:
    reason = getattr(fault, "reason", fault) or "the connection was cut"
    host = urllib.parse.urlsplit(address).netloc
    return DataError(
        f"data: {wanted.name}: no way to {host} ({reason}); check the network and try"
        f" again, or pass --from DIR, a folder that has the files"
    )
