"""Reads zip files as people make them: with names in old encodings, and with files beside the images.

Nothing is unpacked further than what the directory of the zip announces, so that its sums bound the work.
"""

from __future__ import annotations

import re
import struct
from pathlib import PurePosixPath
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo
from zlib import crc32

from producer.uploads import kinds
from producer.uploads.admission import clean_path, is_image
from shared.errors import MalformedBatch, TooLarge, TooManyImages, UndecodableImage
from shared.settings import Settings

#: In front of every file in a zip's directory (APPNOTE.TXT, 4.3.12), and the length of its extra field.
_ENTRY = re.compile(rb"PK\x01\x02(?=.{26}(..))", re.DOTALL)
_ENTRY_BYTES = 32
_BLOCK = 1024 * 1024
#: Longest extra field of an entry; zipfile's work on it is quadratic. The usual ones have 20 to 100 bytes.
MAX_EXTRA = 2048
_UTF8_FLAG, _ENCRYPTED_FLAG, _UNICODE_PATH = 0x800, 1, 0x7075

#: What Windows, macOS and network drives leave behind, in lower case; and whatever begins with a dot.
JUNK_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
JUNK_FILES = frozenset({
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon",
})  # fmt: skip
#: What lies beside images: it is skipped if its content is no image either.
BESIDE = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".md", ".rst", ".log", ".ini", ".cfg", ".yaml",
    ".yml", ".toml", ".db", ".lnk", ".url", ".webloc", ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".bat",
    ".exe", ".dll", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".odt", ".rtf", ".nfo", ".md5", ".sha1", ".sha256",
    ".npy", ".parquet", ".pickle", ".pkl", ".tmp", ".bak", ".lock",
})  # fmt: skip
#: Japanese in a name that CP932 can decode: a run of kana or kanji, or a digit of full width.
_JAPANESE = re.compile("[\u3005\u3041-\u30ff\u4e00-\u9fff\uff66-\uff9f]{2}|[\uff10-\uff19]")
#: One character of CP932 between none of ours: in Latin text an accent has letters beside it.
#: (Half of some, such as the ソ, is a backslash: read as Latin, ソ.png would be a hidden file in a folder.)
_ALONE = re.compile(rb"(?<![A-Za-z\x80-\xff])[\x81-\x9f\xe0-\xfc][\\\x80-\xfc](?![A-Za-z\x80-\xff])")


class Archive:
    """A zip whose files are read one after another. Raises MalformedBatch, TooManyImages."""

    def __init__(self, file: IO[bytes], settings: Settings) -> None:
        self._settings = settings
        #: Bytes that were unpacked so far, those of damaged files too.
        self.unpacked = 0
        # Before ZipFile makes an object of each entry: millions fit into a few megabytes.
        entries, size = _count(file)
        if entries > 2 * settings.batch_max_images:
            raise TooManyImages(f"The zip has {entries} entries", limit=settings.batch_max_images)
        try:
            self._zip = ZipFile(file)
        except Exception as error:  # a damaged zip makes zipfile raise nearly anything
            raise MalformedBatch(f"The zip cannot be read: {error}") from error
        #: Its files, without folders.
        self.members = [info for info in self._zip.infolist() if not _is_folder(info)]
        if sum(info.compress_size for info in self.members) > size:
            raise MalformedBatch("The zip cannot be read: its files overlap")

    def read(self, info: ZipInfo, most: int = 0) -> bytes:
        """The content of a file, or the first bytes of it. Raises UndecodableImage, TooLarge.

        The other methods of compression unpack without a bound, and hardly anybody uses them.
        """
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED_FLAG:
            raise UndecodableImage("The file is encrypted, or compressed with something else than deflate")
        if not most and info.file_size > self._settings.max_upload_bytes:
            raise TooLarge.upload(self._settings.max_upload_bytes)
        self.unpacked += min(most or info.file_size, info.file_size)
        try:
            with self._zip.open(info) as member:
                return member.read(most or info.file_size + 1)  # at its end the checksum is compared
        except Exception as error:
            raise UndecodableImage("The file is damaged within the zip") from error


def _is_folder(info: ZipInfo) -> bool:
    # A backslash is how some programs of Windows write a slash; in CP932 it may be half a character, too.
    return info.filename.endswith("/") or (info.filename.endswith("\\") and not info.file_size)


def _count(file: IO[bytes]) -> tuple[int, int]:
    """Return an upper bound of the zip's entries, and its size in bytes; rewind the file."""
    found, size, tail = 0, 0, b""
    while block := file.read(_BLOCK):
        size += len(block)
        block = tail + block
        if b"PK\x01\x02" in block:
            extras = [int.from_bytes(entry[1], "little") for entry in _ENTRY.finditer(block)]
            if max(extras, default=0) > MAX_EXTRA:
                raise MalformedBatch(f"The zip cannot be read: an extra field has over {MAX_EXTRA} bytes")
            found += len(extras)
        tail = block[1 - _ENTRY_BYTES :]
    file.seek(0)
    return found, size


# ---------------------------------------------------------------------- names


def path_of(info: ZipInfo) -> str:
    """The relative path of an entry, to show and never to open."""
    if info.flag_bits & _UTF8_FLAG:
        return clean_path(info.orig_filename)
    raw = info.orig_filename.encode("cp437")  # which is how zipfile has decoded it
    return clean_path(_unicode_path(info.extra, raw) or decoded(raw))


def decoded(raw: bytes, western: str = "cp437") -> str:
    """A name whose encoding is not told: UTF-8 if it is valid, CP932 if that gives Japanese, else `western`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        japanese = raw.decode("cp932")
        if _JAPANESE.search(japanese) or _ALONE.search(raw):
            return japanese
    except UnicodeDecodeError:
        pass
    return raw.decode(western, "replace")


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """The name in Info-ZIP's extra field for Unicode (APPNOTE.TXT, 4.6.9), if it belongs to this one; else empty."""
    at = 0
    while at + 9 <= len(extra):
        kind, size, version, checksum = struct.unpack_from("<HHBI", extra, at)
        if kind == _UNICODE_PATH and version == 1 and checksum == crc32(raw):
            return extra[at + 9 : at + 4 + size].decode("utf-8", "replace")
        at += 4 + size
    return ""


# ---------------------------------------------------------------------- what is no image


def is_junk(path: str) -> bool:
    """Tells whether an operating system has left the file in a folder."""
    *folders, name = path.lower().split("/")
    return name in JUNK_FILES or any(part.startswith(".") or part in JUNK_FOLDERS for part in (*folders, name))


def is_beside(path: str) -> bool:
    """Tells whether a file is no image by its name."""
    return PurePosixPath(path).suffix.lower() in BESIDE


def is_no_image(path: str, head: bytes) -> bool:
    """Tells whether a file is plainly no image, by its name and its first bytes; a damaged image is one."""
    if PurePosixPath(path).suffix.lower() in kinds.SUFFIXES or is_image(head):
        return False
    return is_beside(path) or kinds.kind(head)[0] in kinds.TEXTS
