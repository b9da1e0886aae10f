//! The commands, one file each: what was typed becomes what is done.

pub mod create;
pub mod show;
pub mod tracker;
pub mod verify;
