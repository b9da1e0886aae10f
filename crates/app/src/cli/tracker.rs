//! `dunlin tracker`: runs a tracker until it is interrupted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dunlin_host::{Listen, Network};
use dunlin_tracker::{Config, Error, Protocol, Server};
use serde_json::json;

use crate::args::Tracker;
use crate::events::Events;
use crate::failure::{Code, Failure, system_words};
use crate::invitation::{host_of, own_address};
use crate::signals::Interrupt;
use crate::{Context, options};

/// How often the interrupt is looked at.
const TICK: Duration = Duration::from_millis(50);

pub fn run(args: Tracker, mut context: Context) -> Result<(), Failure> {
    context.config.add_flag("tracker.http", args.http)?;
    context.config.add_flag("tracker.udp", args.udp)?;
    let http = context.config.get("tracker.http", options::address);
    let udp = context.config.get("tracker.udp", options::address_or_off);
    context.start_logs_here(http.port())?;
    let interrupt = Interrupt::install()?;
    let server = start(Config {
        http,
        udp,
        ..Config::default()
    })?;
    let (http, udp) = (server.http_addr(), server.udp_addr());
    let events = Events::new(args.json_lines);
    events.emit(
        "listening",
        None,
        || json!({ "addr": http.to_string(), "udp": udp.map(|addr| addr.to_string()) }),
    )?;
    tracing::info!(target: "dunlin", "announce URL: {}", urls("http", http));
    if let Some(udp) = udp {
        tracing::info!(target: "dunlin", "announce URL: {}", urls("udp", udp));
    }
    while !interrupt.is_set() {
        std::thread::sleep(TICK);
    }
    server.stop();
    Ok(())
}

/// What clients are to be told.
fn urls(scheme: &str, addr: SocketAddr) -> String {
    let url = |ip: IpAddr| {
        let host = host_of(SocketAddr::new(ip, addr.port()));
        format!("{scheme}://{host}/announce")
    };
    if !addr.ip().is_unspecified() {
        return url(addr.ip());
    }
    let here = url(Ipv4Addr::LOCALHOST.into());
    match own_address(Listen::Exact(addr), &Network::default()) {
        (ip, None) => format!("{}, on this machine {here} too", url(ip)),
        (_, Some(_)) => here,
    }
}

pub fn start(config: Config) -> Result<Server, Failure> {
    Server::start(config).map_err(|error| match error {
        Error::Listen {
            protocol,
            addr,
            error,
        } => cannot_listen(protocol, addr, &error),
        Error::System(error) => {
            Failure::new(Code::Other, format!("tracker: {}", system_words(&error)))
        }
    })
}

fn cannot_listen(protocol: Protocol, addr: SocketAddr, error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        let flag = match protocol {
            Protocol::Http => "--http",
            Protocol::Udp => "--udp",
        };
        let line = format!(
            "{addr}: another program listens there ({protocol}); choose another port with {flag}"
        );
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
