//! Reads one HTTP response from bytes in any split: head, then a body that is delimited by its
//! length, by chunks, or by the end of the connection.
//!
//! Nothing is allocated by a number that the server names, and both parts have a limit.

use std::io::Read;

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The words after the status, for people.
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// `404 Not Found`
    pub(crate) fn status_line(&self) -> String {
        format!("{} {}", self.status, self.reason).trim().to_owned()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("the head of the answer is longer than {HEAD_LEN_MAX} bytes")]
    HeadTooLong,
    #[error("the answer is longer than {0} bytes")]
    BodyTooLong(usize),
    #[error("the answer has a bad chunk")]
    Chunk,
    #[error("the answer has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("the answer is packed in a way that we did not ask for")]
    Packed,
    #[error("the answer cannot be unpacked")]
    Gzip,
    #[error("the answer was cut off")]
    CutOff,
}

/// Feed it with [`ResponseReader::push`] until that says `true`, or the connection ends.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    body_len_max: usize,
    head: Option<Head>,
    /// Read, not yet understood.
    pending: Vec<u8>,
    body: Vec<u8>,
    /// Answers before the real one.
    interim: usize,
}

#[derive(Debug)]
struct Head {
    status: u16,
    reason: String,
    location: Option<String>,
    framing: Framing,
    /// Some servers compress unasked.
    is_gzip: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length(usize),
    UntilClose,
    ChunkSize,
    /// Bytes of the chunk that are still to come.
    ChunkData(usize),
    /// The line end after a chunk.
    ChunkEnd,
    Done,
}

impl ResponseReader {
    /// Takes a body of at most so many bytes.
    pub(crate) fn new(body_len_max: usize) -> Self {
        Self {
            body_len_max,
            head: None,
            pending: Vec::new(),
            body: Vec::new(),
            interim: 0,
        }
    }

    /// Whether the response is complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<bool, ResponseError> {
        self.pending.extend_from_slice(bytes);
        while self.head.is_none() {
            let Some((head, used)) = parse_head(&self.pending, self.body_len_max)? else {
                return if self.pending.len() > HEAD_LEN_MAX {
                    Err(ResponseError::HeadTooLong)
                } else {
                    Ok(false)
                };
            };
            self.pending.drain(..used);
            // An interim answer (100 Continue) is followed by the real one.
            if head.status >= 200 {
                self.head = Some(head);
            } else if self.interim == INTERIM_MAX {
                return Err(ResponseError::NotHttp);
            } else {
                self.interim += 1;
            }
        }
        while self.step()? {}
        Ok(self.framing() == Some(Framing::Done))
    }

    /// The connection ended, or the response is complete.
    pub(crate) fn finish(self) -> Result<Response, ResponseError> {
        let head = self.head.ok_or(ResponseError::CutOff)?;
        if !matches!(head.framing, Framing::Done | Framing::UntilClose) {
            return Err(ResponseError::CutOff);
        }
        let body = if head.is_gzip {
            gunzip(&self.body, self.body_len_max)?
        } else {
            self.body
        };
        Ok(Response {
            status: head.status,
            reason: head.reason,
            location: head.location,
            body,
        })
    }

    fn framing(&self) -> Option<Framing> {
        self.head.as_ref().map(|head| head.framing)
    }

    /// One step through the body; whether another may follow.
    fn step(&mut self) -> Result<bool, ResponseError> {
        let Some(framing) = self.framing() else {
            return Ok(false);
        };
        let next = match framing {
            Framing::Length(rest) => match self.take(rest)? {
                0 => Framing::Done,
                rest => Framing::Length(rest),
            },
            Framing::UntilClose => {
                self.take(usize::MAX)?;
                Framing::UntilClose
            }
            Framing::ChunkSize => match httparse::parse_chunk_size(&self.pending) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.pending.drain(..used);
                    let size = usize::try_from(size)
                        .map_err(|_| ResponseError::BodyTooLong(self.body_len_max))?;
                    match size {
                        // Trailers would follow: nothing that we read.
                        0 => Framing::Done,
                        size => Framing::ChunkData(size),
                    }
                }
                Ok(httparse::Status::Partial) if self.pending.len() <= CHUNK_LINE_LEN_MAX => {
                    return Ok(false);
                }
                Ok(httparse::Status::Partial) | Err(_) => return Err(ResponseError::Chunk),
            },
            Framing::ChunkData(rest) => match self.take(rest)? {
                0 => Framing::ChunkEnd,
                rest => Framing::ChunkData(rest),
            },
            Framing::ChunkEnd => match self.pending.get(..2) {
                Some(b"\r\n") => {
                    self.pending.drain(..2);
                    Framing::ChunkSize
                }
                Some(_) => return Err(ResponseError::Chunk),
                None => return Ok(false),
            },
            Framing::Done => return Ok(false),
        };
        if let Some(head) = &mut self.head {
            head.framing = next;
        }
        Ok(next != framing)
    }

    /// Moves up to `want` bytes into the body and says how many are still missing.
    fn take(&mut self, want: usize) -> Result<usize, ResponseError> {
        let count = want.min(self.pending.len());
        if self.body.len() + count > self.body_len_max {
            return Err(ResponseError::BodyTooLong(self.body_len_max));
        }
        self.body.extend(self.pending.drain(..count));
        Ok(want - count)
    }
}

fn parse_head(bytes: &[u8], body_len_max: usize) -> Result<Option<(Head, usize)>, ResponseError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let used = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyHeaders),
        Err(_) => return Err(ResponseError::NotHttp),
    };
    let status = parsed.code.ok_or(ResponseError::NotHttp)?;
    let reason = parsed.reason.unwrap_or("").to_owned();
    let field = |name: &str| {
        parsed
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let is = |name: &str, words: &[&str]| {
        field(name).map(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)))
    };
    let is_gzip = match is("content-encoding", &["gzip", "x-gzip"]) {
        Some(false) if is("content-encoding", &["identity", ""]) == Some(false) => {
            return Err(ResponseError::Packed);
        }
        is_gzip => is_gzip == Some(true),
    };
    let chunked = match is("transfer-encoding", &["chunked"]) {
        Some(false) if is("transfer-encoding", &["identity"]) == Some(false) => {
            return Err(ResponseError::Packed);
        }
        chunked => chunked == Some(true),
    };
    let framing = if status == 204 || status == 304 {
        Framing::Done
    } else if chunked {
        Framing::ChunkSize
    } else if let Some(len) = field("content-length") {
        let len: usize = len.parse().map_err(|_| ResponseError::NotHttp)?;
        if len > body_len_max {
            return Err(ResponseError::BodyTooLong(body_len_max));
        }
        Framing::Length(len)
    } else {
        Framing::UntilClose
    };
    let head = Head {
        status,
        reason,
        location: field("location"),
        framing,
        is_gzip,
    };
    Ok(Some((head, used)))
}

/// The limit holds for what comes out: a small answer may unpack to a thousand times its size.
fn gunzip(packed: &[u8], len_max: usize) -> Result<Vec<u8>, ResponseError> {
    let mut body = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .take(len_max as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|_| ResponseError::Gzip)?;
    if body.len() > len_max {
        return Err(ResponseError::BodyTooLong(len_max));
    }
    Ok(body)
}

/// More than the one that anybody sends.
const INTERIM_MAX: usize = 8;
const HEAD_LEN_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// A chunk's size in hexadecimal, with extensions.
const CHUNK_LINE_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const BODY_LEN_MAX: usize = 1000;

    /// Reads `bytes` in pieces of `step` and ends the connection.
    fn read(bytes: &[u8], step: usize) -> Result<Response, ResponseError> {
        let mut reader = ResponseReader::new(BODY_LEN_MAX);
        for part in bytes.chunks(step) {
            if reader.push(part)? {
                break;
            }
        }
        reader.finish()
    }

    fn body(text: &str) -> Result<String, ResponseError> {
        let whole = read(text.as_bytes(), usize::MAX);
        for step in 1..20 {
            assert_eq!(read(text.as_bytes(), step), whole, "in steps of {step}");
        }
        whole.map(|response| String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn each_framing_gives_the_body_in_any_split() {
        let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
        assert_eq!(body(with_length).unwrap(), "hello");
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nhello").unwrap(), "hello");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "hello");
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(body(interim).unwrap(), "");
    }

    #[test]
    fn redirects_keep_their_location() {
        let text = b"HTTP/1.1 302 Found\r\nlocation: /other\r\nContent-Length: 0\r\n\r\n";
        let response = read(text, 7).unwrap();
        assert_eq!(response.status, 302);
        assert_eq!(response.location.as_deref(), Some("/other"));
    }

    #[test]
    fn bad_answers_are_named() {
        let bad = |text: &str| body(text).unwrap_err();
        assert_eq!(bad("SSH-2.0-OpenSSH\r\n\r\n"), ResponseError::NotHttp);
        assert_eq!(bad("HTTP/1.1 200 OK\r\nContent-"), ResponseError::CutOff);
        assert_eq!(
            bad("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
            ResponseError::CutOff
        );
        assert_eq!(
            bad("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"),
            ResponseError::BodyTooLong(BODY_LEN_MAX)
        );
        let chunked = |rest: &str| {
            bad(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"
            ))
        };
        assert_eq!(chunked("zz\r\n"), ResponseError::Chunk);
        assert_eq!(chunked("3\r\nhello"), ResponseError::Chunk);
        assert_eq!(chunked("3\r\nhe"), ResponseError::CutOff);
        assert_eq!(
            bad("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx"),
            ResponseError::Packed
        );
        assert_eq!(
            bad("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx"),
            ResponseError::Gzip
        );
        assert_eq!(
            bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx"),
            ResponseError::Packed
        );
        let bomb = "X: y\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(
            bad(&format!("HTTP/1.1 200 OK\r\n{bomb}\r\n")),
            ResponseError::TooManyHeaders
        );
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(INTERIM_MAX + 1);
        assert_eq!(bad(&interim), ResponseError::NotHttp);
    }

    #[test]
    fn endless_heads_and_bodies_stop_at_the_limit() {
        let mut reader = ResponseReader::new(BODY_LEN_MAX);
        let endless =
            std::iter::once(&b"HTTP/1.1 200 OK\r\nX: "[..]).chain(std::iter::repeat(&b"x"[..]));
        let result = endless
            .take(HEAD_LEN_MAX + 10)
            .try_for_each(|part| reader.push(part).map(|_| ()));
        assert_eq!(result, Err(ResponseError::HeadTooLong));

        let mut reader = ResponseReader::new(BODY_LEN_MAX);
        reader.push(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let part = vec![0; BODY_LEN_MAX];
        assert_eq!(reader.push(&part), Ok(false));
        assert_eq!(
            reader.push(b"x"),
            Err(ResponseError::BodyTooLong(BODY_LEN_MAX))
        );
    }
}
