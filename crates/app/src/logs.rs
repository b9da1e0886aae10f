//! Where log lines go and what they look like.
//!
//! On stderr a text line is bare: `warning: tracker ...`. In a file it starts with the time. JSON is
//! the same in both. The filter is the flag `--log`, else `-q` and `-v`, else the option.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::Failure;
use crate::screen;

/// How the log of this run is to be.
#[derive(Debug)]
pub struct Setup<'a> {
    /// For stderr.
    pub filter: &'a str,
    pub json: bool,
    /// A file and the filter for it.
    pub file: Option<(&'a Path, &'a str)>,
}

/// Starts logging. A second call in one process changes nothing.
pub fn start(setup: &Setup<'_>) -> Result<(), Failure> {
    let file = match setup.file {
        Some((path, filter)) => Some((open(path)?, parse(filter)?)),
        None => None,
    };
    let stderr = layer(setup.json, Place::Stderr, ToStderr).with_filter(parse(setup.filter)?);
    let file = file
        .map(|(file, filter)| layer(setup.json, Place::File, Arc::new(file)).with_filter(filter));
    let registry = tracing_subscriber::registry().with(stderr).with(file);
    let _ = tracing::subscriber::set_global_default(registry);
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| Failure::io(path, &error))
}

fn parse(filter: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        Failure::usage(format!(
            "--log {filter:?}: {error}; write info, debug, or TARGET=LEVEL"
        ))
    })
}

fn layer<S, W>(json: bool, place: Place, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    if json {
        Box::new(fmt::layer().json().flatten_event(true).with_writer(writer))
    } else {
        Box::new(
            fmt::layer()
                .with_ansi(false)
                .event_format(Text(place))
                .with_writer(writer),
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Stderr,
    File,
}

struct Text(Place);

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = *event.metadata().level();
        match self.0 {
            Place::File => {
                fmt::time::FormatTime::format_time(&fmt::time::SystemTime, &mut writer)?;
                write!(writer, " {level:<5} ")?;
            }
            Place::Stderr => writer.write_str(prefix(level))?,
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        Level::INFO => "",
        Level::DEBUG => "debug: ",
        Level::TRACE => "trace: ",
    }
}

#[derive(Clone, Copy)]
struct ToStderr;

impl Write for ToStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        screen::write_above(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ToStderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}
