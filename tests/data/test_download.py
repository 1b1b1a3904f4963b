"""Downloads from a server on this machine: resumed where they broke off, refused if they are not what they say."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from minigrad.data.download import SETS, RemoteFile, download, fetch
from minigrad.errors import ArgumentError, StateError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off after `most` bytes of a body, and knows ranges if `ranges` is set."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.most, self.ranges, self.asked = {"/a": CONTENT}, None, True, []

    def url(self, name="a"):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(content) and wanted:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if server.most is None else start + server.most
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def remote(server, content=CONTENT, **options):
    return RemoteFile(**{"name": "a.bin", "url": server.url(), "sha256": hashlib.sha256(content).hexdigest(),
                         "most": 400_000} | options)


def test_a_file_arrives_once(server, tmp_path):
    said = []
    assert fetch(remote(server), tmp_path, said.append).read_bytes() == CONTENT
    fetch(remote(server), tmp_path, said.append)
    assert server.asked == [None]
    assert "300,000 bytes from" in said[0]
    assert "there already" in said[1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_what_breaks_off_goes_on(server, tmp_path):
    server.most = 110_000
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=110000-", "bytes=220000-"]


def test_a_later_attempt_goes_on_where_the_first_gave_up(server, tmp_path):
    server.most = 40_000
    with pytest.raises(OSError, match="160,000 bytes have arrived and are kept"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size == 160_000
    server.most = None
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=160000-"


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_taken(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("beginning", [b"", b"x" * 1000, CONTENT + b"more"])
def test_what_is_not_what_it_says_is_deleted(server, tmp_path, beginning):
    (tmp_path / "a.bin.part").write_bytes(beginning)
    wanted = CONTENT if beginning else b"other"
    with pytest.raises(StateError, match=r"SHA-256 .*deleted"):
        fetch(remote(server, wanted), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_end_is_given_up(server, tmp_path):
    with pytest.raises(StateError, match="more than 100,000 bytes"):
        fetch(remote(server, most=100_000), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_compressed_files_are_known_by_their_content(server, tmp_path):
    server.files["/a"] = gzip.compress(CONTENT, 1)
    assert gzip.decompress(fetch(remote(server, unpacked=True), tmp_path).read_bytes()) == CONTENT
    server.files["/a"] = b"no gzip"
    (tmp_path / "a.bin").unlink()
    with pytest.raises(StateError, match="SHA-256 of nothing"):
        fetch(remote(server, unpacked=True), tmp_path)


def test_what_cannot_be_had_is_one_error(server, tmp_path):
    with pytest.raises(OSError, match="404"):
        fetch(remote(server, url=server.url("b")), tmp_path)
    with pytest.raises(ArgumentError, match="http"):
        fetch(remote(server, url="file:///etc/passwd"), tmp_path)
    url = server.url()
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="0 bytes have arrived"):
        fetch(remote(server, url=url), tmp_path)


def test_a_data_set_by_name(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SETS, "mnist", [remote(server)])
    assert download("mnist", tmp_path) == tmp_path / "mnist"
    assert (tmp_path / "mnist" / "a.bin").read_bytes() == CONTENT
    from minigrad import cli

    assert cli.main(["data", "mnist", str(tmp_path)]) == 0
    assert f"--data {tmp_path}" in capsys.readouterr().out
    server.files.clear()
    assert cli.main(["data", "mnist", str(tmp_path / "other")]) == 1
    assert capsys.readouterr().err.startswith("minigrad data: error: download of")
    with pytest.raises(ArgumentError, match="'imagenet'"):
        download("imagenet", tmp_path)


def test_every_address_and_checksum_is_well_formed():
    for files in SETS.values():
        for file in files:
            assert file.url.endswith(file.name)
            assert len(bytes.fromhex(file.sha256)) == 32
