//! Swarms full of peers that mean harm.

use super::{PLAIN, Runs, Scenario};
use crate::content::Content;
use crate::figures::Figure;
use crate::hostile::Hostile;
use crate::scenario::{KIB, Swarm};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "liars-2",
        about: "an honest seed and nine whose blocks are bad one time in fifty",
        peers: 1,
        build: |peers, seed| among_liars(peers, seed, 2),
        figures: liar_figures,
        ..PLAIN
    },
    Scenario {
        name: "liars-10",
        about: "an honest seed and nine whose blocks are bad one time in ten",
        peers: 1,
        build: |peers, seed| among_liars(peers, seed, 10),
        figures: liar_figures,
        ..PLAIN
    },
    Scenario {
        name: "liars-50",
        about: "an honest seed and nine whose blocks are bad every other time",
        peers: 1,
        build: |peers, seed| among_liars(peers, seed, 50),
        figures: liar_figures,
        ..PLAIN
    },
    Scenario {
        name: "liars-100",
        about: "an honest seed and nine whose blocks are all bad",
        peers: 1,
        build: |peers, seed| among_liars(peers, seed, 100),
        figures: liar_figures,
        ..PLAIN
    },
    Scenario {
        name: "hostile-half",
        about: "every other leech's place is taken by a misbehaving peer, of all kinds",
        peers: 100,
        build: |peers, seed| beset(peers - peers / 2, peers / 2, seed),
        clean: Some(|peers, seed| beset(peers - peers / 2, 0, seed)),
        figures: |runs| beset_figures(runs, Some(2.0)),
    },
    Scenario {
        name: "hostile-most",
        about: "nine of ten peers misbehave, in all kinds; one honest full copy exists",
        peers: 100,
        build: |peers, seed| beset(peers / 10, peers - peers / 10, seed),
        clean: Some(|peers, seed| beset(peers / 10, 0, seed)),
        figures: |runs| beset_figures(runs, None),
    },
    Scenario {
        name: "flooders",
        about: "as many peers as leeches send floods of requests, peers and blocks",
        peers: 20,
        build: |peers, seed| {
            Swarm::new(seed, &Content::new(128, 256 * KIB), peers)
                .hostile(peers / 2, Hostile::RequestFlood)
                .hostile(peers / 4, Hostile::Pusher)
                .hostile(peers / 4, Hostile::PexPoisoner)
        },
        clean: Some(|peers, seed| Swarm::new(seed, &Content::new(128, 256 * KIB), peers)),
        figures: |runs| beset_figures(runs, None),
    },
];

const LIARS: u32 = 9;

fn among_liars(peers: u32, seed: u64, percent: u64) -> Swarm {
    Swarm::new(seed, &Content::new(256, 256 * KIB), peers)
        .hostile(LIARS, Hostile::Liar { percent })
        .at_most(3600)
}

fn liar_figures(runs: &Runs<'_>) -> Vec<Figure> {
    let report = runs.this;
    let liar = |node: usize| report.nodes[node].class == "liar";
    let honest_banned = report.banned().filter(|(_, peer)| !liar(peer.index()));
    let liars_banned = report.banned().filter(|(_, peer)| liar(peer.index()));
    let fooled = report
        .nodes
        .iter()
        .flat_map(|node| node.stats.fooled_by.values());
    vec![
        Figure::new("complete", f64::from(report.t_all_s.is_some())).at_least(1.0),
        Figure::new("honest_banned", honest_banned.count() as f64).at_most(0.0),
        Figure::new("liars_banned", liars_banned.count() as f64),
        Figure::new(
            "bad_pieces_a_liar_most",
            f64::from(fooled.copied().max().unwrap_or(0)),
        )
        .at_most(3.0),
    ]
}

fn beset(honest: u32, hostile: u32, seed: u64) -> Swarm {
    Swarm::new(seed, &Content::new(128, 256 * KIB), honest)
        .hostile_mix(hostile)
        .at_most(6 * 3600)
}

fn beset_figures(runs: &Runs<'_>, slowdown_max: Option<f64>) -> Vec<Figure> {
    let clean = runs.clean.and_then(|clean| clean.t_all_s);
    let slowdown = runs.this.t_all_s.zip(clean).map(|(t, clean)| t / clean);
    let slowdown = Figure::new("time_over_clean", slowdown);
    vec![
        Figure::new("complete", f64::from(runs.this.t_all_s.is_some())).at_least(1.0),
        Figure::new("t_clean_s", clean),
        match slowdown_max {
            Some(max) => slowdown.at_most(max),
            None => slowdown,
        },
    ]
}
