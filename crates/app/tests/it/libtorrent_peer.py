"""One libtorrent peer for the tests: JSON lines on stdout, ends when stdin does.

usage: libtorrent_peer.py TORRENT DIR [--listen ADDR:PORT] [--peer ADDR:PORT]... [--seed-mode]
       [--setting NAME=VALUE]...

Default settings of libtorrent, except that it finds nobody but the peers and trackers that it is
told of: the tests speak to loopback alone.
"""

import argparse
import json
import select
import sys
import time

import libtorrent as lt


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def value(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("dir")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--seed-mode", action="store_true")
    parser.add_argument("--setting", action="append", default=[])
    args = parser.parse_args()

    settings = {
        "listen_interfaces": args.listen,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": lt.alert.category_t.status_notification
        | lt.alert.category_t.error_notification,
    }
    for setting in args.setting:
        name, text = setting.split("=", 1)
        settings[name] = value(text)
    session = lt.session(settings)

    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.dir
    if args.seed_mode:
        params.flags |= lt.torrent_flags.seed_mode
    handle = session.add_torrent(params)
    host = args.listen.rsplit(":", 1)[0]
    while session.listen_port() == 0:
        time.sleep(0.01)
    say("listening", addr=f"{host}:{session.listen_port()}")
    for peer in args.peer:
        peer_host, port = peer.rsplit(":", 1)
        handle.connect_peer((peer_host, int(port)))

    complete = False
    last = 0.0
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], 0.05)
        if ready and not sys.stdin.buffer.read1(64):
            return
        for alert in session.pop_alerts():
            if alert.category() & lt.alert.category_t.error_notification:
                say("warning", message=alert.message())
        status = handle.status()
        fields = dict(
            state=str(status.state),
            have_bytes=status.total_wanted_done,
            total_bytes=status.total_wanted,
            downloaded=status.all_time_download,
            uploaded=status.all_time_upload,
            peers=status.num_peers,
        )
        if status.is_seeding and not complete:
            complete = True
            handle.flush_cache()
            say("complete", **fields)
        if time.monotonic() - last >= 0.25:
            last = time.monotonic()
            say("progress", **fields)


main()
