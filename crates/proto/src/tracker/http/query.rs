//! Percent-encoding, and the `key=value` pairs of a query.

/// Appends `bytes` so that they may stand for a value in a query: all but the unreserved
/// characters of RFC 3986 become `%xx`.
pub fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(byte, out);
        }
    }
}

/// Appends a path and query that is encoded already, making harmless what may not stand in a
/// request line: a URL comes from a stranger's torrent, and must not smuggle in a header.
pub fn encode_rest(target: &str, out: &mut String) {
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            out.push(char::from(byte));
        } else {
            push_escaped(byte, out);
        }
    }
}

/// The bytes that a value stands for; `None` if an escape is malformed. Some clients write a
/// space as `+`, and none sends a plus sign unescaped.
pub fn decode(value: &str) -> Option<Vec<u8>> {
    unescape(value, b' ')
}

/// The bytes that a path stands for, in which a plus sign is one; `None` if an escape is malformed.
pub fn decode_path(path: &str) -> Option<Vec<u8>> {
    unescape(path, b'+')
}

/// `plus` is what a plus sign means.
fn unescape(value: &str, plus: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high << 4 | low
            }
            b'+' => plus,
            byte => byte,
        });
    }
    Some(out)
}

/// Keys and values as they stand in the query.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn push_escaped(byte: u8, out: &mut String) {
    out.push('%');
    for digit in [byte >> 4, byte & 15] {
        out.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_bytes_are_escaped() {
        let mut out = String::new();
        encode(b"\x12\x34\x56\x78\x9a\xbc\xde\xf1-._~aZ9 /+&", &mut out);
        assert_eq!(out, "%124Vx%9A%BC%DE%F1-._~aZ9%20%2F%2B%26");
    }

    #[test]
    fn malformed_escapes_are_refused() {
        assert_eq!(decode("a%4"), None);
        assert_eq!(decode("%"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%+1"), None);
        assert_eq!(decode("a+b%2b%2B").as_deref(), Some(b"a b++".as_slice()));
        assert_eq!(
            decode_path("a+b%2b%20").as_deref(),
            Some(b"a+b+ ".as_slice())
        );
    }

    #[test]
    fn pairs_may_lack_a_value_or_a_key() {
        let pairs: Vec<_> = pairs("a=1&&b&=c&d=e=f").collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("", "c"), ("d", "e=f")]);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut text = String::new();
            encode(&bytes, &mut text);
            prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn any_text_decodes_or_is_refused(text in "\\PC{0,40}") {
            let _ = decode(&text);
            let _ = pairs(&text).count();
        }
    }
}
