//! The commands, one file each: what was typed becomes what is done.

pub mod show;
