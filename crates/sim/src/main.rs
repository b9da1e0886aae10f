//! `dunlin-sim`: swarms in an imaginary world, from the command line.

use std::process::ExitCode;
use std::time::Instant;

use dunlin_sim::Report;
use dunlin_sim::catalogue::{self, Scenario};

const USAGE: &str = "\
usage: dunlin-sim list
       dunlin-sim run SCENARIO [--peers N] [--seed S] [--json] [--log]
";

/// Exit code of a wrong command line (cli.md).
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["list"] => {
            for scenario in catalogue::ALL {
                println!("{:<16} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        ["run", name, rest @ ..] => match Options::parse(rest) {
            Ok(options) => match catalogue::find(name) {
                Some(scenario) => run(scenario, &options),
                None => usage_error(&format!(
                    "no scenario is called {name}: see `dunlin-sim list`"
                )),
            },
            Err(message) => usage_error(&message),
        },
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("dunlin-sim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [] => usage_error("what should it do?"),
        [other, ..] => usage_error(&format!("{other} is not a command")),
    }
}

#[derive(Debug, Default)]
struct Options {
    peers: Option<u32>,
    seed: u64,
    json: bool,
    log: bool,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            seed: 1,
            ..Self::default()
        };
        let mut rest = args.iter();
        while let Some(&arg) = rest.next() {
            match arg {
                "--json" => options.json = true,
                "--log" => options.log = true,
                "--peers" => {
                    let peers = number(arg, rest.next())?;
                    let peers = u32::try_from(peers)
                        .ok()
                        .filter(|n| (1..=100_000).contains(n));
                    options.peers = Some(peers.ok_or("--peers takes 1 to 100000")?);
                }
                "--seed" => options.seed = number(arg, rest.next())?,
                other => return Err(format!("{other} is not an option")),
            }
        }
        Ok(options)
    }
}

fn number(option: &str, value: Option<&&str>) -> Result<u64, String> {
    value
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{option} takes a number"))
}

fn usage_error(message: &str) -> ExitCode {
    eprint!("dunlin-sim: {message}\n{USAGE}");
    ExitCode::from(USAGE_ERROR)
}

fn run(scenario: &Scenario, options: &Options) -> ExitCode {
    let peers = options.peers.unwrap_or(scenario.peers);
    let started = Instant::now();
    let report = (scenario.build)(peers, options.seed).log(options.log).run();
    let wall = started.elapsed();
    if options.json {
        println!("{}", report.json(scenario.name, wall));
    } else {
        tell(scenario.name, &report, wall.as_secs_f64());
    }
    let violations = report.violations();
    for violation in &violations {
        eprintln!("dunlin-sim: {violation}");
    }
    if violations.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "dunlin-sim: again with: dunlin-sim run {} --peers {peers} --seed {}",
        scenario.name, options.seed
    );
    ExitCode::FAILURE
}

fn tell(name: &str, report: &Report, wall_s: f64) {
    let t_all = report
        .t_all_s
        .map_or("never".to_owned(), |t| format!("{t:.1} s"));
    let first = report
        .seed_copies_first
        .map_or("never".to_owned(), |copies| format!("{copies:.3}"));
    println!(
        "{name}: {} peers, {} pieces, {:.1} MiB, seed {}",
        report.peers,
        report.pieces,
        report.bytes as f64 / f64::from(1 << 20),
        report.seed
    );
    println!(
        "  all done          {t_all} (bound {:.1} s, efficiency {:.3})",
        report.t_bound_s, report.efficiency
    );
    println!(
        "  seed copies       {:.3} (first full replica {first})",
        report.seed_copies
    );
    println!(
        "  uplink use        {:.3}, Jain {:.3}",
        report.uplink_use, report.jain
    );
    println!(
        "  duplicates        {:.4} % , bad pieces {} bytes, bans {}",
        report.endgame_duplicate_share * 100.0,
        report.wasted_bytes,
        report.banned().count()
    );
    println!(
        "  {} events in {wall_s:.2} s ({:.2} million a second), trace {:016x}",
        report.events,
        report.events as f64 / wall_s.max(1e-9) / 1e6,
        report.trace_hash
    );
}
