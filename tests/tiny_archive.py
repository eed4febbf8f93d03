# SPDX-License-Identifier: MIT
"""A Debian archive of a few kilobytes, with its own key, on loopback: what lab/kernels is tested against."""

from __future__ import annotations

import hashlib
import io
import lzma
import struct
import tarfile
import threading
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from pysequoia import SignatureMode, Tsk, sign

from lab.kernels import roots
from lab.kernels.debian import archive as debian_archive
from lab.kernels.debian import offers, packages
from lab.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    import pytest


def deb(files: Mapping[str, bytes | str | tuple[str, str]]) -> bytes:
    """Return a package: bytes are contents, a string a link's target, ('hard', name) a hard link."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:xz", preset=0) as archive:
        for name, what in files.items():
            member = tarfile.TarInfo(f"./{name}")
            if isinstance(what, bytes):
                member.size, member.mode = len(what), 0o4755 if "bin/" in name or "/ld-" in name else 0o644
                archive.addfile(member, io.BytesIO(what))
            elif isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what
                archive.addfile(member)
            else:
                member.type, member.linkname = tarfile.LNKTYPE, f"./{what[1]}"
                archive.addfile(member)
    members = (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", body.getvalue()))
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
        + data
        + b"\n" * (len(data) % 2)
        for name, data in members
    )


def tarball(files: Mapping[str, bytes | str]) -> bytes:
    """Return a .tar.xz: bytes are contents, a string is a link's target."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:xz", preset=0) as archive:
        for name, what in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                member.size, member.mode = len(what), 0o755 if name.endswith("configure") else 0o644
                archive.addfile(member, io.BytesIO(what))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, what
                archive.addfile(member)
    return body.getvalue()


def module(depends: str) -> bytes:
    """Return the least ELF file that has a .modinfo section."""
    info, names = f"license=GPL\0depends={depends}\0".encode(), b"\0.modinfo\0.shstrtab\0"
    start = 64 + len(info) + len(names)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2
    )
    sections = [(0, 0, 0, 0), (1, 1, 64, len(info)), (10, 3, 64 + len(info), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0)
        for name, kind, at, size in sections
    )
    return head + info + names + table


@dataclass
class TinyArchive:
    """An archive; `publish` signs what was added, `trouble` makes the server misbehave."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    trouble: dict[str, list[str]] = field(default_factory=dict)  # path -> what goes wrong at each request
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range
    packages: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    key: Tsk = field(default_factory=lambda: Tsk.generate(user_id="throw-away"))

    def add(
        self,
        suite: str,
        name: str,
        version: str,
        files: Mapping[str, bytes | str | tuple[str, str]],
        **fields: str,
    ) -> str:
        """Put a package into a suite; returns its path."""
        data, path = deb(files), f"debian/pool/{name}_{version}.deb"
        self.files[path] = data
        more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
        self.packages.setdefault(suite, []).append(
            f"Package: {name}\nArchitecture: amd64\nVersion: {version}\n{more}"
            f"Filename: pool/{name}_{version}.deb\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        return path

    def source(self, suite: str, name: str, version: str, files: Mapping[str, bytes]) -> None:
        """Put a source package into a suite."""
        place = f"pool/{suite}/{name}"
        self.files |= {f"debian/{place}/{file}": data for file, data in files.items()}
        sums = "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} {file}\n" for file, data in files.items()
        )
        self.sources.setdefault(suite, []).append(
            f"Package: {name}\nBinary: {name}-a,\n {name}-b\nVersion: {version}\nDirectory: {place}\n"
            f"Files:\n ffff 1 none\nChecksums-Sha256:\n{sums}Section: misc\n"
        )

    def publish(
        self, suite: str, *, until: datetime | None = None, codename: str = "", key: Tsk | None = None
    ) -> None:
        """Write a suite's index and its signed list."""
        indexes = {"main/binary-amd64/Packages.xz": self.packages.get(suite, [])}
        if suite in self.sources:
            indexes["main/source/Sources.xz"] = self.sources[suite]
        listed = ""
        for place, stanzas in indexes.items():
            index = lzma.compress("\n".join(stanzas).encode())
            self.files[f"debian/dists/{suite}/{place}"] = index
            listed += f" {hashlib.sha256(index).hexdigest()} {len(index)} {place}\n"
        text = f"Origin: Debian\nCodename: {codename or suite}\nDate: Sat, 21 Nov 2026 00:00:00 UTC\n"
        text += f"Valid-Until: {format_datetime(until, usegmt=True)}\n" if until else ""
        text += f"SHA256:\n{listed}"
        signed = sign((key or self.key).signer(), text.encode(), mode=SignatureMode.CLEAR)
        self.files[f"debian/dists/{suite}/InRelease"] = bytes(signed)

    def kernel(self, suite: str, version: str, *, headers: bool = True) -> str:
        """Put a kernel into a suite; returns its release."""
        release = f"{version}+deb13-amd64"
        modules = f"lib/modules/{release}/kernel"
        self.add(
            suite,
            f"linux-image-{release}",
            f"{version}-1",
            {
                f"boot/vmlinuz-{release}": b"image",
                f"boot/config-{release}": b"CONFIG_SMP=y\n",
                f"boot/System.map-{release}": b"none\n",
                f"{modules}/drivers/virtio/virtio.ko": module(""),
                f"{modules}/drivers/virtio/virtio-pci.ko": module("virtio"),
                f"{modules}/drivers/media/tuner.ko": module(""),
                f"{modules}/net/orphan.ko": module("gone"),
                "usr/share/doc/linux/changelog": b"long",
            },
        )
        if headers:
            common, kbuild = f"linux-headers-{version}+deb13-common", f"linux-kbuild-{version}+deb13"
            makefile = f"include /usr/src/{common}/Makefile\n".encode()
            needs = f"{common} (= {version}-1), {kbuild}, gcc-14-for-host"
            self.add(
                suite,
                f"linux-headers-{release}",
                f"{version}-1",
                {f"usr/src/linux-headers-{release}/Makefile": makefile},
                Depends=needs,
            )
            self.add(suite, common, f"{version}-1", {f"usr/src/{common}/Makefile": b"all:\n" * 300})
            self.add(suite, kbuild, f"{version}-1", {f"usr/lib/{kbuild}/scripts/sign": b"#!/bin/sh\n"})
        return release

    def settings(self, cache: Path, **more: str) -> Settings:
        """Return settings that name this archive."""
        environ = {
            "CHANLAB_CACHE": str(cache),
            "CHANLAB_DEBIAN_MIRROR": f"{self.url}/debian",
            "CHANLAB_DEBIAN_SECURITY_MIRROR": f"{self.url}/debian",
            **more,
        }
        return load({}, environ)

    def install(
        self, data: Path, patch: pytest.MonkeyPatch, suites: str, roots_yaml: str = "roots: {}\n"
    ) -> None:
        """Let the lab trust this archive's key alone, and know these suites."""
        keys = data / "keys"
        keys.mkdir(parents=True)
        (keys / "own.asc").write_text(str(self.key.extract_certificate()))
        (data / "debian.yaml").write_text(suites)
        (data / "roots.yaml").write_text(roots_yaml)
        patch.setattr(
            "lab.store.cache.sync", lambda *_, **__: None
        )  # a busy disk would decide how long this takes
        patch.setattr(debian_archive, "KEYS", keys)
        patch.setattr(debian_archive, "_HOST_KEYRINGS", ())
        patch.setattr(debian_archive, "DATA", data)
        patch.setattr(offers, "DATA", data / "debian.yaml")
        patch.setattr(packages, "DATA", data / "debian.yaml")
        patch.setattr(roots, "DATA", data / "roots.yaml")


def serve(archive: TinyArchive) -> ThreadingHTTPServer:
    """Start to serve an archive on loopback and set its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.lstrip("/").replace("%2B", "+")
            ranged = self.headers.get("Range", "")
            archive.asked.append((path, ranged))
            wrong = archive.trouble.get(path)
            what = wrong.pop(0) if wrong else ""
            data = archive.files.get(path)
            if data is None or what == "404":
                self._answer(404, b"", {})
            elif what == "500":
                self._answer(500, b"", {})
            elif what == "corrupt":
                self._answer(200, b"\0" * len(data), {})
            elif what == "short":
                self._answer(200, data[: len(data) // 2], {})
            elif what == "break":  # says all, sends half
                self._answer(200, data[: len(data) // 2], {}, len(data))
                self.close_connection = True
            elif ranged and what != "no ranges":
                start = int(ranged.removeprefix("bytes=").rstrip("-"))
                extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
                self._answer(206, data[start:], extra)
            else:
                self._answer(200, data, {})

        def do_HEAD(self) -> None:
            there = self.path.lstrip("/").replace("%2B", "+") in archive.files
            self.send_response(200 if there else 404)
            self.end_headers()

        def _answer(self, code: int, data: bytes, headers: dict[str, str], said: int | None = None) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(data) if said is None else said))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
