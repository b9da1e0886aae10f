//! The demo, small.

use std::path::Path;

use crate::fixture::{PATIENCE, Sandbox, names, wait};

#[test]
fn a_small_demo_ends_with_identical_copies_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("demo");
    let done = sandbox
        .run(
            "demo",
            &[
                &"--peers",
                &"3",
                &"--size",
                &"3M",
                &"--unlimited",
                &"--dir",
                &folder,
            ],
        )
        .expect(0);
    let line = done.stdout.lines().last().unwrap();
    assert!(line.starts_with("3 of 3 identical in "), "{line}");
    assert!(!line.contains("bound"), "no limit, no bound: {line}");
    assert!(
        line.contains("; the seed sent ") && line.contains(" copies, the peers "),
        "{line}"
    );
    assert!(line.ends_with("Now yours: dunlin share FILE"), "{line}");
    assert_eq!(names(&folder).len(), 0);
    assert!(
        done.stderr.contains("of 3 complete"),
        "no row: {}",
        done.stderr
    );
}

#[test]
fn a_limited_demo_names_its_bound_and_keeps_what_it_is_told_to() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("demo");
    let words: [&dyn AsRef<std::ffi::OsStr>; 9] = [
        &"--peers", &"2", &"--size", &"2M", &"--up", &"2M", &"--keep", &"--dir", &folder,
    ];
    let done = sandbox.run("demo", &words).expect(0);
    assert!(done.stdout.contains(" (bound 1.0 s); "), "{}", done.stdout);
    let kept = folder.join(&names(&folder)[0]);
    for peer in ["seed", "peer-1", "peer-2"] {
        let bytes = std::fs::read(kept.join(peer).join("demo.bin")).unwrap();
        assert_eq!(bytes.len(), 2_000_000, "{peer}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_made() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("demo");
    let done = sandbox
        .run("demo", &[&"--size", &"900T", &"--dir", &folder])
        .expect(5);
    assert!(
        done.error()
            .contains("choose another --dir, a smaller --size"),
        "{}",
        done.stderr
    );
    assert_eq!(names(&folder).len(), 0);
    sandbox
        .run("demo", &[&"--dir", &sandbox.path("none")])
        .expect(3);
}

#[test]
fn an_interrupted_demo_takes_its_peers_and_files_with_it() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("demo");
    let words: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--size", &"64M", &"--up", &"500K", &"--dir", &folder];
    let demo = sandbox.dunlin("demo", &words).spawn().unwrap();
    let pid = demo.id();
    let children = wait_for_children(pid, 9);
    signal(pid, "INT");
    let done = wait(demo, PATIENCE).expect(7);
    assert!(done.error().starts_with("interrupted"), "{}", done.stderr);
    assert_eq!(names(&folder).len(), 0);
    for child in children {
        assert!(is_gone(child), "process {child} outlived the demo");
    }
}

#[test]
fn the_peers_of_a_killed_demo_end_by_themselves_and_the_next_one_clears_up() {
    let sandbox = Sandbox::new();
    let folder = sandbox.dir("demo");
    let words: [&dyn AsRef<std::ffi::OsStr>; 8] = [
        &"--peers", &"2", &"--size", &"64M", &"--up", &"500K", &"--dir", &folder,
    ];
    let demo = sandbox.dunlin("demo", &words).spawn().unwrap();
    let pid = demo.id();
    let children = wait_for_children(pid, 3);
    signal(pid, "KILL");
    wait(demo, PATIENCE).expect(128 + 9);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !children.iter().all(|&child| is_gone(child)) {
        assert!(
            std::time::Instant::now() < deadline,
            "a child outlived the demo: {children:?}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The next one clears up after it, and touches nothing else.
    sandbox.write("demo/dunlin-demo-1/.unfinished", b"");
    sandbox.write("demo/dunlin-demo-4000000000/mine", b"");
    let words: [&dyn AsRef<std::ffi::OsStr>; 6] =
        [&"--peers", &"1", &"--size", &"1M", &"--dir", &folder];
    let done = sandbox.run("demo", &words).expect(0);
    assert!(
        done.stderr
            .contains(", left behind by a demo that was killed"),
        "{}",
        done.stderr
    );
    assert_eq!(names(&folder), ["dunlin-demo-1", "dunlin-demo-4000000000"]);
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// The processes that `pid` started, once there are `count` of them.
fn wait_for_children(pid: u32, count: usize) -> Vec<u32> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let children: Vec<u32> = processes()
            .filter(|&child| parent(child) == Some(pid))
            .collect();
        if children.len() == count {
            return children;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{} of {count} children",
            children.len()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// proc(5): after the name in brackets come the state and the parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

/// Not there, or a zombie that nobody has waited for.
fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == 'Z')
}
