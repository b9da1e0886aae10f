//! `dunlin tracker`: runs a tracker until it is interrupted.

use std::time::Duration;

use dunlin_tracker::{Config, Error, Server};
use serde_json::json;

use crate::args::Tracker;
use crate::events::Events;
use crate::failure::{Code, Failure, system_words};
use crate::signals::Interrupt;
use crate::{Context, options};

/// How often the interrupt is looked at.
const TICK: Duration = Duration::from_millis(50);

pub fn run(args: Tracker, mut context: Context) -> Result<(), Failure> {
    context.config.add_flag("tracker.http", args.http)?;
    context.config.add_flag("tracker.udp", args.udp)?;
    let addr = context.config.get("tracker.http", options::address);
    context.start_logs_here(addr.port())?;
    let interrupt = Interrupt::install()?;
    let server = start(Config {
        http: addr,
        ..Config::default()
    })?;
    let addr = server.addr();
    let events = Events::new(args.json_lines);
    events.emit("listening", None, || json!({ "addr": addr.to_string() }))?;
    tracing::info!("announce URL: http://{addr}/announce");
    while !interrupt.is_set() {
        std::thread::sleep(TICK);
    }
    server.stop();
    Ok(())
}

pub fn start(config: Config) -> Result<Server, Failure> {
    Server::start(config).map_err(|error| match error {
        Error::Listen { addr, error } => cannot_listen(addr, &error),
        Error::System(error) => {
            Failure::new(Code::Other, format!("tracker: {}", system_words(&error)))
        }
    })
}

/// The same words for every socket that we open.
pub fn cannot_listen(addr: std::net::SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => Failure::new(
            Code::Conflict,
            format!("{addr}: the port is in use; choose another one"),
        ),
        ErrorKind::AddrNotAvailable => Failure::new(
            Code::NotFound,
            format!("{addr}: this machine has no such address; choose another one"),
        ),
        ErrorKind::PermissionDenied => Failure::new(
            Code::Refused,
            format!("{addr}: not allowed; choose a port above 1023"),
        ),
        _ => Failure::new(Code::Other, format!("{addr}: {}", system_words(error))),
    }
}
