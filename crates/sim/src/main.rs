//! `dunlin-sim`: swarms in an imaginary world, from the command line.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Instant;

use dunlin_sim::catalogue::{self, Measured, Scenario};
use dunlin_sim::net::{COARSE, FINE};
use dunlin_sim::page::{self, Heading};
use dunlin_sim::report::Cost;
use dunlin_sim::sweep::Sweep;
use dunlin_sim::{NodeId, Report};

const USAGE: &str = "\
usage: dunlin-sim list
       dunlin-sim run SCENARIO [--peers N] [--seed S] [--fine | --coarse] [--json]
                               [--log] [--report FILE.html [--watch NODE]]
       dunlin-sim sweep SCENARIO [--seeds FROM..TO] [--peers N] [--jobs N] [--json]
";

/// Exit code of a wrong command line (cli.md).
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["list"] => {
            for scenario in catalogue::all() {
                println!("{:<16} {}", scenario.name, scenario.about);
            }
            ExitCode::SUCCESS
        }
        ["run", name, rest @ ..] => with_scenario(name, rest, run),
        ["sweep", name, rest @ ..] => with_scenario(name, rest, sweep),
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

fn with_scenario(
    name: &str,
    rest: &[&str],
    act: fn(&'static Scenario, &Options) -> ExitCode,
) -> ExitCode {
    match (Options::parse(rest), catalogue::find(name)) {
        (Ok(options), Some(scenario)) => act(scenario, &options),
        (Ok(_), None) => usage_error(&format!(
            "no scenario is called {name}: see `dunlin-sim list`"
        )),
        (Err(message), _) => usage_error(&message),
    }
}

/// Seeds of a sweep that says nothing else: none of them was used for tuning.
const SWEEP_SEEDS: RangeInclusive<u64> = 1001..=1020;

/// Seeds of one sweep, at most.
const SEEDS_MAX: u64 = 100_000;

#[derive(Debug)]
struct Options {
    peers: Option<u32>,
    seed: u64,
    /// Of a sweep.
    seeds: RangeInclusive<u64>,
    /// Runs of a sweep at the same time.
    jobs: usize,
    json: bool,
    log: bool,
    report: Option<String>,
    /// Whose chokes the page tells.
    watch: u32,
    quantum: Option<u32>,
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            peers: None,
            seed: 1,
            seeds: SWEEP_SEEDS,
            jobs: 1,
            json: false,
            log: false,
            report: None,
            watch: 1,
            quantum: None,
        };
        let mut rest = args.iter();
        while let Some(&arg) = rest.next() {
            match arg {
                "--json" => options.json = true,
                "--log" => options.log = true,
                "--fine" => options.quantum = Some(FINE),
                "--coarse" => options.quantum = Some(COARSE),
                "--peers" => {
                    let peers = number(arg, rest.next())?;
                    let peers = u32::try_from(peers)
                        .ok()
                        .filter(|n| (1..=100_000).contains(n));
                    options.peers = Some(peers.ok_or("--peers takes 1 to 100000")?);
                }
                "--report" => {
                    let path = rest.next().ok_or("--report takes the name of a file")?;
                    options.report = Some((*path).to_owned());
                }
                "--watch" => {
                    let node = u32::try_from(number(arg, rest.next())?);
                    options.watch = node.map_err(|_| "--watch takes the number of a node")?;
                }
                "--seed" => options.seed = number(arg, rest.next())?,
                "--seeds" => options.seeds = seeds(rest.next())?,
                "--jobs" => options.jobs = number(arg, rest.next())? as usize,
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

/// `1001..1020`, both included, or one number.
fn seeds(value: Option<&&str>) -> Result<RangeInclusive<u64>, String> {
    let message = || "--seeds takes a range such as 1001..1020".to_owned();
    let text = value.ok_or_else(message)?;
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let parse = |text: &str| text.trim_start_matches('=').parse::<u64>().ok();
    let (from, to) = parse(from).zip(parse(to)).ok_or_else(message)?;
    if from > to || to - from >= SEEDS_MAX {
        return Err(message());
    }
    Ok(from..=to)
}

/// Linux: the most memory that this process had.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn usage_error(message: &str) -> ExitCode {
    eprint!("dunlin-sim: {message}\n{USAGE}");
    ExitCode::from(USAGE_ERROR)
}

fn run(scenario: &'static Scenario, options: &Options) -> ExitCode {
    let peers = options.peers.unwrap_or(scenario.peers);
    let started = Instant::now();
    let mut measured = scenario.measure_with(peers, options.seed, |swarm| {
        let mut swarm = swarm.log(options.log);
        if let Some(quantum) = options.quantum {
            swarm = swarm.quantum(quantum);
        }
        match options.report {
            Some(_) => swarm.record(NodeId(options.watch)),
            None => swarm,
        }
    });
    let wall = started.elapsed();
    if let Some(path) = &options.report
        && let Err(error) = write_page(path, scenario, peers, options, &mut measured)
    {
        eprintln!("dunlin-sim: cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    if options.json {
        let report = &measured.report;
        let cost = Cost {
            wall,
            peak_rss_bytes: peak_rss_bytes(),
        };
        println!("{}", report.json(scenario.name, &measured.figures, cost));
    } else {
        tell(scenario.name, &measured, wall.as_secs_f64());
    }
    let violations = measured.violations();
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

fn sweep(scenario: &'static Scenario, options: &Options) -> ExitCode {
    let peers = options.peers.unwrap_or(scenario.peers);
    let seeds: Vec<u64> = options.seeds.clone().collect();
    let sweep = Sweep::of(scenario, peers, &seeds, options.jobs);
    if options.json {
        println!("{}", sweep.json());
    } else {
        print!("{}", sweep.table());
    }
    let mut exit = ExitCode::SUCCESS;
    for (seed, violation) in sweep.violations() {
        eprintln!("dunlin-sim: seed {seed}: {violation}");
        exit = ExitCode::FAILURE;
    }
    exit
}

fn write_page(
    path: &str,
    scenario: &Scenario,
    peers: u32,
    options: &Options,
    measured: &mut Measured,
) -> std::io::Result<()> {
    let Some(record) = measured.report.record.take() else {
        return Ok(());
    };
    let command = format!(
        "dunlin-sim run {} --peers {peers} --seed {} --watch {} --report {path}",
        scenario.name, options.seed, options.watch
    );
    let heading = Heading {
        scenario: scenario.name,
        about: scenario.about,
        command: &command,
    };
    std::fs::write(path, page::html(heading, &measured.report, &record))
}

/// `120 s of all nodes: choked 55 %, asked 30 %, slow 15 %`.
fn stalled(report: &Report) -> String {
    let stalls = report.stalls();
    let total = stalls.total();
    let causes = stalls.ranking().into_iter();
    let causes: Vec<String> = causes
        .map(|(cause, seconds)| {
            let share = seconds as f64 * 100.0 / total as f64;
            format!("{} {share:.1} %", cause.code())
        })
        .collect();
    format!("{total} s of all nodes: {}", causes.join(", "))
}

fn tell(name: &str, measured: &Measured, wall_s: f64) {
    let report = &measured.report;
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
    println!("  stalled           {}", stalled(report));
    for figure in measured.figures.iter().skip(report.figures().len()) {
        let value = figure
            .value
            .map_or("none".to_owned(), |value| format!("{value:.4}"));
        let goal = figure
            .goal
            .map_or(String::new(), |goal| format!(" (goal {goal})"));
        println!("  {:<32}{value}{goal}", figure.name);
    }
    for difference in &report.config_differences {
        println!("  not the default   {difference}");
    }
    println!(
        "  {} events in {wall_s:.2} s ({:.2} million a second), trace {:016x}",
        report.events,
        report.events as f64 / wall_s.max(1e-9) / 1e6,
        report.trace_hash
    );
}
