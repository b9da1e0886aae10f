//! Mistakes in what is typed, in the environment and in config files.

use super::{Case, check, check_alone};
use crate::fixture::{PATIENCE, wait};

#[test]
fn command_is_unknown() {
    let case = Case::new();
    check_alone("command_is_unknown", case.run("gett thing.torrent"));
}

#[test]
fn command_is_forgotten() {
    let case = Case::new();
    check_alone("command_is_forgotten", case.run("thing.torrent"));
}

#[test]
fn flag_is_unknown() {
    let case = Case::new();
    check_alone("flag_is_unknown", case.run("get thing.torrent --dwon 1M"));
}

#[test]
fn argument_is_missing() {
    let case = Case::new();
    check_alone("argument_is_missing", case.run("get"));
}

#[test]
fn flags_contradict() {
    let case = Case::new();
    let line = "get thing.torrent --port 7000 --listen 127.0.0.1:0";
    check_alone("flags_contradict", case.run(line));
}

#[test]
fn rate_makes_no_sense() {
    let case = Case::new();
    for (command, rate) in [
        ("get thing.torrent", "--down"),
        ("seed thing.torrent", "--up"),
    ] {
        let done = case.run(&format!("{command} {rate} fast"));
        check_alone("rate_makes_no_sense", done);
    }
}

#[test]
fn rate_is_tiny() {
    let case = Case::new();
    let line = "get thing.torrent -d out --listen 127.0.0.1:0 --up 5 --timeout 10ms";
    check("rate_is_tiny", case.run(line));
}

#[test]
fn duration_makes_no_sense() {
    let case = Case::new();
    for flag in ["--timeout", "--stall-timeout", "--unchoking-interval"] {
        let done = case.run(&format!("get thing.torrent {flag} 30"));
        check_alone("duration_makes_no_sense", done);
    }
}

#[test]
fn peer_makes_no_sense() {
    let case = Case::new();
    check_alone(
        "peer_makes_no_sense",
        case.run("get thing.torrent --peer nobody"),
    );
}

#[test]
fn host_of_a_peer_is_unknown() {
    let case = Case::new();
    let line = "get thing.torrent -d out --peer nobody.invalid:6881";
    check_alone("host_of_a_peer_is_unknown", case.run(line));
}

#[test]
fn address_makes_no_sense() {
    let case = Case::new();
    for line in [
        "get thing.torrent --listen 127.0.0.1",
        "tracker --http 127.0.0.1:99999",
    ] {
        check_alone("address_makes_no_sense", case.run(line));
    }
}

#[test]
fn feature_is_not_built() {
    let case = Case::new();
    let line = "get thing.torrent --encryption require";
    check_alone("feature_is_not_built", case.run(line));
}

#[test]
fn select_matches_nothing() {
    let case = Case::new();
    let done = check(
        "select_matches_nothing",
        case.run("get thing.torrent -d out -s nothing"),
    );
    let listed = done.stderr.lines().any(|line| line.ends_with("  thing"));
    assert!(listed, "the files are listed: {}", done.stderr);
    assert!(case.left().is_empty());
}

#[test]
fn log_filter_makes_no_sense() {
    let case = Case::new();
    let line = "get thing.torrent -d out --log a=b=c";
    check_alone("log_filter_makes_no_sense", case.run(line));
}

#[test]
fn log_cannot_be_written() {
    let case = Case::new();
    let line = "get thing.torrent -d out --log-file no/folder/log";
    check_alone("log_cannot_be_written", case.run(line));
}

#[test]
fn environment_has_an_unknown_key() {
    let case = Case::new();
    let mut dunlin = case.sandbox.dunlin("get", &[&"thing.torrent"]);
    dunlin.env("DUNLIN_LIMITS__UPP", "1M");
    let done = wait(dunlin.spawn().unwrap(), PATIENCE);
    check_alone("environment_has_an_unknown_key", done);
}

#[test]
fn environment_has_a_bad_value() {
    let case = Case::new();
    let mut dunlin = case.sandbox.dunlin("get", &[&"thing.torrent"]);
    dunlin.env("DUNLIN_LIMITS__UP", "fast");
    let done = wait(dunlin.spawn().unwrap(), PATIENCE);
    check_alone("environment_has_a_bad_value", done);
}

/// The same for the config of `peer` and of everything else.
#[track_caller]
fn check_config(id: &str, text: &str) {
    let case = Case::new();
    case.sandbox.write("c.toml", text.as_bytes());
    check_alone(id, case.run("--config c.toml get thing.torrent -d out"));
    check_alone(id, case.run("peer c.toml 127.0.0.1 0"));
    assert!(case.left().is_empty());
}

#[test]
fn config_has_an_unknown_key() {
    check_config("config_has_an_unknown_key", "[limits]\nupp = \"1M\"\n");
}

#[test]
fn config_has_an_unknown_section() {
    check_config("config_has_an_unknown_section", "[limit]\nup = \"1M\"\n");
}

#[test]
fn config_has_a_bad_value() {
    check_config("config_has_a_bad_value", "[limits]\nup = \"fast\"\n");
}

#[test]
fn config_is_no_toml() {
    check_config("config_is_no_toml", "\n\n[limits\nup = \"1M\"\n");
}

#[test]
fn config_is_not_there() {
    let case = Case::new();
    for line in [
        "--config gone.toml get thing.torrent",
        "peer gone.toml 127.0.0.1 0",
    ] {
        check_alone("config_is_not_there", case.run(line));
    }
}

#[test]
fn config_is_a_folder() {
    let case = Case::new();
    for line in ["--config data get thing.torrent", "peer data 127.0.0.1 0"] {
        check_alone("config_is_a_folder", case.run(line));
    }
}

#[test]
fn config_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new();
    let config = case.sandbox.write("c.toml", b"");
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o000)).unwrap();
    let Some(done) = case.run_as_nobody("--config c.toml show thing.torrent") else {
        return;
    };
    check_alone("config_may_not_be_read", done);
}

#[test]
fn config_of_a_peer_shares_nothing() {
    let case = Case::new();
    case.sandbox.write("c.toml", b"[limits]\nup = \"1M\"\n");
    check_alone(
        "config_of_a_peer_shares_nothing",
        case.run("peer c.toml 127.0.0.1 0"),
    );
}

#[test]
fn piece_length_makes_no_sense() {
    let case = Case::new();
    let line = "create data -o new.torrent --piece-length 100K";
    check_alone("piece_length_makes_no_sense", case.run(line));
    assert!(!case.sandbox.path("new.torrent").exists());
}

#[test]
fn tracker_url_makes_no_sense() {
    let case = Case::new();
    let line = "create data -o new.torrent --tracker example.org";
    check_alone("tracker_url_makes_no_sense", case.run(line));
}

#[test]
fn demo_of_nothing() {
    let case = Case::new();
    check_alone("demo_of_nothing", case.run("demo --size 0"));
}

#[test]
fn tracker_is_of_another_kind() {
    let case = Case::new();
    let line = "get thing.torrent -d out --tracker ws://127.0.0.1:1";
    check_alone("tracker_is_of_another_kind", case.run(line));
}

#[test]
fn seed_goal_makes_no_sense() {
    let case = Case::new();
    let line = "get thing.torrent -d out --seed sometimes";
    check_alone("seed_goal_makes_no_sense", case.run(line));
}

#[test]
fn shell_is_unknown() {
    let case = Case::new();
    check_alone("shell_is_unknown", case.run("completions nosh"));
}
