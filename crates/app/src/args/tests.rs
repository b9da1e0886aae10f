use super::*;
use crate::options::OPTIONS;
use clap::CommandFactory;

fn parse_line(line: &str) -> Result<Cli, Refusal> {
    parse(line.split(' ').map(Into::into).collect())
}

fn failure(line: &str) -> String {
    match parse_line(line) {
        Err(Refusal::Wrong(failure)) => failure.message,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_of_the_option_table_exists() {
    let command = Cli::command();
    let known: Vec<String> = command
        .get_subcommands()
        .chain([&command])
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
        .collect();
    for spec in OPTIONS.iter().filter(|spec| !spec.flag.is_empty()) {
        assert!(known.iter().any(|flag| flag == spec.flag), "{}", spec.flag);
    }
}

#[test]
fn what_is_not_built_is_absent_from_the_help() {
    let mut command = Cli::command();
    command.build();
    let mut texts = vec![command.render_long_help().to_string()];
    texts.extend(
        command
            .get_subcommands_mut()
            .filter(|sub| !sub.is_hide_set())
            .map(|sub| sub.render_long_help().to_string()),
    );
    for text in texts {
        for word in ["dht", "lsd", "encryption", "hybrid"] {
            assert!(!text.to_lowercase().contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn what_is_to_be_typed_survives_a_shell() {
    for (word, typed) in [
        ("a/thing-1.torrent", "get a/thing-1.torrent"),
        (
            "magnet:?xt=urn:btih:00&dn=x",
            "get 'magnet:?xt=urn:btih:00&dn=x'",
        ),
        ("it's.torrent", r"get 'it'\''s.torrent'"),
    ] {
        let failure = failure(&format!("dunlin {word}"));
        assert!(failure.ends_with(typed), "{failure}");
    }
}

#[test]
fn something_to_download_hints_at_get() {
    assert!(failure("dunlin thing.torrent").ends_with("dunlin get thing.torrent"));
    assert!(failure("dunlin magnet:?xt=urn:btih:0").contains("dunlin get 'magnet:"));
}

#[test]
fn a_usage_error_is_one_line() {
    for line in [
        "dunlin gte x",
        "dunlin get",
        "dunlin get x --dwon 1M",
        "dunlin -q -v get x",
    ] {
        let text = failure(line);
        assert!(!text.contains('\n') && !text.contains("Usage"), "{text}");
    }
    assert!(failure("dunlin sed x").contains("'seed'"));
}

#[test]
fn flags_become_options() {
    let Ok(cli) = parse_line("dunlin get a.torrent --up 1M --peer a:1 --peer b:2 --sequential")
    else {
        panic!()
    };
    let Command::Get(get) = cli.command else {
        panic!()
    };
    let mut config = Config::default();
    get.add_to(&mut config).unwrap();
    assert_eq!(config.text("limits.up"), "1M");
    assert_eq!(config.list("swarm.peers"), ["a:1", "b:2"]);
    assert_eq!(config.text("pieces.order"), "sequential");
}
