//! Whole swarms with fixed seeds: each test is a sentence about what a swarm does.

mod exchange;
mod faults;
mod hostile;
mod membership;
mod stalls;
mod superseed;
mod trade;
mod weather;
