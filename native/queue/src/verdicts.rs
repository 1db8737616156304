//! Decided packets to verdict messages.
