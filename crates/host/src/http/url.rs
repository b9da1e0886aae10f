//! The little of URLs that an announce over HTTP needs: where to connect, and what to ask for.
//!
//! What is parsed here comes from torrent files and from `Location` headers: nothing in it may
//! reach the request line or the `Host` header unchecked.

use std::fmt;

/// An `http://` URL, taken apart. `target` starts with `/` and is plain printable ASCII.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    /// Without the brackets of an IPv6 literal.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) target: String,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("https is not supported yet")]
    Https,
    #[error("UDP trackers are not supported yet")]
    Udp,
    #[error("not an http:// address")]
    Scheme,
    #[error("no host in the address")]
    NoHost,
    #[error("a bad port in the address")]
    Port,
    #[error("user names in tracker addresses are not supported")]
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
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(UrlError::Https),
            "udp" => return Err(UrlError::Udp),
            _ => return Err(UrlError::Scheme),
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = parse_authority(authority)?;
        Ok(Self {
            host,
            port,
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
            return Self::parse(&format!("http://{rest}"));
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
        if self.port == HTTP_PORT {
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
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

fn parse_authority(authority: &str) -> Result<(String, u16), UrlError> {
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
        None | Some("") => HTTP_PORT,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or(UrlError::Port)?,
    };
    Ok((host.to_owned(), port))
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

const HTTP_PORT: u16 = 80;

/// Longer addresses are nonsense or an attack.
const URL_LEN_MAX: usize = 4096;

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
    }

    #[test]
    fn line_ends_never_reach_the_request() {
        assert_eq!(parts("http://t/a\r\nX: y").2, "/a%0D%0AX:%20y");
        assert!(Url::parse("http://t\r\nX: y/a").is_err());
    }

    #[test]
    fn each_refusal_says_why() {
        let why = |text: &str| Url::parse(text).unwrap_err();
        assert_eq!(why("https://t/a"), UrlError::Https);
        assert_eq!(why("udp://t:80/a"), UrlError::Udp);
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
        assert_eq!(base.join("https://u/b"), Err(UrlError::Https));
    }
}
