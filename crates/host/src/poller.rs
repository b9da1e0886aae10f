//! Which sockets have news, and a way for other threads to interrupt the wait.
//!
//! mio tells of a change once. Whoever uses this remembers what is still readable or writable.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Token, Waker};

/// A function that interrupts [`Poller::wait`], from any thread.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

/// News of one socket, by the key that it was registered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct News {
    pub(crate) key: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side will send no more, or the socket is broken: what is left can be read.
    pub(crate) ended: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker,
        })
    }

    pub(crate) fn wake(&self) -> Wake {
        let waker = Arc::clone(&self.waker);
        // It cannot fail but for a broken kernel object, and then nobody can be told.
        Arc::new(move || drop(waker.wake()))
    }

    /// `key` must be below `u64::MAX`, which is ours.
    pub(crate) fn register(&self, source: &mut impl Source, key: u64) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(source, token(key), both)
    }

    pub(crate) fn register_listener(&self, source: &mut impl Source, key: u64) -> io::Result<()> {
        self.poll
            .registry()
            .register(source, token(key), Interest::READABLE)
    }

    pub(crate) fn deregister(&self, source: &mut impl Source) {
        // The socket is about to be closed, which does the same.
        let _ = self.poll.registry().deregister(source);
    }

    /// Waits for news, a wake, or the end of `timeout`; without one, for ever.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        news: &mut Vec<News>,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        let of_sockets = self.events.iter().filter(|event| event.token() != WAKER);
        news.extend(of_sockets.map(|event| News {
            key: event.token().0 as u64,
            readable: event.is_readable(),
            writable: event.is_writable(),
            ended: event.is_read_closed() || event.is_error(),
        }));
        Ok(())
    }
}

fn token(key: u64) -> Token {
    Token(usize::try_from(key).expect("keys are counted up from zero"))
}

const WAKER: Token = Token(usize::MAX);

/// More news than that waits for the next call.
const EVENTS_MAX: usize = 1024;
