"""NSL-KDD: connections of a network, normal or one of 39 attacks.

Tavallaee, Bagheri, Lu, Ghorbani, "A Detailed Analysis of the KDD CUP 99 Data Set", IEEE
CISDA 2009. Seventeen attacks of the test files are not in the training file: new ones.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sillar.data.columns import Columns
from sillar.data.source import Source, open_source
from sillar.errors import DataError

TRAIN, TEST, TEST_21 = "KDDTrain+_20Percent.txt", "KDDTest+.txt", "KDDTest-21.txt"
PACKED = ".xz"
LIMIT = 2**28  # bytes of a file, unpacked
FEATURES = (
    *("duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes"),
    *("land", "wrong_fragment", "urgent", "hot", "num_failed_logins", "logged_in"),
    *("num_compromised", "root_shell", "su_attempted", "num_root"),
    *("num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds"),
    *("is_host_login", "is_guest_login", "count", "srv_count", "serror_rate"),
    *("srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate"),
    *("diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count"),
    *("dst_host_same_srv_rate", "dst_host_diff_srv_rate"),
    *("dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate"),
    *("dst_host_serror_rate", "dst_host_srv_serror_rate", "dst_host_rerror_rate"),
    *("dst_host_srv_rerror_rate",),
)
NORMAL = "normal"
CATEGORIES = (NORMAL, "dos", "probe", "r2l", "u2r")
ATTACKS = {
    "dos": (
        "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm"
        " worm"
    ),
    "probe": "ipsweep nmap portsweep satan mscan saint",
    "r2l": (
        "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster"
        " httptunnel named sendmail snmpgetattack snmpguess xlock xsnoop"
    ),
    "u2r": "buffer_overflow loadmodule perl rootkit ps sqlattack xterm",
}
CATEGORY = {kind: name for name, kinds in ATTACKS.items() for kind in kinds.split()}
CATEGORY[NORMAL] = NORMAL


class Traffic(NamedTuple):
    """Connections: their features as text, by column, and what each one was."""

    columns: Columns
    kinds: np.ndarray  # names, (n,): normal, neptune, ...

    @property
    def attacks(self) -> np.ndarray:
        """Return 1 for each attack and 0 for what is normal."""
        return (self.kinds != NORMAL).astype(np.int64)

    @property
    def categories(self) -> np.ndarray:
        """Return the place of each connection's category in `CATEGORIES`."""
        return np.array([CATEGORIES.index(CATEGORY[kind]) for kind in self.kinds])

    def take(self, rows: np.ndarray) -> Traffic:
        """Return the connections with these numbers."""
        return Traffic(
            {name: [cells[i] for i in rows] for name, cells in self.columns.items()},
            self.kinds[rows],
        )


def read_nsl_kdd(folder: str | Path, name: str = TRAIN) -> Traffic:
    """Return a file of NSL-KDD, as it is or packed as .xz.

    Each line has the 41 features, the attack's name and a difficulty, which is the
    number of 21 models that were right about the line, and is left away.
    """
    packed = Path(folder, name + PACKED)
    text = _text(packed if packed.exists() else Path(folder, name))
    rows = [row for row in csv.reader(text.splitlines()) if row]
    for line, row in enumerate(rows, 1):
        if len(row) != len(FEATURES) + 2 or row[-2] not in CATEGORY:
            raise DataError(
                f"read_nsl_kdd: {name!r}, line {line}: expected {len(FEATURES)}"
                " features, the name of an attack or normal, and a difficulty, got"
                f" {','.join(row)!r:.80}"
            )
    if not rows:
        raise DataError(f"read_nsl_kdd: {name!r}: expected lines, got none")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(FEATURES)}
    return Traffic(columns, np.array([row[-2] for row in rows]))


def is_there(folder: str | Path, name: str) -> bool:
    """Say whether a folder has this file, as it is or packed."""
    return any(Path(folder, name + end).exists() for end in ("", PACKED))


def _text(path: Path) -> str:
    with open_source(path, "read_nsl_kdd") as source:
        source = _unpacked(source) if path.suffix == PACKED else source
        data = source.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise source.error(f"expected at most {LIMIT:,} bytes, got more")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise source.error("expected UTF-8 text, got other bytes") from None


def _unpacked(source: Source) -> Source:
    import lzma

    return Source(
        source.operation,
        source.name,
        lzma.LZMAFile(source.stream),
        source.size,
        packed=True,
        faults=(OSError, lzma.LZMAError),
    )
