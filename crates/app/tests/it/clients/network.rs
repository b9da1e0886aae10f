//! Hosts of a test's own: network namespaces on one LAN, 10.77.0.0/24, with no way out of it.
//!
//! Each pair has a cable of its own, `to-j` on host `i`, whose counters tell who sent whom how
//! much. On each host a bridge, `lan`, makes one interface of them; its ports are isolated from each
//! other, so nothing goes round in circles. Root needs no more than `unshare`; anybody else gets a
//! user namespace around it where the system allows that.
//!
//! Nothing has to be cleaned up. The namespaces have no names, only processes that read our pipe:
//! when the test ends, in whatever way, the pipe closes, they end, and the kernel takes the rest.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use super::missing;

/// Where a process runs: on this machine's loopback, or on a host of a [`Network`].
#[derive(Clone, Debug)]
pub struct Place {
    ip: Ipv4Addr,
    /// The command that enters it; empty on loopback.
    enter: Vec<OsString>,
}

impl Place {
    pub fn loopback() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST,
            enter: Vec::new(),
        }
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub fn is_loopback(&self) -> bool {
        self.ip.is_loopback()
    }

    /// A command that runs `program` here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&Command::new(program))
    }

    /// The same command, but here. Its pipes have to be set again.
    pub fn enter(&self, command: &Command) -> Command {
        let mut words = self.enter.iter().map(OsString::as_os_str);
        let mut entered = match words.next() {
            Some(first) => {
                let mut entered = Command::new(first);
                entered.args(words).arg(command.get_program());
                entered
            }
            None => Command::new(command.get_program()),
        };
        entered.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            entered.current_dir(folder);
        }
        entered
    }
}

/// The head of the scripts, `sh -c SCRIPT sh HOSTS ...`: one namespace a host, each held by a process.
/// A background process of a shell has no stdin: 3 is the pipe.
pub const SPACES: &str = r#"
set -e
exec 3<&0
n=$1
for i in $(seq $n); do
  unshare --net cat <&3 >/dev/null &
  pids="$pids $!"
done
pid() { shift $1; echo $1; }
for i in $(seq $n); do
  until [ "$(readlink /proc/$(pid $i $pids)/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
done
"#;

const MESH: &str = r#"
for i in $(seq $n); do for j in $(seq $i $n); do
  [ $i = $j ] || cat <<END
link add to-$j netns $(pid $i $pids) type veth peer name to-$i netns $(pid $j $pids)
END
done; done | ip -batch -
for i in $(seq $n); do
  { echo "link set lo up"
    echo "link add lan type bridge"
    echo "addr add 10.77.0.$i/24 dev lan"
    echo "link set lan up"
    for j in $(seq $n); do
      [ $i = $j ] || cat <<END
link set to-$j master lan up
link set to-$j type bridge_slave isolated on
END
    done
  } | nsenter --target $(pid $i $pids) --net ip -batch -
done
"#;

/// The end of the scripts: prints the id of one process a host, then waits.
pub const HOLD: &str = r#"
echo $pids
cat <&3 >/dev/null
"#;

/// Namespaces, for as long as the process lives that holds them.
#[derive(Debug)]
pub struct Held {
    holder: Child,
    pub hosts: Vec<Place>,
}

impl Held {
    /// Runs a script that makes `hosts` namespaces; `words` follow their count on its command line.
    /// `None` means that `test` must end here: it was skipped.
    pub fn start(test: &str, script: &str, hosts: usize, words: &[String]) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        unshare.arg("--net");
        if !root {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare
            .args(["sh", "-c", script, "sh", &hosts.to_string()])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut holder = match unshare.spawn() {
            Ok(holder) => holder,
            Err(error) => {
                missing(test, &format!("no network namespaces: unshare: {error}"));
                return None;
            }
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(holder.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("a pipe can be read");
        let pids: Vec<&str> = line.split_whitespace().collect();
        if pids.len() != hosts {
            let said = holder.wait_with_output().map(|output| output.stderr);
            let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
            missing(test, &format!("no network namespaces: {}", said.trim()));
            return None;
        }
        let hosts = (1..).zip(&pids).map(|(index, pid)| {
            let mut enter = vec!["nsenter", "--target", pid, "--net"];
            if !root {
                enter.extend(["--user", "--preserve-credentials"]);
            }
            Place {
                ip: Ipv4Addr::new(10, 77, 0, index),
                enter: enter.into_iter().map(OsString::from).collect(),
            }
        });
        let hosts = hosts.collect();
        Some(Self { holder, hosts })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Bytes that an interface of `place` received and sent, with the headers of every layer.
pub fn counters(place: &Place) -> Vec<(String, u64, u64)> {
    // sysfs would show the namespace that mounted it.
    let output = place.command("cat").arg("/proc/net/dev").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let interfaces = text.lines().filter_map(|line| {
        let (name, counts) = line.split_once(':')?;
        let mut counts = counts.split_whitespace().map(str::parse);
        let received = counts.next()?.ok()?;
        let sent = counts.nth(7)?.ok()?;
        Some((name.trim().to_owned(), received, sent))
    });
    interfaces.collect()
}

/// Hosts that reach each other and nobody else.
#[derive(Debug)]
pub struct Network {
    held: Held,
}

impl Network {
    /// `None` means that `test` must end here: it was skipped.
    pub fn new(test: &str, hosts: usize) -> Option<Self> {
        let script = [SPACES, MESH, HOLD].concat();
        let held = Held::start(test, &script, hosts, &[])?;
        Some(Self { held })
    }

    /// The hosts: 10.77.0.1 and so on.
    pub fn hosts<const N: usize>(&self) -> [&Place; N] {
        let hosts: Vec<&Place> = self.held.hosts.iter().collect();
        hosts.try_into().expect("as many as were asked for")
    }

    /// Bytes that came in at `to` from `from`, with the headers of every layer.
    pub fn moved(&self, from: &Place, to: &Place) -> u64 {
        let interface = format!("to-{}", from.ip.octets()[3]);
        let mut all = counters(to).into_iter();
        let found = all.find(|(name, ..)| *name == interface);
        found.expect("there is a cable").1
    }
}
