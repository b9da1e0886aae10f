//! The little of URLs that announces and downloads need: where to connect, and what to ask for.
//!
//! What is parsed here comes from torrent files and from `Location` headers: nothing in it may
//! reach the request line or the `Host` header unchecked. Logs show a URL by [`shown`], because
//! paths and queries hold passkeys.

use std::fmt;

/// A URL, taken apart. `target` starts with `/` and is plain printable ASCII.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 literal.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) target: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Http,
    Https,
    /// A tracker (BEP 15).
    Udp,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
        }
    }

    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Udp => None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    #[error("not an address of a scheme that is supported here")]
    Scheme,
    #[error("a host of a network that is not supported here")]
    OtherNetwork,
    #[error("no host in the address")]
    NoHost,
    #[error("a bad port in the address")]
    Port,
    #[error("user names in addresses are not supported")]
    UserInfo,
    #[error("the address is longer than {URL_LEN_MAX} bytes")]
    TooLong,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.len() > URL_LEN_MAX {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = [Scheme::Http, Scheme::Https, Scheme::Udp]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(scheme))
            .ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = parse_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port: port.or(scheme.default_port()).ok_or(UrlError::Port)?,
            target: clean_target(target),
        })
    }

    /// Where a `Location` header leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.trim();
        if let Some((scheme, _)) = location.split_once("://")
            && scheme.chars().all(|char| char.is_ascii_alphanumeric())
        {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
            format!("{folder}{location}")
        };
        if target.len() > URL_LEN_MAX {
            return Err(UrlError::TooLong);
        }
        Ok(Self {
            target: clean_target(&target),
            ..self.clone()
        })
    }

    /// For the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if Some(self.port) == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("/")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.name(),
            self.authority(),
            self.target
        )
    }
}

fn parse_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::NoHost)?;
        (host, after.strip_prefix(':'))
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() || !host.chars().all(is_host_char) {
        return Err(UrlError::NoHost);
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) => {
            let port = digits.parse().ok().filter(|&port| port != 0);
            Some(port.ok_or(UrlError::Port)?)
        }
    };
    Ok((host.to_owned(), port))
}

/// Whether a tracker with this URL could be asked.
pub fn check_tracker(url: &str) -> Result<(), UrlError> {
    let host = Url::parse(url)?.host;
    let ends = |end: &str| {
        host.len() > end.len()
            && host
                .get(host.len() - end.len()..)
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    if ends(".i2p") || ends(".onion") {
        return Err(UrlError::OtherNetwork);
    }
    Ok(())
}

/// How a URL is shown to people and written to logs: without user, query and fragment, and with
/// what may be a passkey cut to its first characters. What is no URL is not shown at all.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.trim().split_once("://") else {
        return "(no URL)".to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut shown: String = format!("{scheme}://{host}");
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        shown.push('/');
        if may_be_secret(segment) {
            shown.extend(segment.chars().take(SECRET_CHARS_SHOWN));
            shown.push('…');
        } else {
            shown.push_str(segment);
        }
    }
    shown
}

/// Passkeys are long, and of hexadecimal digits or a mix of letters and digits.
fn may_be_secret(segment: &str) -> bool {
    let has_digit = segment.bytes().any(|byte| byte.is_ascii_digit());
    let plain = segment
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'%'));
    (segment.len() >= SECRET_LEN_MIN && has_digit && plain) || segment.len() >= SECRET_LEN_SURE
}

fn is_host_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '%')
}

/// Starts with `/`, has no fragment, and whatever could end a request line is escaped.
fn clean_target(raw: &str) -> String {
    let raw = raw.split('#').next().unwrap_or("");
    let mut target = String::with_capacity(raw.len() + 1);
    if !raw.starts_with('/') {
        target.push('/');
    }
    for byte in raw.bytes() {
        if byte.is_ascii_graphic() {
            target.push(char::from(byte));
        } else {
            target.push_str(&format!("%{byte:02X}"));
        }
    }
    target
}

/// Longer addresses are nonsense or an attack.
const URL_LEN_MAX: usize = 4096;

/// Passkeys have 32 characters as a rule; version numbers and names with a year are shorter.
const SECRET_LEN_MIN: usize = 12;
const SECRET_LEN_SURE: usize = 40;
const SECRET_CHARS_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u16, String) {
        let url = Url::parse(text).unwrap();
        (url.host, url.port, url.target)
    }

    #[test]
    fn host_port_and_target_are_taken_apart() {
        let of = |host: &str, port, target: &str| (host.to_owned(), port, target.to_owned());
        assert_eq!(
            parts("http://t.example/announce"),
            of("t.example", 80, "/announce")
        );
        assert_eq!(parts("HTTP://t:6969/a?x=1#frag"), of("t", 6969, "/a?x=1"));
        assert_eq!(parts("http://[::1]:7/a"), of("::1", 7, "/a"));
        assert_eq!(parts("http://t?x"), of("t", 80, "/?x"));
        assert_eq!(parts("http://t"), of("t", 80, "/"));
        assert_eq!(parts("https://t/a"), of("t", 443, "/a"));
        assert_eq!(parts("udp://t:6969"), of("t", 6969, "/"));
    }

    #[test]
    fn line_ends_never_reach_the_request() {
        assert_eq!(parts("http://t/a\r\nX: y").2, "/a%0D%0AX:%20y");
        assert!(Url::parse("http://t\r\nX: y/a").is_err());
    }

    #[test]
    fn each_refusal_says_why() {
        let why = |text: &str| Url::parse(text).unwrap_err();
        assert_eq!(why("wss://t/a"), UrlError::Scheme);
        assert_eq!(why("udp://t/a"), UrlError::Port);
        assert_eq!(why("file:///etc/passwd"), UrlError::Scheme);
        assert_eq!(why("t/announce"), UrlError::Scheme);
        assert_eq!(why("http:///announce"), UrlError::NoHost);
        assert_eq!(why("http://t:0/a"), UrlError::Port);
        assert_eq!(why("http://t:99999/a"), UrlError::Port);
        assert_eq!(why("http://me:secret@t/a"), UrlError::UserInfo);
    }

    #[test]
    fn redirects_resolve_against_where_they_came_from() {
        let base = Url::parse("http://t:1/dir/announce?x=1").unwrap();
        let to = |location: &str| base.join(location).unwrap().to_string();
        assert_eq!(to("http://u/b"), "http://u/b");
        assert_eq!(to("//u:2/b"), "http://u:2/b");
        assert_eq!(to("/b?next=http://z"), "http://t:1/b?next=http://z");
        assert_eq!(to("other"), "http://t:1/dir/other");
        assert_eq!(to("?y=2"), "http://t:1/dir/announce?y=2");
        assert_eq!(to("https://u/b"), "https://u/b");
        let safe = Url::parse("https://t/a").unwrap();
        assert_eq!(safe.join("//u/b").unwrap().to_string(), "https://u/b");
    }

    #[test]
    fn a_tracker_is_checked_before_it_is_asked() {
        for url in [
            "http://t/announce",
            "https://t",
            "udp://t:1",
            "HTTP://onion/x",
        ] {
            assert_eq!(check_tracker(url), Ok(()), "{url}");
        }
        let why = |url: &str| check_tracker(url).unwrap_err();
        assert_eq!(why("wss://t/announce"), UrlError::Scheme);
        assert_eq!(why("http://t.i2p/announce"), UrlError::OtherNetwork);
        assert_eq!(why("http://abc.ONION:80/announce"), UrlError::OtherNetwork);
    }

    #[test]
    fn no_passkey_is_shown() {
        let key = "0123456789abcdef0123456789abcdef";
        for url in [
            format!("https://t.example/{key}/announce"),
            format!("http://t/announce?passkey={key}"),
            format!("http://t/announce.php?pid={key}&x=y#{key}"),
            format!("udp://t:80/announce/{key}"),
            format!("https://me:{key}@t/announce"),
            "http://t/gX7kQ2mPz9aB/announce".to_owned(),
            format!("http://t/{}/announce", "letters".repeat(8)),
            format!("no url {key}"),
        ] {
            let shown = shown(&url);
            assert!(!shown.contains("456789"), "{shown}");
            assert!(!shown.contains("kQ2"), "{shown}");
            assert!(!shown.contains("letters"), "{shown}");
        }
        assert_eq!(
            shown(&format!("https://t/{key}/announce")),
            "https://t/012…/announce"
        );
        for whole in [
            "http://t:6969/announce",
            "udp://[::1]:6969",
            "http://t/x/announce.php",
        ] {
            assert_eq!(shown(whole), whole);
        }
    }
}
