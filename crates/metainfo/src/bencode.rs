//! Bencode, the encoding of .torrent files and of most BitTorrent messages (BEP 3).
//!
//! [`decode`] makes a borrowed, checked [`Document`] of bytes from anywhere; [`Bencode`] is a value
//! that we build ourselves and encode. What we encode is canonical: the keys of a dictionary are
//! sorted and occur once.

mod decode;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use decode::{
    BYTES_MAX, DEPTH_MAX, DecodeError, Dict, Document, Kind, List, Problem, TOKENS_MAX, Value,
    decode, decode_prefix,
};

/// A value to encode. Text and byte strings are the same thing on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bencode<'a> {
    Integer(i64),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Self>),
    Dict(BTreeMap<Cow<'a, [u8]>, Self>),
}

impl<'a> Bencode<'a> {
    /// A dictionary of text keys. A key that is given twice keeps its last value.
    pub fn dict<K: Into<Cow<'a, str>>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter();
        Self::Dict(
            entries
                .map(|(key, value)| (bytes_of(key.into()), value))
                .collect(),
        )
    }

    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Integer(number) => {
                out.push(b'i');
                out.extend_from_slice(number.to_string().as_bytes());
                out.push(b'e');
            }
            Self::Bytes(bytes) => encode_bytes(bytes, out),
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.encode_into(out));
                out.push(b'e');
            }
            Self::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    encode_bytes(key, out);
                    value.encode_into(out);
                }
                out.push(b'e');
            }
        }
    }
}

impl From<i64> for Bencode<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Bencode<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl<'a> From<&'a [u8]> for Bencode<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Bencode<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Bencode<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl From<String> for Bencode<'_> {
    fn from(text: String) -> Self {
        Self::Bytes(Cow::Owned(text.into_bytes()))
    }
}

fn bytes_of(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
