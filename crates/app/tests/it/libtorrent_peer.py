#!/usr/bin/env python3
"""One libtorrent peer for the tests: a seed, a leech, or an oracle for .torrent files.

libtorrent runs with its default settings except folder, port and peer, and except these:
- DHT, local discovery and port mapping are off: the tests stay on loopback and find peers only
  the way they mean to.
- `allow_multiple_connections_per_ip`, on request (--many-on-one-address): a whole swarm of the
  tests lives on 127.0.0.1, where the default takes one peer.
- a rate limit of the torrent, on request, so that a download lasts long enough to be interrupted.
Alerts are chosen for the log only; they change nothing that a peer can see.

Every line on stdout is one JSON event. A peer ends at SIGINT, when its stdin does, or after
--seconds.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
import warnings

import libtorrent as lt

# The calls that 2.1 marks as old are the ones that 2.0 has too.
warnings.simplefilter("ignore", DeprecationWarning)

PROGRESS_S = 0.2


def tell(event, **fields):
    print(json.dumps({"event": event, "t": round(time.monotonic() - START, 3), **fields}), flush=True)


def fail(message):
    tell("error", message=str(message))
    print(f"libtorrent_peer: {message}", file=sys.stderr, flush=True)
    os._exit(1)


def host_and_port(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def settings(args):
    chosen = {
        "listen_interfaces": args.listen,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.error_notification
        | lt.alert.category_t.status_notification
        | lt.alert.category_t.storage_notification
        | lt.alert.category_t.connect_notification
        | lt.alert.category_t.peer_notification
        | lt.alert.category_t.tracker_notification,
    }
    if args.verbose:
        chosen["alert_mask"] |= (
            lt.alert.category_t.peer_log_notification
            | lt.alert.category_t.torrent_log_notification
            | lt.alert.category_t.session_log_notification
        )
        chosen["alert_queue_size"] = 1_000_000
    if args.many_on_one_address:
        chosen["allow_multiple_connections_per_ip"] = True
    return chosen


def add(session, args):
    if args.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.folder
    if args.trust:
        params.flags |= lt.torrent_flags.seed_mode
    if args.tracker:
        params.trackers = args.tracker
    handle = session.add_torrent(params)
    # Those of a torrent: limits of the session spare peers on the local network.
    if args.up:
        handle.set_upload_limit(args.up)
    if args.down:
        handle.set_download_limit(args.down)
    return handle


class Peer:
    """What one run has seen so far."""

    def __init__(self, session, handle, args):
        self.session = session
        self.handle = handle
        self.args = args
        self.listening = False
        self.dialled = False
        self.flushing = False
        self.finished = False
        self.next_progress = 0.0

    def on_alert(self, alert):
        if isinstance(alert, lt.listen_succeeded_alert):
            is_tcp = alert.socket_type == lt.socket_type_t.tcp
            if is_tcp and not self.listening:
                self.listening = True
                tell("listening", addr=f"{alert.address}:{alert.port}")
        elif isinstance(alert, lt.listen_failed_alert):
            fail(alert.message())
        elif isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
            fail(alert.message())
        elif isinstance(alert, lt.cache_flushed_alert) and self.flushing:
            self.tell_finished()
        elif isinstance(alert, TOLD):
            tell("alert", kind=type(alert).__name__, message=alert.message())
        elif self.args.verbose:
            print(type(alert).__name__, alert.message(), file=sys.stderr, flush=True)

    def tell_finished(self):
        if self.finished:
            return
        self.finished = True
        status = self.handle.status()
        tell(
            "finished",
            bytes=status.total_done,
            downloaded=status.total_payload_download,
            uploaded=status.total_payload_upload,
            redundant=status.total_redundant_bytes,
            failed=status.total_failed_bytes,
        )

    def look(self):
        status = self.handle.status()
        checked = status.state not in (
            lt.torrent_status.checking_files,
            lt.torrent_status.checking_resume_data,
        )
        if checked and self.listening and not self.dialled:
            self.dialled = True
            if self.args.mode == "seed" and not status.is_seeding:
                fail(f"cannot seed: only {status.progress:.1%} of the data is good")
            tell("ready", bytes=status.total_done)
            for peer in self.args.peer:
                self.handle.connect_peer(host_and_port(peer))
        if self.dialled and status.is_seeding and not self.flushing:
            # What was downloaded may still be in libtorrent's memory.
            self.flushing = True
            self.handle.flush_cache()
        now = time.monotonic()
        if now >= self.next_progress:
            self.next_progress = now + PROGRESS_S
            tell(
                "progress",
                bytes=status.total_done,
                downloaded=status.total_payload_download,
                uploaded=status.total_payload_upload,
                peers=status.num_peers,
            )

    def stop(self, why):
        status = self.handle.status()
        tell(
            "stopped",
            why=why,
            bytes=status.total_done,
            downloaded=status.total_payload_download,
            uploaded=status.total_payload_upload,
        )
        # Waiting for goodbyes would only cost time.
        os._exit(0)


TOLD = (
    lt.peer_connect_alert,
    lt.peer_disconnected_alert,
    lt.peer_error_alert,
    lt.peer_ban_alert,
    lt.peer_blocked_alert,
    lt.hash_failed_alert,
    lt.invalid_request_alert,
    lt.tracker_error_alert,
    lt.tracker_warning_alert,
    lt.tracker_reply_alert,
    lt.performance_alert,
)


def transfer(args):
    gone = threading.Event()

    def watch_stdin():
        while sys.stdin.buffer.read(64):
            pass
        gone.set()

    threading.Thread(target=watch_stdin, daemon=True).start()
    signal.signal(signal.SIGINT, lambda *_: gone.set())
    session = lt.session(settings(args))
    peer = Peer(session, add(session, args), args)
    while True:
        for alert in session.pop_alerts():
            peer.on_alert(alert)
        peer.look()
        if gone.is_set():
            peer.stop("asked to")
        if time.monotonic() - START > args.seconds:
            peer.stop("time is up")
        session.wait_for_alert(int(args.tick * 1000))


VERSIONS = {
    "v1": lt.create_torrent.v1_only,
    "hybrid": 0,
    "v2": lt.create_torrent.v2_only,
}


def listed_files(root, listed):
    """The files that LISTED names, or all below ROOT; links and executables are told as such."""
    name = os.path.basename(root)
    if listed:
        with open(listed, encoding="utf-8") as file:
            paths = [os.path.join(*parts) if parts else "" for parts in json.load(file)]
    elif os.path.isdir(root):
        found = (os.path.join(folder, f) for folder, _, files in os.walk(root) for f in files)
        paths = sorted(os.path.relpath(path, root) for path in found)
    else:
        paths = [""]
    return [entry(os.path.join(root, path) if path else root, os.path.join(name, path).rstrip("/")) for path in paths]


def entry(path, shown):
    flags, target = 0, ""
    if os.path.islink(path):
        flags |= lt.file_flags_t.flag_symlink
        target = os.readlink(path)
    elif os.stat(path).st_mode & 0o100:
        flags |= lt.file_flags_t.flag_executable
    if os.path.basename(path).startswith("."):
        flags |= lt.file_flags_t.flag_hidden
    size = 0 if target else os.path.getsize(path)
    return lt.create_file_entry(shown, size, flags, 0, target)


def make_torrent(args):
    """Makes a torrent of PATH, of the files of --files in that order or of all."""
    root = os.path.abspath(args.path)
    flags = VERSIONS[args.version] | lt.create_torrent.symlinks
    torrent = lt.create_torrent(listed_files(root, args.files), args.piece_length, flags)
    lt.set_piece_hashes(torrent, os.path.dirname(root))
    with open(args.out, "wb") as out:
        out.write(lt.bencode(torrent.generate()))
    info(args.out)


def attributes(flags):
    words = {
        "pad": lt.file_flags_t.flag_pad_file,
        "executable": lt.file_flags_t.flag_executable,
        "hidden": lt.file_flags_t.flag_hidden,
        "symlink": lt.file_flags_t.flag_symlink,
    }
    return [word for word, flag in words.items() if flags & flag]


def hash_or_none(value):
    return None if value.is_all_zeros() else str(value)


def info(path):
    torrent = lt.torrent_info(path)
    layout = torrent.files()
    files = []
    for index in range(layout.num_files()):
        flags = layout.file_flags(index)
        files.append(
            {
                "path": layout.file_path(index),
                "bytes": layout.file_size(index),
                "pad": bool(flags & lt.file_flags_t.flag_pad_file),
                "attributes": attributes(flags),
                "symlink": layout.symlink(index) or None,
                "pieces_root": hash_or_none(layout.root(index)),
            }
        )
    with open(path, "rb") as raw:
        span = lt.bencode(lt.bdecode(raw.read())[b"info"])
    print(
        json.dumps(
            {
                "info_hash_v1": hash_or_none(torrent.info_hashes().v1),
                "info_hash_v2": hash_or_none(torrent.info_hashes().v2),
                "info_sha1_of_reencoded": hashlib.sha1(span).hexdigest(),
                "name": torrent.name(),
                "bytes": torrent.total_size(),
                "bytes_on_disk": torrent.size_on_disk(),
                "piece_length": torrent.piece_length(),
                "pieces": torrent.num_pieces(),
                "private": torrent.priv(),
                "comment": torrent.comment(),
                "trackers": [[t.url, t.tier] for t in torrent.trackers()],
                "web_seeds": [seed["url"] for seed in torrent.web_seeds()],
                "files": files,
                "magnet": lt.make_magnet_uri(torrent),
            }
        )
    )


def magnet(link):
    """What libtorrent reads in a magnet link."""
    params = lt.parse_magnet_uri(link)
    print(
        json.dumps(
            {
                "info_hash_v1": hash_or_none(params.info_hashes.v1),
                "info_hash_v2": hash_or_none(params.info_hashes.v2),
                "name": params.name,
                "trackers": params.trackers,
                "web_seeds": list(params.url_seeds),
                "peers": [list(peer) for peer in params.peers],
            }
        )
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("seed", "leech"):
        peer = modes.add_parser(mode)
        peer.add_argument("torrent", help="a .torrent file or a magnet link")
        peer.add_argument("folder")
        peer.add_argument("--listen", default="127.0.0.1:0")
        peer.add_argument("--peer", action="append", default=[])
        peer.add_argument("--tracker", action="append", default=[])
        peer.add_argument("--up", type=int, default=0, help="bytes per second")
        peer.add_argument("--down", type=int, default=0, help="bytes per second")
        peer.add_argument("--trust", action="store_true", help="do not check the data first")
        peer.add_argument("--many-on-one-address", action="store_true")
        peer.add_argument("--seconds", type=float, default=120)
        peer.add_argument("--tick", type=float, default=0.05, help="seconds between two looks")
        peer.add_argument("--verbose", action="store_true")
    make = modes.add_parser("make-torrent")
    make.add_argument("path")
    make.add_argument("out")
    make.add_argument("--piece-length", type=int, required=True)
    make.add_argument("--files", help="JSON: a list of lists of path parts; default: all")
    make.add_argument("--version", choices=list(VERSIONS), default="v1")
    show = modes.add_parser("info")
    show.add_argument("torrent")
    link = modes.add_parser("magnet")
    link.add_argument("link")
    return parser.parse_args()


START = time.monotonic()

if __name__ == "__main__":
    ARGS = arguments()
    if ARGS.mode == "make-torrent":
        make_torrent(ARGS)
    elif ARGS.mode == "info":
        info(ARGS.torrent)
    elif ARGS.mode == "magnet":
        magnet(ARGS.link)
    else:
        transfer(ARGS)
