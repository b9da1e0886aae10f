//! SIGINT and SIGTERM: once is a request, twice is an order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::failure::{Code, Failure, INTERRUPTED_TWICE};

/// Set by the first signal. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

static INSTALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

impl Interrupt {
    /// From now on the first signal sets the flag and the second one ends the process at once.
    /// There is one flag, however often this is called.
    pub fn install() -> Result<Self, Failure> {
        if let Some(flag) = INSTALLED.get() {
            return Ok(Self(Arc::clone(flag)));
        }
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the exit looks at the flag before this very signal sets it.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(INTERRUPTED_TWICE),
                Arc::clone(&flag),
            )
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::new(Code::Other, format!("signals: {error}")))?;
        }
        // A file beyond the limit of the shell (ulimit -f) is an error to report, not an end.
        signal_hook::flag::register(SIGXFSZ, Arc::default())
            .map_err(|error| Failure::new(Code::Other, format!("signals: {error}")))?;
        Ok(Self(Arc::clone(INSTALLED.get_or_init(|| flag))))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// For work that looks at a flag while it runs.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    pub fn shared_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
