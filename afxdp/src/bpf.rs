//! What we need of bpf(2): a loader for one committed object, maps, links.
//!
//! No loader crate in use offers all three things the program needs (kfunc calls with a
//! device-bound program, maps in maps, and a link on the interface), so this is our own, over
//! the ELF reader that the others use too. It is not a general one: it loads
//! `bpf/steer.bpf.o` and nothing else.

mod btf;
mod map;
mod object;
mod sys;

pub(crate) use map::{Map, MapDef};
pub(crate) use object::{PROGRAM_NAME, Program, Wanted, load};
pub(crate) use sys::{Link, find_xdp_link, program_name};

#[cfg(test)]
pub(crate) use sys::{load_for_test, test_run};
