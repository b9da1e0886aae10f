//! `--json-lines`: one event a line on stdout, for programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dunlin_metainfo::InfoHash;
use serde_json::{Value, json};

use crate::clean::clean_json;
use crate::failure::Failure;
use crate::screen;

/// Where events go; silent unless they were asked for.
#[derive(Clone, Debug)]
pub struct Events {
    on: bool,
    start: Instant,
    /// The time of the last event, in microseconds: time never goes back on stdout.
    last: Arc<AtomicU64>,
}

impl Events {
    pub fn new(on: bool) -> Self {
        Self {
            on,
            start: Instant::now(),
            last: Arc::default(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Time since the start of the program, as events tell it.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// `body` is a JSON object; `event`, `t` and, about a torrent, `info_hash` come before it.
    pub fn emit(
        &self,
        event: &str,
        info_hash: Option<&InfoHash>,
        body: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        self.emit_at(self.now(), event, info_hash, body)
    }

    /// The same for something that happened a moment ago.
    pub fn emit_at(
        &self,
        at: Duration,
        event: &str,
        info_hash: Option<&InfoHash>,
        body: impl FnOnce() -> Value,
    ) -> Result<(), Failure> {
        if !self.on {
            return Ok(());
        }
        let at = u64::try_from(at.min(self.now()).as_micros()).unwrap_or(u64::MAX);
        let at = self.last.fetch_max(at, Ordering::Relaxed).max(at);
        screen::out(&line(event, at as f64 / 1e6, info_hash, body()))
    }

    /// Something went wrong and the work goes on.
    pub fn warning(
        &self,
        info_hash: Option<&InfoHash>,
        code: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let body = || json!({ "code": code, "message": message });
        self.emit("warning", info_hash, body)
    }

    /// Tells the failure that ends a command, and passes it on.
    pub fn end(&self, result: Result<(), Failure>) -> Result<(), Failure> {
        result.inspect_err(|failure| self.error(None, failure))
    }

    pub fn error(&self, info_hash: Option<&InfoHash>, failure: &Failure) {
        let body = || {
            json!({
                "code": failure.code.word(),
                "message": failure.message,
                "exit": failure.code.number(),
            })
        };
        // The command fails anyway; a stdout that cannot take this changes nothing.
        let _ = self.emit("error", info_hash, body);
    }
}

fn line(event: &str, t: f64, info_hash: Option<&InfoHash>, body: Value) -> String {
    let mut text = format!("{{\"event\":{},\"t\":{t:.6}", json!(event));
    if let Some(info_hash) = info_hash {
        text.push_str(&format!(",\"info_hash\":\"{info_hash}\""));
    }
    if let Value::Object(fields) = body {
        for (name, value) in fields {
            text.push_str(&format!(",{}:{value}", json!(name)));
        }
    }
    text.push('}');
    clean_json(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_starts_with_event_and_time() {
        let hash = InfoHash::new([0xab; 20]);
        let text = line("piece", 1.5, Some(&hash), json!({ "index": 3 }));
        assert!(text.starts_with("{\"event\":\"piece\",\"t\":1.500000,\"info_hash\":\"abab"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["index"], 3);
    }
}
