//! Reads bencode without copying it.
//!
//! One pass checks everything and leaves a tape of 8 bytes a value, so that a hostile document
//! costs little more memory than its own length and no call is recursive. A [`Value`] is a place on
//! the tape; it knows the exact bytes it was read from, which is what info hashes are taken over.
//!
//! Tolerated: keys out of order. A key that occurs twice means its **first** value, for everybody:
//! look keys up with [`Dict::get`]. Refused: anything else that is not canonical (leading zeros,
//! `-0`, integers beyond 64 bits) and bytes after the top value.

use std::ops::Range;

/// Lists and dictionaries inside one another.
pub const DEPTH_MAX: usize = 100;

/// Values in a document, keys included.
pub const TOKENS_MAX: usize = 3_000_000;

/// Length of a document: places on the tape are 32 bits.
pub const BYTES_MAX: usize = u32::MAX as usize;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct DecodeError {
    /// Offset from the start of the document.
    pub at: usize,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("unexpected end")]
    End,
    #[error("unexpected byte 0x{0:02x}")]
    Byte(u8),
    #[error("malformed integer")]
    Integer,
    #[error("integer does not fit 64 bits")]
    IntegerRange,
    #[error("malformed string length")]
    StringLength,
    #[error("string is longer than the rest of the document")]
    StringTooLong,
    #[error("dictionary key is not a string")]
    Key,
    #[error("dictionary key has no value")]
    NoValue,
    #[error("more than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("more than {TOKENS_MAX} values")]
    TooManyTokens,
    #[error("more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("bytes after the end")]
    Trailing,
}

/// A document that was checked from end to end.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    tape: Vec<Token>,
}

/// One value, in document order: a container comes before what it contains.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// Where the value ends in the bytes. It starts where the one before it on the same level ends,
    /// or one byte after the start of its container.
    end: u32,
    /// Place on the tape of what follows the value and all that it contains.
    next: u32,
}

/// Reads the one value that `bytes` holds.
pub fn decode(bytes: &[u8]) -> Result<Document<'_>, DecodeError> {
    let (document, rest) = decode_prefix(bytes)?;
    if rest.is_empty() {
        Ok(document)
    } else {
        Err(error(bytes.len() - rest.len(), Problem::Trailing))
    }
}

/// Reads the value that `bytes` begins with; what follows it comes back unread.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Document<'_>, &[u8]), DecodeError> {
    if bytes.len() > BYTES_MAX {
        return Err(error(BYTES_MAX, Problem::TooLong));
    }
    let mut scanner = Scanner {
        bytes,
        at: 0,
        tape: Vec::new(),
        open: Vec::new(),
    };
    scanner.value()?;
    while !scanner.open.is_empty() {
        scanner.item()?;
    }
    let (bytes, rest) = bytes.split_at(scanner.at.min(bytes.len()));
    let tape = scanner.tape;
    Ok((Document { bytes, tape }, rest))
}

impl Document<'_> {
    pub fn root(&self) -> Value<'_> {
        Value {
            document: self,
            token: 0,
            start: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Bytes,
    List,
    Dict,
}

/// One value of a [`Document`].
#[derive(Clone, Copy)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    token: u32,
    start: u32,
}

impl<'d> Value<'d> {
    pub fn kind(self) -> Kind {
        match self.raw().first() {
            Some(b'i') => Kind::Integer,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dict,
            Some(_) | None => Kind::Bytes,
        }
    }

    pub fn as_int(self) -> Option<i64> {
        let digits = self.raw().strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    pub fn as_bytes(self) -> Option<&'d [u8]> {
        let raw = self.raw();
        match self.kind() {
            Kind::Bytes => {
                let colon = raw.iter().position(|&byte| byte == b':')?;
                raw.get(colon + 1..)
            }
            Kind::Integer | Kind::List | Kind::Dict => None,
        }
    }

    /// The string, if it is UTF-8.
    pub fn as_str(self) -> Option<&'d str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    pub fn as_list(self) -> Option<List<'d>> {
        (self.kind() == Kind::List).then(|| List(self.items()))
    }

    pub fn as_dict(self) -> Option<Dict<'d>> {
        (self.kind() == Kind::Dict).then(|| Dict(self.items()))
    }

    /// The value of a key; `None` too if this is no dictionary.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Self> {
        self.as_dict()?.get(key)
    }

    /// The bytes that this value was read from, delimiters included.
    pub fn raw(self) -> &'d [u8] {
        self.document.bytes.get(self.span()).unwrap_or_default()
    }

    /// Where [`Self::raw`] lies in the document.
    pub fn span(self) -> Range<usize> {
        let end = self.token().map_or(self.start, |token| token.end);
        self.start as usize..end as usize
    }

    fn items(self) -> Items<'d> {
        Items {
            document: self.document,
            token: self.token + 1,
            end: self.token().map_or(0, |token| token.next),
            start: self.start + 1,
        }
    }

    fn token(self) -> Option<Token> {
        self.document.tape.get(self.token as usize).copied()
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:?}", self.kind(), self.span())
    }
}

/// The items of a list, in order.
#[derive(Clone, Debug)]
pub struct List<'d>(Items<'d>);

impl<'d> Iterator for List<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        self.0.next()
    }
}

/// The entries of a dictionary, as they stand in the document: sorted or not, repeated or not.
#[derive(Clone, Debug)]
pub struct Dict<'d>(Items<'d>);

impl<'d> Dict<'d> {
    /// The first entry with this key. Takes time in proportion to the entries before it.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'d>> {
        let key = key.as_ref();
        self.clone()
            .find_map(|(found, value)| (found == key).then_some(value))
    }
}

impl<'d> Iterator for Dict<'d> {
    type Item = (&'d [u8], Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        Some((key.as_bytes()?, self.0.next()?))
    }
}

/// The values directly inside a container.
#[derive(Clone, Debug)]
struct Items<'d> {
    document: &'d Document<'d>,
    token: u32,
    end: u32,
    start: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.token >= self.end {
            return None;
        }
        let value = Value {
            document: self.document,
            token: self.token,
            start: self.start,
        };
        let token = value.token()?;
        (self.token, self.start) = (token.next, token.end);
        Some(value)
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    tape: Vec<Token>,
    /// The containers around `at`, at most [`DEPTH_MAX`].
    open: Vec<Open>,
}

struct Open {
    token: usize,
    /// `None` in a list.
    dict: Option<DictState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DictState {
    KeyNext,
    ValueNext,
}

impl Scanner<'_> {
    /// Reads what may follow inside the innermost container: an item, a key, or the end.
    fn item(&mut self) -> Result<(), DecodeError> {
        let byte = self.peek()?;
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        match open.dict {
            Some(DictState::ValueNext) if byte == b'e' => Err(error(self.at, Problem::NoValue)),
            None | Some(DictState::KeyNext) if byte == b'e' => {
                self.close();
                Ok(())
            }
            Some(DictState::KeyNext) => {
                open.dict = Some(DictState::ValueNext);
                if !byte.is_ascii_digit() {
                    return Err(error(self.at, Problem::Key));
                }
                self.string()
            }
            Some(DictState::ValueNext) => {
                open.dict = Some(DictState::KeyNext);
                self.value()
            }
            None => self.value(),
        }
    }

    /// Reads a scalar, or the opening byte of a container.
    fn value(&mut self) -> Result<(), DecodeError> {
        match self.peek()? {
            b'i' => self.integer(),
            b'l' => self.open(None),
            b'd' => self.open(Some(DictState::KeyNext)),
            b'0'..=b'9' => self.string(),
            byte => Err(error(self.at, Problem::Byte(byte))),
        }
    }

    fn open(&mut self, dict: Option<DictState>) -> Result<(), DecodeError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(error(self.at, Problem::TooDeep));
        }
        let token = self.tape.len();
        self.push(self.at + 1)?;
        self.open.push(Open { token, dict });
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        let next = self.tape.len() as u32;
        if let Some(open) = self.open.pop()
            && let Some(token) = self.tape.get_mut(open.token)
        {
            *token = Token {
                end: self.at as u32,
                next,
            };
        }
    }

    fn integer(&mut self) -> Result<(), DecodeError> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        // The longest is i64::MIN: a sign and 19 digits.
        let Some(len) = rest.iter().take(21).position(|&byte| byte == b'e') else {
            let (at, problem) = match rest.iter().take(21).position(|&byte| !is_number(byte)) {
                Some(odd) => (self.at + 1 + odd, Problem::Integer),
                None if rest.len() < 21 => (self.bytes.len(), Problem::End),
                None => (self.at, Problem::IntegerRange),
            };
            return Err(error(at, problem));
        };
        let text = rest.get(..len).unwrap_or_default();
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let canonical = match digits {
            [b'0'] => text.len() == 1,
            [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
            [] => false,
        };
        if !canonical {
            return Err(error(self.at, Problem::Integer));
        }
        if !std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok()) {
            return Err(error(self.at, Problem::IntegerRange));
        }
        self.push(self.at + 1 + len + 1)
    }

    fn string(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let mut len = 0usize;
        let mut digits = 0;
        let colon = loop {
            match rest.get(digits) {
                Some(&byte) if byte.is_ascii_digit() => {
                    len = len
                        .saturating_mul(10)
                        .saturating_add(usize::from(byte - b'0'));
                    digits += 1;
                }
                Some(b':') => break digits,
                Some(_) => return Err(error(start + digits, Problem::StringLength)),
                None => return Err(error(self.bytes.len(), Problem::End)),
            }
        };
        if digits == 0 || (digits > 1 && rest.first() == Some(&b'0')) {
            return Err(error(start, Problem::StringLength));
        }
        if len > rest.len() - colon - 1 {
            return Err(error(start, Problem::StringTooLong));
        }
        self.push(start + colon + 1 + len)
    }

    /// Notes the value that lies between `self.at` and `end`, and goes there.
    fn push(&mut self, end: usize) -> Result<(), DecodeError> {
        if self.tape.len() >= TOKENS_MAX {
            return Err(error(self.at, Problem::TooManyTokens));
        }
        self.at = end;
        self.tape.push(Token {
            end: end as u32,
            next: self.tape.len() as u32 + 1,
        });
        Ok(())
    }

    fn peek(&self) -> Result<u8, DecodeError> {
        let byte = self.bytes.get(self.at).copied();
        byte.ok_or(error(self.at, Problem::End))
    }
}

fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'-'
}

const fn error(at: usize, problem: Problem) -> DecodeError {
    DecodeError { at, problem }
}
