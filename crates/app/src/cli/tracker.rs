//! `dunlin tracker`: runs a tracker until it is interrupted.

use std::io;
use std::net::SocketAddr;
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
    let shown = if addr.ip().is_unspecified() {
        format!(
            "http://127.0.0.1:{0}/announce here, http://ADDRESS:{0}/announce for others",
            addr.port()
        )
    } else {
        format!("http://{addr}/announce")
    };
    tracing::info!(target: "dunlin", "announce URL: {shown}");
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

fn cannot_listen(addr: SocketAddr, error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        let line =
            format!("{addr}: another program listens there; choose another port with --http");
        Failure::new(Code::Conflict, line)
    } else if kind == io::ErrorKind::AddrNotAvailable {
        let line = format!("{addr}: this machine has no such address; choose another one");
        Failure::new(Code::NotFound, line)
    } else if kind == io::ErrorKind::PermissionDenied {
        let line = format!("{addr}: not allowed; choose a port above 1023");
        Failure::new(Code::Refused, line)
    } else {
        Failure::new(Code::Other, format!("{addr}: {}", system_words(error)))
    }
}
