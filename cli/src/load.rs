//! Test load: frames sent on a schedule, and frames counted by their numbers.

mod count;
mod deck;
mod send;

pub(crate) use count::{Tally, Totals};
pub(crate) use deck::Deck;
pub(crate) use send::{Order, Sent, Shared, send};
