//! What a file, the environment and the flags say, in this order of growing weight.
//!
//! Every value is checked by its row in [`options`] when it is read, so that a mistake names the
//! place where it was written, even if this command would not have used it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::{Code, Failure};
use crate::options::{self, OPTIONS, Spec};

/// Options that were given somewhere; the defaults come from the table.
#[derive(Clone, Debug, Default)]
pub struct Config {
    given: BTreeMap<&'static str, Given>,
}

#[derive(Clone, Debug)]
struct Given {
    origin: Origin,
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    File(PathBuf),
    Environment,
    Flag,
}

impl Config {
    /// Adds what the file says. A file that was named must exist.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::InvalidData {
                bad(path, "is not text")
            } else {
                Failure::io(path, &error)
            }
        })?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            bad(path, format!("line {line}: {}", error.message()))
        })?;
        for (section, value) in &table {
            let toml::Value::Table(keys) = value else {
                return Err(bad(path, unknown_key(section)));
            };
            if !OPTIONS.iter().any(|spec| section_of(spec) == section) {
                return Err(bad(path, unknown_section(section)));
            }
            for (name, value) in keys {
                let key = format!("{section}.{name}");
                let spec = options::find(&key).ok_or_else(|| bad(path, unknown_key(&key)))?;
                let values = toml_values(spec, value).map_err(|why| bad(path, why))?;
                self.add(spec, Origin::File(path.to_owned()), values)?;
            }
        }
        Ok(())
    }

    /// Adds every `DUNLIN_SECTION__KEY`; other `DUNLIN_` variables are not ours to judge.
    pub fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), Failure> {
        for (name, value) in variables {
            if !name.starts_with("DUNLIN_") || !name.contains("__") {
                continue;
            }
            let key = name["DUNLIN_".len()..]
                .to_ascii_lowercase()
                .replace("__", ".");
            let spec = options::find(&key)
                .ok_or_else(|| Failure::usage(format!("{name}: {}", unknown_key(&key))))?;
            let values = if spec.list {
                value.split_whitespace().map(str::to_owned).collect()
            } else {
                vec![value]
            };
            self.add(spec, Origin::Environment, values)?;
        }
        Ok(())
    }

    /// Adds a flag. No value means that the flag was not given.
    pub fn add_flag(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = String>,
    ) -> Result<(), Failure> {
        let spec = options::find(key).expect("flags name rows of the table");
        let values: Vec<String> = values.into_iter().collect();
        if values.is_empty() {
            return Ok(());
        }
        self.add(spec, Origin::Flag, values)
    }

    fn add(
        &mut self,
        spec: &'static Spec,
        origin: Origin,
        values: Vec<String>,
    ) -> Result<(), Failure> {
        for value in &values {
            (spec.check)(value).map_err(|why| complain(spec, &origin, &why))?;
        }
        self.given.insert(spec.key, Given { origin, values });
        Ok(())
    }

    /// What was given for this key, or its default; empty if it has none.
    pub fn text(&self, key: &str) -> &str {
        self.given(key).unwrap_or_else(|| {
            options::find(key)
                .expect("keys name rows of the table")
                .default
        })
    }

    /// What was given for this key, if anything.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.given.get(key)?.values.first().map(String::as_str)
    }

    /// Whether a flag or the environment said so, rather than a file.
    pub fn given_by_hand(&self, key: &str) -> bool {
        self.given
            .get(key)
            .is_some_and(|given| !matches!(given.origin, Origin::File(_)))
    }

    /// Whether `key` was given in a weightier place than `other`.
    pub fn outweighs(&self, key: &str, other: &str) -> bool {
        let origin = |key| self.given.get(key).map(|given| given.origin.weight());
        origin(key) > origin(other)
    }

    pub fn list(&self, key: &str) -> &[String] {
        self.given
            .get(key)
            .map_or(&[], |given| given.values.as_slice())
    }

    /// The value in its own type.
    pub fn get<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        parse(self.text(key)).expect("checked when it was read")
    }

    pub fn get_given<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.given(key)
            .map(|text| parse(text).expect("checked when it was read"))
    }
}

impl Origin {
    fn weight(&self) -> u8 {
        match self {
            Self::File(_) => 1,
            Self::Environment => 2,
            Self::Flag => 3,
        }
    }
}

/// `$XDG_CONFIG_HOME/dunlin/dunlin.toml`, if there is such a file.
pub fn default_file() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CONFIG_HOME").filter(|base| !base.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    let path = base.join("dunlin").join("dunlin.toml");
    path.is_file().then_some(path)
}

fn bad(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::BadInput, format!("{}: {what}", path.display()))
}

fn complain(spec: &Spec, origin: &Origin, why: &str) -> Failure {
    match origin {
        Origin::File(path) => bad(path, format!("{}: {why}", spec.key)),
        Origin::Environment => Failure::usage(format!("{}: {why}", spec.env())),
        Origin::Flag => Failure::usage(format!("{}: {why}", spec.flag)),
    }
}

fn section_of(spec: &Spec) -> &str {
    spec.key.split('.').next().unwrap_or_default()
}

fn name_of(spec: &Spec) -> &str {
    spec.key.split('.').next_back().unwrap_or_default()
}

fn toml_values(spec: &Spec, value: &toml::Value) -> Result<Vec<String>, String> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(format!("{}: write a text in quotes", spec.key)),
    };
    match (spec.list, value) {
        (true, toml::Value::Array(items)) => items.iter().map(scalar).collect(),
        (true, _) => Err(format!("{}: write a list: [\"...\"]", spec.key)),
        (false, value) => Ok(vec![scalar(value)?]),
    }
}

fn unknown_section(section: &str) -> String {
    match nearest(
        section,
        OPTIONS
            .iter()
            .map(|spec| (section_of(spec), section_of(spec))),
    ) {
        Some(guess) => format!("unknown section [{section}]; did you mean [{guess}]?"),
        None => format!("unknown section [{section}]; docs/options.md lists all"),
    }
}

fn unknown_key(key: &str) -> String {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let named = || OPTIONS.iter().map(|spec| (name_of(spec), spec.key));
    // First within the section, then anywhere: `swarm.down` means `limits.down`.
    let here = OPTIONS.iter().filter(|spec| section_of(spec) == section);
    let here = here.map(|spec| (name_of(spec), spec.key));
    match nearest(name, here).or_else(|| nearest(name, named())) {
        Some(guess) => format!("unknown key {key}; did you mean {guess}?"),
        None => format!("unknown key {key}; docs/options.md lists all"),
    }
}

/// The second of the pair whose first is most like `word`, if it is like it at all.
fn nearest<'a>(word: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    // One slip in three letters still looks like the same word.
    let tolerance = (word.len() / 3).clamp(1, 3);
    pairs
        .map(|(name, whole)| (distance(word, name), whole))
        .min()
        .filter(|&(distance, _)| distance <= tolerance)
        .map(|(_, whole)| whole)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Config, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let mut config = Config::default();
        config.add_file(&path)?;
        Ok(config)
    }

    fn message(text: &str) -> String {
        let failure = from_file(text).unwrap_err();
        assert_eq!(failure.code, Code::BadInput);
        failure.message
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let mut config = from_file("[limits]\nup = \"1M\"\nmax_peers = 7\n").unwrap();
        assert_eq!(config.text("limits.up"), "1M");
        assert_eq!(config.text("limits.max_peers"), "7");
        assert_eq!(config.text("limits.down"), "unlimited");
        let variables = [("DUNLIN_LIMITS__UP".to_owned(), "2M".to_owned())];
        config.add_environment(variables.into_iter()).unwrap();
        assert_eq!(config.text("limits.up"), "2M");
        config.add_flag("limits.up", ["3M".to_owned()]).unwrap();
        assert_eq!(config.text("limits.up"), "3M");
        config.add_flag("limits.up", []).unwrap();
        assert_eq!(config.text("limits.up"), "3M");
    }

    #[test]
    fn an_unknown_key_gets_a_suggestion() {
        assert!(
            message("[limits]\ndwon = \"1M\"")
                .ends_with("unknown key limits.dwon; did you mean limits.down?")
        );
        assert!(message("[swarm]\ndown = \"1M\"").ends_with("did you mean limits.down?"));
        assert!(
            message("[limit]\ndown = \"1M\"")
                .ends_with("unknown section [limit]; did you mean [limits]?")
        );
        assert!(message("down = \"1M\"").ends_with("did you mean limits.down?"));
        assert!(message("[swarm]\nzzzzzzzz = 1").contains("docs/options.md"));
    }

    #[test]
    fn a_wrong_value_names_file_and_key() {
        let text = message("[limits]\nup = \"fast\"");
        assert!(
            text.contains("x.toml: limits.up: \"fast\" is no size"),
            "{text}"
        );
        assert!(message("[choking]\nunchoking_interval = 10").contains("is no duration"));
        assert!(message("[swarm]\npeers = \"a:1\"").contains("write a list"));
        assert!(message("[swarm]\ndht = true").contains("not built yet"));
        assert!(message("[limits\nup").contains("line 1"));
    }

    #[test]
    fn the_environment_is_checked_too() {
        let mut config = Config::default();
        let mut add = |name: &str, value: &str| {
            config.add_environment([(name.to_owned(), value.to_owned())].into_iter())
        };
        let failure = add("DUNLIN_LIMITS__UPP", "1M").unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(
            failure.message.ends_with("did you mean limits.up?"),
            "{failure}"
        );
        let failure = add("DUNLIN_LIMITS__UP", "x").unwrap_err();
        assert!(
            failure.message.starts_with("DUNLIN_LIMITS__UP: "),
            "{failure}"
        );
        add("DUNLIN_INTEROP_PYTHON", "python3").unwrap();
        add("DUNLIN_SWARM__PEERS", "a:1 b:2").unwrap();
        assert_eq!(config.list("swarm.peers"), ["a:1", "b:2"]);
    }

    #[test]
    fn slips_are_counted() {
        assert_eq!(distance("down", "down"), 0);
        assert_eq!(distance("dwon", "down"), 1);
        assert_eq!(distance("", "up"), 2);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
