//! What an engine remembers from packet to packet. One instance of each is shared by all queues' threads; what is
//! looked at for every packet is never locked for longer than a few elements take.

pub mod expiring;
pub mod flows;
pub mod key;
pub mod limits;
mod lru;
pub mod sets;
mod shared;
pub mod tallies;

/// What a lock guards, also when a thread panicked while it held it: a verdict is worth more than that thread's last step.
fn unpoisoned<G>(guard: Result<G, std::sync::PoisonError<G>>) -> G {
    guard.unwrap_or_else(std::sync::PoisonError::into_inner)
}
