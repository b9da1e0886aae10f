//! The commands, one file each: what was typed becomes what is done.

pub mod completions;
pub mod create;
pub mod demo;
pub mod get;
pub mod link;
pub mod man;
pub mod peer;
pub mod seed;
pub mod share;
pub mod show;
pub mod tracker;
pub mod verify;
