//! Rules about a `Cargo.toml`: crates import only what lies below them.

use super::Finding;

/// Who may import whom among our own crates: downwards only.
const ARROWS: [(&str, &[&str]); 8] = [
    ("metainfo", &[]),
    ("hash", &["metainfo"]),
    ("proto", &["metainfo"]),
    ("engine", &["metainfo", "proto"]),
    ("tracker", &["metainfo", "proto"]),
    ("host", &["metainfo", "proto", "engine", "hash"]),
    ("sim", &["metainfo", "proto", "engine", "tracker"]),
    (
        "app",
        &["metainfo", "proto", "engine", "hash", "host", "tracker"],
    ),
];

/// Crates that know no computer, and the outside crates that do not either.
const PURE: [&str; 3] = ["metainfo", "proto", "engine"];
const PURE_OUTSIDE: [&str; 3] = ["sha1", "sha2", "thiserror"];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let Some(name) = path
        .strip_prefix("crates/")
        .and_then(|rest| rest.strip_suffix("/Cargo.toml"))
    else {
        return Vec::new();
    };
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        let what = "a crate that ARROWS in xtask/src/tidy/manifest.rs does not know";
        return vec![Finding::error(path, what)];
    };
    let mut findings = Vec::new();
    for dependency in dependencies(text) {
        match dependency.strip_prefix("dunlin-") {
            Some(own) if allowed.contains(&own) => {}
            Some(own) => {
                let what = format!("`{name}` may not import `{own}`: imports go downwards");
                findings.push(Finding::error(path, what));
            }
            None if PURE.contains(&name) && !PURE_OUTSIDE.contains(&dependency) => {
                let what = format!("`{name}` is pure and may not import `{dependency}`");
                findings.push(Finding::error(path, what));
            }
            None => {}
        }
    }
    findings
}

/// The names in every section of dependencies, those for tests and build scripts left out.
fn dependencies(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default();
            let table = section.rsplit('.').next().unwrap_or_default();
            is_inside = table == "dependencies";
            // `[dependencies.NAME]` is a dependency too.
            if section.rsplit('.').nth(1) == Some("dependencies") {
                found.push(table);
            }
        } else if is_inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.extend(Some(name.trim_matches('"')).filter(|name| !name.is_empty()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, text: &str) -> usize {
        check(&format!("crates/{name}/Cargo.toml"), text).len()
    }

    #[test]
    fn imports_go_downwards() {
        let engine = "[package]\nname = \"x\"\n\n[dependencies]\ndunlin-engine.workspace = true\n";
        assert_eq!(count("host", engine), 0);
        assert_eq!(count("app", engine), 0);
        for upwards in ["metainfo", "proto", "hash", "tracker", "engine"] {
            assert_eq!(count(upwards, engine), 1, "{upwards}");
        }
        assert_eq!(
            count(
                "sim",
                "[dependencies]\ndunlin-host = { path = \"../host\" }"
            ),
            1
        );
    }

    #[test]
    fn all_ways_to_write_a_dependency_are_seen() {
        for text in [
            "[dependencies.dunlin-host]\nworkspace = true",
            "[target.'cfg(unix)'.dependencies]\ndunlin-host.workspace = true",
            "[dependencies] # why\n\"dunlin-host\" = \"1\"",
        ] {
            assert_eq!(count("engine", text), 1, "{text}");
        }
        let others = "[dev-dependencies]\ndunlin-host.workspace = true\n[features]\nx = []";
        assert_eq!(count("engine", others), 0);
    }

    #[test]
    fn pure_crates_import_only_arithmetic() {
        let text = "[dependencies]\n# why\nthiserror.workspace = true\nmio.workspace = true\n";
        assert_eq!(count("proto", text), 1);
        assert_eq!(count("host", text), 0);
    }

    #[test]
    fn a_new_crate_must_find_its_place() {
        assert_eq!(count("extra", ""), 1);
        assert!(check("xtask/Cargo.toml", "[dependencies]\ndunlin-host = \"1\"").is_empty());
    }
}
